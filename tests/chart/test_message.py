"""What `helm test` runs, against a bridge and a NATS server outside Kubernetes."""

import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import urllib.request

from helm import CHART, ROOT, TOOLS, bridge_pod, find, template
from pod import Pod, eventually


# How the log calls the listener of a section.
LISTENERS = {"mqtt": "mqtt", "mqtt.tls": "mqtt.tls", "dtls": "dtls"}


@contextlib.contextmanager
def _process(command, log):
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _address(log, listener):
    """Where the bridge listens, as its log says."""
    for line in log.read_text().splitlines():
        with contextlib.suppress(ValueError, KeyError):
            fields = json.loads(line)
            fields = fields.get("fields", fields)
            if fields["listener"] == listener:
                return fields["address"]
    return None


def _is_ready(address):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://{address}/readyz", timeout=2).status == 200
    return False


def _certificate():
    """What a Secret of cert-manager holds, signed by itself."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = pathlib.Path(folder, "key"), pathlib.Path(folder, "certificate")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-subj", "/CN=elsewhere", "-days", "1", "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        return {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}


@contextlib.contextmanager
def _release(listener="mqtt", *values):
    """A NATS server, the bridge as the chart configures it, and the pod of `helm test`."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = [TOOLS / "venv/bin/nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder / "stream"]
        manifests = template(
            "-f", CHART / "values-nats.yaml",
            "--set", f"config.nats.servers={{nats://127.0.0.1:{port}}},config.nats.stream.replicas=1",
            "--set", "config.nats.stream.max_bytes=64MiB",
            "--set-file", f"registry.devices={ROOT / 'config/devices.toml'}", *values,
        )
        bridge = Pod(manifests, bridge_pod(manifests), folder / "bridge", {"devices-tls": _certificate()})
        # It needs no Secret that the chart does not render.
        test = Pod(manifests, find(manifests, "Pod"), folder / "test", {})
        log = folder / "bridge.log"
        loopback = ["--set", f"{listener}.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0"]
        with _process(server, folder / "nats.log"), _process(bridge.command("bridge", *loopback), log):
            admin = eventually(lambda: _address(log, "admin"), f"a listening bridge; {log.read_text()}")
            eventually(lambda: _is_ready(admin), "a ready bridge")
            args = test.containers["send"]["args"]
            # The name of the Service means nothing here.
            args[args.index("--address") + 1] = eventually(lambda: _address(log, LISTENERS[listener]), "a listener for devices")
            yield test, port


def _is_read_back(test):
    sent = test.run("send")
    assert sent.returncode == 0, sent.stderr
    read = test.run("read", "--output", "json")
    assert read.returncode == 0, read.stdout + read.stderr
    verdict = json.loads(read.stdout)
    assert verdict["acknowledged"] == 1 and verdict["stored"] >= 1, verdict


def one_message_of_one_device_is_read_back():
    with _release() as (test, _):
        _is_read_back(test)


def a_device_over_tls_alone_is_read_back_too():
    tls = ("--set", "config.mqtt.listen=,config.mqtt.tls.listen=0.0.0.0:8883,tls.mqtt.existingSecret=devices-tls")
    with _release("mqtt.tls", *tls, "--set", "resources.limits.memory=2Gi") as (test, _):
        _is_read_back(test)


def a_device_over_dtls_alone_is_read_back_too():
    dtls = ("--set", "config.mqtt.listen=,config.dtls.listen=0.0.0.0:5684,tls.dtls.existingSecret=devices-tls")
    with _release("dtls", *dtls, "--set", "resources.limits.memory=2Gi") as (test, _):
        _is_read_back(test)


def what_was_stored_before_the_time_of_the_test_is_not_read():
    with _release() as (test, _):
        _is_read_back(test)
        # That message is older than a millisecond.
        args = test.containers["read"]["args"]
        args[args.index("--since") + 1] = "1ms"
        read = test.run("read", "--output", "json")
        verdict = json.loads(read.stdout)
        assert read.returncode == 1 and (verdict["lost"], verdict["others"]) == (1, 0), verdict


def a_message_that_the_queue_does_not_hold_fails_the_test():
    with _release() as (test, port):
        assert test.run("send").returncode == 0
        command = [TOOLS / "bin/nats", "--server", f"127.0.0.1:{port}", "stream", "purge", "JETLINKS_DEVICE", "--force"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        assert test.run("read").returncode == 1
