"""The list of components."""

import hashlib
import json
import re

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from release import ARCHITECTURES, ROOT, VERSION, file, unpacked


def _sbom(architecture):
    return json.loads(file(architecture, ".cdx.json").read_text())


def cyclonedx_finds_nothing_wrong_with_it():
    for architecture in ARCHITECTURES:
        mistake = JsonStrictValidator(SchemaVersion.V1_6).validate_str(file(architecture, ".cdx.json").read_text())
        assert mistake is None, mistake


def it_is_about_this_binary():
    for architecture in ARCHITECTURES:
        about = _sbom(architecture)["metadata"]["component"]
        (digest,) = about["hashes"]
        binary = unpacked(architecture, ".deb") / "usr/bin/jetlinks-bridge"
        assert (about["name"], about["version"]) == ("jetlinks-bridge", VERSION)
        assert digest == {"alg": "SHA-256", "content": hashlib.sha256(binary.read_bytes()).hexdigest()}


def it_lists_what_is_linked_and_nothing_that_is_not():
    lock = (ROOT / "Cargo.lock").read_text()
    for architecture in ARCHITECTURES:
        components = {component["name"]: component for component in _sbom(architecture)["components"]}
        # Direct dependencies of the program, and C that is compiled into it.
        direct = re.findall(r'"dep:([\w-]+)"', (ROOT / "Cargo.toml").read_text())
        missing = {*direct, "rdkafka-sys", "zstd-sys", "ring", "libssl.so.3", "libc.so.6"} - set(components)
        assert len(direct) > 20 and not missing, missing
        # Of tests, of macros, of build scripts, of other systems.
        assert not {"rumqttc", "serde_derive", "cc", "pkg-config", "windows-sys"} & set(components)
        for name in direct:
            version = components[name]["version"]
            checksum = re.search(rf'name = "{name}"\nversion = "{re.escape(version)}"\nsource = .*\nchecksum = "(\w+)"', lock)[1]
            assert components[name]["hashes"] == [{"alg": "SHA-256", "content": checksum}], name


def every_crate_has_a_licence_and_every_dependency_is_a_component():
    for architecture in ARCHITECTURES:
        document = _sbom(architecture)
        known = {component["bom-ref"] for component in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
        for component in document["components"]:
            assert component["bom-ref"].startswith("system:") or component["licenses"], component
        for dependency in document["dependencies"]:
            assert {dependency["ref"], *dependency["dependsOn"]} <= known, dependency
        used = {ref for dependency in document["dependencies"] for ref in dependency["dependsOn"]}
        unused = known - used - {document["metadata"]["component"]["bom-ref"]}
        assert not unused, unused
