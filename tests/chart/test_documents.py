"""Documents and schema name what exists."""

import base64
import json
import re
import tempfile
import textwrap

import yaml

from helm import CHART, RELEASE, ROOT, run, values

CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
README = (CHART / "README.md").read_text()
# Given by mounted Secrets, never by values.config.
FROM_SECRETS = {
    "admin.token", "dtls.certificate", "dtls.private_key", "dtls.token_secret", "mqtt.tls.certificate", "mqtt.tls.client_ca",
    "mqtt.tls.private_key", "mqtt.tls.ticket_key", "nats.claim_secret", "nats.credentials", "nats.tls.ca", "nats.tls.certificate", "nats.tls.private_key",
    "registry.file.path", "registry.http.token",
}


def the_schema_knows_exactly_the_documented_settings():
    documented = set(re.findall(r"^\| `([a-z0-9_.]+)` \|[^|]*\|[^|]*\|.*\|$", CONFIGURATION, re.MULTILINE))
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]

    def leaves(node, path):
        if node.get("type") == "object" and node.get("properties"):
            for name, inner in node["properties"].items():
                yield from leaves(inner, [*path, name])
        elif not (node.get("type") == "object" and node.get("additionalProperties") is False):
            yield ".".join(path)

    known = set(leaves(schema, []))
    assert known == documented - FROM_SECRETS, known ^ (documented - FROM_SECRETS)
    assert FROM_SECRETS <= documented, FROM_SECRETS - documented


def the_schema_is_closed_everywhere():
    schema = json.loads((CHART / "values.schema.json").read_text())

    def open_objects(node, path):
        if isinstance(node, dict):
            if "properties" in node and isinstance(node["properties"], dict) and node.get("type") == "object":
                if node.get("additionalProperties") is not False:
                    yield path
            for key, inner in node.items():
                yield from open_objects(inner, f"{path}/{key}")

    assert not list(open_objects(schema, "")), list(open_objects(schema, ""))


def _rows():
    return dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \| .* \|$", README, re.MULTILINE))


def _defaults(node, path, documented):
    """Values down to where the table describes them, or to their end."""
    for key, value in node.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value and name not in documented:
            yield from _defaults(value, name, documented)
        else:
            yield name, value


def the_table_of_the_readme_has_every_value_with_its_default():
    rows = _rows()
    every = dict(_defaults(values(), "", rows))
    assert set(rows) == set(every), set(rows) ^ set(every)
    for name, shown in rows.items():
        # A value of several lines is described, not shown.
        if shown != "see below":
            assert yaml.safe_load(shown.strip("`")) == every[name], f"{name}: {shown}, not {every[name]}"


def the_readme_names_every_preset_and_only_files_that_exist():
    named = set(re.findall(r"values-[\w-]+\.yaml", README))
    assert named == {path.name for path in CHART.glob("values-*.yaml")}


def _recipes():
    """Indented blocks that are values of this chart."""
    for path in (CHART / "README.md", ROOT / "docs/kubernetes.md"):
        for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", path.read_text(), re.MULTILINE):
            try:
                given = yaml.safe_load(block)
            except yaml.YAMLError:
                continue
            # Values of the chart of NATS have a `config` too.
            if isinstance(given, dict) and set(given) <= set(values()) and "jetstream" not in given.get("config", {}):
                yield path.name, block


def every_recipe_of_values_in_the_documents_can_be_rendered():
    seen = 0
    for name, block in _recipes():
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(textwrap.dedent(block))
            file.flush()
            done = run("template", RELEASE, CHART, "-f", file.name)
            assert done.returncode == 0, f"{name}: {block}{done.stderr}"
        seen += 1
    assert seen >= 10, seen


def the_chart_has_the_version_of_the_bridge():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert chart["appVersion"] == cargo


def the_chart_says_what_a_catalogue_shows():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    kind, icon = chart["icon"].split(",")
    assert kind == "data:image/svg+xml;base64" and base64.b64decode(icon) == (CHART / "icon.svg").read_bytes()
    assert chart["description"] and chart["keywords"] and all(who["name"] for who in chart["maintainers"])
    annotations = chart["annotations"]
    licence = re.search(r'^license = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert annotations["artifacthub.io/license"] == licence
    assert annotations["artifacthub.io/category"] == "streaming-messaging"
