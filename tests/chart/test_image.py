"""The recipe of the image and the compose file. Neither is built or started here; only their form is held."""

import json
import os
import re
import subprocess
import tempfile

import yaml

from helm import ROOT, TOOLS, bridge_pod, template
from pod import BRIDGE

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def _instruction(name):
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def hadolint_finds_nothing_in_the_dockerfile():
    command = [TOOLS / "venv/bin/hadolint", "--failure-threshold", "style", ROOT / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def the_image_runs_as_the_user_of_the_chart_and_checks_itself():
    (user,) = _instruction("USER")
    security = bridge_pod(template())["spec"]["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    (check,) = _instruction("HEALTHCHECK")
    (entry,) = _instruction("ENTRYPOINT")
    (program,) = json.loads(entry)
    asked, *arguments = json.loads(check[check.index("CMD ") + len("CMD "):])
    assert asked == program
    done = subprocess.run([BRIDGE, *arguments, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def the_image_is_built_with_the_version_that_the_package_asks_for():
    cargo = (ROOT / "Cargo.toml").read_text()
    wanted = re.search(r'^rust-version = "(.*)"$', cargo, re.MULTILINE)[1]
    version = re.search(r'^version = "(.*)"$', cargo, re.MULTILINE)[1]
    assert f"RUST_VERSION={wanted}" in _instruction("ARG") and f"VERSION={version}" in _instruction("ARG")
    assert {COMPOSE["services"][name]["image"] for name in ("bridge", "device")} == {f"jetlinks-bridge:{version}"}


def what_is_built_or_secret_stays_out_of_the_build():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".tools", "**/target"} <= set(ignored)
    # What the build reads must not be among it.
    assert not {"src", "config", "Cargo.toml", "Cargo.lock", ".ci", "tests", "benches"} & set(ignored)


def the_root_of_the_image_runs_the_bridge_and_holds_nothing_else():
    with tempfile.TemporaryDirectory() as folder:
        command = [ROOT / ".ci/image-root", BRIDGE.parent, f"{folder}/root"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        if os.getuid() == 0:
            assert done.stdout.startswith("jetlinks-bridge "), done.stdout
        files = [os.path.join(place, name) for place, _, names in os.walk(f"{folder}/root") for name in names]
        programs = [file for file in files if "/bin/" in file]
        assert [os.path.basename(file) for file in programs] == ["jetlinks-bridge"], programs
        assert len(files) < 20 and {int(os.lstat(file).st_mtime) for file in files} == {0}, files


def the_compose_file_holds_together():
    services = COMPOSE["services"]
    assert set(services) == {"kafka", "nats", "bridge", "device"}
    for name, service in services.items():
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", service["image"]), f"{name}: {service['image']} names no version"
        for other in service.get("depends_on", []):
            assert other in services, f"{name}: {other}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], f"{name}: {source}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to everybody"
    for name in ("bridge", "device"):
        assert services[name]["read_only"] is True and services[name]["cap_drop"] == ["ALL"], name


def the_bridge_takes_the_configuration_of_the_compose_file():
    bridge = COMPOSE["services"]["bridge"]
    config = bridge["command"][bridge["command"].index("--config") + 1].replace("/etc/jetlinks-bridge", str(ROOT / "config"))
    done = subprocess.run(
        [BRIDGE, "check", "--config", config],
        env={**os.environ, **bridge["environment"]}, capture_output=True, text=True, check=False, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for needed in ('brokers = "kafka:9092"', 'servers = ["nats://nats:4222"]', 'queue = "kafka"', "create_topics = true"):
        assert needed in done.stdout, done.stdout


def the_device_of_the_compose_file_has_arguments_that_the_bridge_knows():
    command = COMPOSE["services"]["device"]["command"]
    done = subprocess.run([BRIDGE, *command, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    test = COMPOSE["services"]["bridge"]["healthcheck"]["test"]
    done = subprocess.run([BRIDGE, *test[2:], "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and test[1] == "/usr/bin/jetlinks-bridge", done.stderr
