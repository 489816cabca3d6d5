"""The unit of systemd and the configuration that it starts with."""

import configparser
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib

from release import ARCHITECTURES, ROOT, VERSION, program, run, unpacked

UNIT = ROOT / "config/systemd/jetlinks-bridge.service"
# In tenths; below 2 systemd calls a service well confined.
EXPOSURE = 15


def _service():
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def _seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|min|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}[unit]


def systemd_finds_nothing_wrong_with_the_unit():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "root"
        shutil.copytree(unpacked(ARCHITECTURES[0], ".deb"), root)
        # The targets that each unit depends on are those of this machine.
        place = next(one for one in ("/usr/lib/systemd/system", "/lib/systemd/system") if os.path.exists(f"{one}/basic.target"))
        for unit in pathlib.Path(place).glob("*.target"):
            shutil.copy(unit, root / "usr/lib/systemd/system")
        words = ["--man=no", "--recursive-errors=no", f"--root={root}", "jetlinks-bridge.service"]
        done = subprocess.run(["systemd-analyze", "verify", *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def the_exposure_of_the_service_is_small():
    run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", UNIT)


def the_service_waits_for_the_word_of_the_bridge_and_is_watched():
    service = _service()
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    # /livez gives a worker 15 s, and a message goes out twice within this time.
    assert _seconds(service["WatchdogSec"]) >= 2 * 15
    # Without Unix sockets no message reaches systemd.
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split()


def a_mistake_in_the_configuration_is_not_tried_again():
    binary = unpacked(ARCHITECTURES[0], ".deb") / "usr/bin/jetlinks-bridge"
    service = _service()
    # Exit codes of ExecStartPre= do not count for RestartPreventExitStatus=.
    assert "ExecStartPre" not in service
    given = {int(code) for code in service["RestartPreventExitStatus"].split()}
    for code, words in [(78, ["run", "--set", "limits.connections=none"]), (2, ["walk"])]:
        run(*program(ARCHITECTURES[0], binary), *words, code=code)
        assert code in given, given


def the_default_configuration_holds_and_devices_of_other_machines_reach_it():
    for architecture in ARCHITECTURES:
        root = unpacked(architecture, ".deb")
        binary, *words = _service()["ExecStart"].split()
        assert words[:2] == ["run", "--config"]
        said = run(*program(architecture, f"{root}{binary}"), "check", "--config", f"{root}{words[2]}")
        resolved = tomllib.loads(said)
        assert resolved["mqtt"]["listen"] == "0.0.0.0:1883", resolved["mqtt"]
        assert "127.0.0.1" not in str(resolved["nats"]["servers"])
        # Nobody gets in by an identity that everybody knows.
        assert resolved["registry"]["source"] == "nats"


def a_stop_lasts_no_longer_than_the_service_is_given():
    root = unpacked(ARCHITECTURES[0], ".deb")
    binary = program(ARCHITECTURES[0], root / "usr/bin/jetlinks-bridge")
    resolved = tomllib.loads(run(*binary, "check", "--config", root / "etc/jetlinks-bridge/bridge.toml"))
    needed = resolved["limits"]["connections"] / resolved["drain"]["rate"] + _seconds(resolved["drain"]["timeout"]) + 5
    service = _service()
    assert needed <= _seconds(service["TimeoutStopSec"]) <= needed + 30, needed
    assert int(service["LimitNOFILE"]) >= resolved["limits"]["connections"] + 2000


def the_packed_program_tells_its_version():
    for architecture in ARCHITECTURES:
        binary = program(architecture, unpacked(architecture, ".deb") / "usr/bin/jetlinks-bridge")
        assert run(*binary, "--version") == f"jetlinks-bridge {VERSION}\n"
