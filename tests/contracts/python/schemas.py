"""Checks records, and answers of the admin API, by the published schemas with `jsonschema`.

    schemas.py SCHEMAS RECORDS      each line of RECORDS: {"schema": "envelope/event", "instance": …}
    schemas.py SCHEMAS --openapi    each line of stdin: {"method", "path", "status", "type", "body"}

Prints one line of JSON for each line of input: null, or what is wrong; and at the end the members that were seen.
"""

import json
import re
import sys
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012


def first_error(validator: Validator, instance: object) -> str | None:
    for error in validator.iter_errors(instance):
        causes = [f"{cause.json_path}: {cause.message}" for cause in error.context or []]
        return f"{error.json_path}: {error.message} {causes}"
    return None


class Schemas:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.validators: dict[str, Validator] = {}

    def error_of(self, line: dict) -> str | None:
        name = line["schema"]
        if name not in self.validators:
            schema = json.loads((self.folder / f"{name}.json").read_text())
            Draft202012Validator.check_schema(schema)
            self.validators[name] = Draft202012Validator(schema, format_checker=FormatChecker())
        return first_error(self.validators[name], line["instance"])


class Api:
    def __init__(self, file: Path) -> None:
        self.document = json.loads(file.read_text())
        OpenAPIV31SpecValidator(self.document).validate()
        resource = DRAFT202012.create_resource(self.document)
        self.registry = Registry().with_resource("urn:api", resource)

    def error_of(self, line: dict) -> str | None:
        path = line["path"].split("?")[0]
        for template, operations in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), path):
                break
        else:
            return f"no path {path}"
        operation = operations.get(line["method"].lower())
        if operation is None:
            return f"no {line['method']} {template}"
        place = ["paths", template, line["method"].lower(), "responses", str(line["status"])]
        response = operation["responses"].get(str(line["status"]))
        if response is None:
            return f"{line['method']} {template} has no answer {line['status']}"
        if "$ref" in response:
            place = response["$ref"].split("/")[1:]
            response = self.document["components"]["responses"][place[-1]]
        content = response.get("content")
        if content is None:
            return f"a body where there is none: {line['body']}" if line["body"] else None
        media = line["type"].split(";")[0]
        if media not in content:
            return f"{line['method']} {template}: {media} is not described"
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in [*place, "content", media, "schema"])
        validator = Draft202012Validator({"$ref": f"urn:api#/{pointer}"}, registry=self.registry)
        bodies = [line["body"]]
        if media == "application/json":
            bodies = [json.loads(line["body"])]
        elif media == "application/x-ndjson":
            bodies = [json.loads(one) for one in line["body"].splitlines() if one]
        return next((error for body in bodies if (error := first_error(validator, body))), None)


def main() -> None:
    schemas, what = Path(sys.argv[1]), sys.argv[2]
    if what == "--openapi":
        error_of, lines = Api(schemas / "openapi.json").error_of, sys.stdin
    else:
        error_of, lines = Schemas(schemas).error_of, open(what)
    for line in lines:
        print(json.dumps(error_of(json.loads(line))))


main()
