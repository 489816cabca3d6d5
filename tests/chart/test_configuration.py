"""The configuration that the chart writes is the one that the values say, and the bridge takes it."""

import pathlib
import subprocess
import tempfile
import tomllib

from helm import CHART, MATRIX, VALUES, bridge_pod, configuration, template, values
from pod import Pod

PRESETS = ["values-kafka-nats.yaml", "values-nats.yaml", "values-kafka.yaml"]
EVERY_FILE = [*PRESETS, "values-gitops.yaml"]


def _pair():
    """A certificate that signed itself, with its key, as a Secret of cert-manager holds them."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = pathlib.Path(folder, "key"), pathlib.Path(folder, "certificate")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"]
        command = ["openssl", "req", "-x509", *curve, "-days", "1", "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        text = certificate.read_text()
        return {"ca.crt": text, "tls.crt": text, "tls.key": key.read_text()}


# Stands for every Secret that a user would make.
PEM = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
GIVEN = {
    "admin": {"token": "hush\n"},
    "registry": {"token": "hush"},
    "kafka-user": {"password": "hush"},
    "kafka-ca": _pair(),
    # A key that was made for this test and is known nowhere.
    "nats-user": {
        "nats.creds": "-----BEGIN NATS USER JWT-----\nx.y.z\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n"
        "SUAKYLPNZ4BYO5DI35UDPYZ765RBAZEU5CJOFQKQ3ZUBRGIOFKR5ACJV6M\n------END USER NKEY SEED------\n"
    },
    "nats-claims": {"claim_secret": "hush-of-16-bytes\nhush-before-that\n"},
    "tls-tickets": {"ticket_key": "hush-of-16-bytes\nhush-before-that\n"},
    "nats-tls": {"ca.crt": PEM, "tls.crt": PEM, "tls.key": PEM},
    # values-gitops.yaml names these three, and cert-manager writes the others.
    "bridge-admin": {"token": "hush"},
    "bridge-dtls": {"token_secret": "hush-of-16-bytes"},
    "bridge-devices": {"devices.toml": "device = []\n"},
    "devices-tls": _pair(),
    "devices-jetlinks-bridge-tls": _pair(),
    "mqtt-tls": _pair(),
    "dtls-tls": _pair(),
}
FILES = "/run/secrets/jetlinks-bridge"


def _check(*arguments):
    manifests = template(*arguments)
    with tempfile.TemporaryDirectory() as folder:
        return Pod(manifests, bridge_pod(manifests), folder, GIVEN).check()


def _without_files(read, written):
    """What is in `read` and was not made from a mounted file."""
    kept = {}
    for key, value in read.items():
        if isinstance(value, dict):
            inner = _without_files(value, written.get(key, {}))
            if inner or key in written:
                kept[key] = inner
        elif not (isinstance(value, str) and value.startswith(FILES + "/")):
            kept[key] = value
    return kept


def the_bridge_takes_the_configuration_of_each_preset_without_a_warning():
    for preset in PRESETS:
        done = _check("-f", CHART / preset)
        # How many files may be open is a matter of this machine, not of the preset.
        lines = [line for line in done.stderr.splitlines() if line and "open files" not in line]
        assert (done.returncode, lines) == (0, []), f"{preset}: {done.stderr}"


def the_bridge_takes_the_configuration_of_the_whole_matrix():
    for name, arguments in MATRIX.items():
        done = _check(*arguments)
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("warning:")]
        assert (done.returncode, lines) == (0, []), f"{name}: {done.stderr}"


def a_configuration_with_a_mistake_does_not_pass():
    done = _check("--set", "config.kafka.brokers=a b")
    assert done.returncode == 78 and "kafka.brokers" in done.stderr, done.stderr


def the_file_says_what_the_values_say():
    for preset in [None, *EVERY_FILE, VALUES / "everything.yaml", VALUES / "kitchen-sink.yaml"]:
        files = [CHART / preset] if preset else []
        manifests = template(*(part for file in files for part in ("-f", file)))
        read = tomllib.loads(configuration(manifests))
        written = values(*files)["config"]
        assert _without_files(read, written) == written, preset


def texts_numbers_and_keys_of_any_kind_survive():
    arguments = [
        "--set-json", r'config.tracing.service_name="info,\"quoted\"=debug\\ <a>&b \t \u0001 é"',
        "--set", "config.limits.connections=10000000,config.limits.inflight_bytes=1GiB,resources.limits.memory=200Gi",
        "--set-json", 'config.kafka.properties={"a.b":1048576,"c":{"d.e":true,"f":"x"},"linger.ms":"5"}',
        "--set-json", 'config.mqtt.proxy_protocol_from=["10.0.0.0/8","fd00::/8"]',
    ]
    read = tomllib.loads(configuration(template(*arguments)))
    assert read["tracing"]["service_name"] == 'info,"quoted"=debug\\ <a>&b \t \u0001 é'
    assert read["limits"]["connections"] == 10_000_000
    assert read["kafka"]["properties"] == {"a.b": 1_048_576, "c": {"d.e": True, "f": "x"}, "linger.ms": "5"}
    assert read["mqtt"]["proxy_protocol_from"] == ["10.0.0.0/8", "fd00::/8"]


def every_mounted_secret_is_named_by_its_setting():
    read = tomllib.loads(configuration(template("-f", VALUES / "everything.yaml")))
    assert read["admin"]["token_file"] == f"{FILES}/admin-token/token"
    assert read["registry"]["http"]["token_file"] == f"{FILES}/registry-token/token"
    assert read["kafka"]["properties"]["sasl.password_file"] == f"{FILES}/kafka-0/password"
    assert read["kafka"]["properties"]["ssl.ca.location"] == f"{FILES}/kafka-1/ca.crt"
    assert read["nats"]["credentials_file"] == f"{FILES}/nats-credentials/nats.creds"
    assert read["nats"]["claim_secret_file"] == f"{FILES}/nats-claim-secret/claim_secret"
    assert read["nats"]["tls"] == {
        "ca_file": f"{FILES}/nats-tls/ca.crt",
        "certificate_file": f"{FILES}/nats-tls/tls.crt",
        "private_key_file": f"{FILES}/nats-tls/tls.key",
    }
    assert read["mqtt"]["tls"] == {
        "listen": "[::]:8883",
        "certificate_file": f"{FILES}/mqtt-tls/tls.crt",
        "private_key_file": f"{FILES}/mqtt-tls/tls.key",
        "client_ca_file": f"{FILES}/mqtt-tls/ca.crt",
        "ticket_key_file": f"{FILES}/tls-ticket-key/ticket_key",
    }
    assert read["dtls"]["certificate_file"] == f"{FILES}/dtls-tls/tls.crt"
    assert read["dtls"]["token_secret_file"] == f"{FILES}/dtls-token-secret/dtls-token-secret"
    assert "file" not in read["registry"]
    read = tomllib.loads(configuration(template("--set", "registry.existingSecret=x,registry.key=all.toml")))
    assert read["registry"]["file"]["path"] == f"{FILES}/devices/all.toml"
