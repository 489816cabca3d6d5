"""Renders the chart."""

import copy
import functools
import os
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/jetlinks-bridge"
TOOLS = pathlib.Path(os.environ["TOOLS"])
HELM = TOOLS / "bin/helm"
VALUES = ROOT / "tests/chart/values"

# A release and a namespace that appear in no template.
RELEASE = "devices"
NAMESPACE = "field"

# Valid, and none of them satisfies the restricted pod security standard by itself: OpenShift chooses user and group, and the
# network of the node is no pod's.
UNRESTRICTED = {
    "OpenShift": ["--set", "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,podSecurityContext.fsGroup=null"],
    "network of the node": ["--set", "hostNetwork=true"],
    "no security contexts": ["--set", "podSecurityContext=null,securityContext=null"],
}

# What is rendered again and again: every manifest must be valid in each of them.
MATRIX = {
    "default": [],
    "kafka-nats": ["-f", CHART / "values-kafka-nats.yaml"],
    "nats": ["-f", CHART / "values-nats.yaml"],
    "kafka": ["-f", CHART / "values-kafka.yaml"],
    "gitops": ["-f", CHART / "values-nats.yaml", "-f", CHART / "values-gitops.yaml"],
    "everything": ["-f", VALUES / "everything.yaml"],
    "kitchen sink": ["-f", VALUES / "kitchen-sink.yaml"],
    "certificate": [
        "-f", CHART / "values-kafka.yaml", "--set", "config.mqtt.listen=,config.mqtt.tls.listen=[::]:8883",
        "--set", "certificate.enabled=true,certificate.issuerRef.name=ca,certificate.dnsNames={a.example.com}",
        "--set", "resources.limits.memory=2Gi,networkPolicy.enabled=true",
    ],
    "nothing optional": [
        "--set", "podDisruptionBudget.enabled=false,topologySpread.enabled=false,serviceAccount.create=false",
        "--set", "secrets.adminToken.generate=false,preStopSeconds=0,test.enabled=false",
    ],
    "datagrams alone": [
        "--set", "config.mqtt.listen=,config.coap.listen=0.0.0.0:5683,service.udp.type=NodePort",
    ],
    "node ports": ["--set", "service.tcp.type=NodePort,service.tcp.nodePorts.mqtt=31883"],
    "IPv6": ["--set", "config.mqtt.listen=[::]:1883,config.admin.listen=[::]:9191"],
    "registry in NATS": ["-f", CHART / "values-nats.yaml", "--set", "config.registry.source=nats,test.existingSecret=one"],
    "one release, long name": ["--set", "fullnameOverride=" + "a" * 60, "--set", "image.digest=sha256:" + "0" * 64],
}


def run(*arguments):
    """One helm command, with its exit code and what it said."""
    command = [HELM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def template(*arguments, release=RELEASE, namespace=NAMESPACE):
    """The manifests of a release; a refusal fails the test."""
    return copy.deepcopy(_template(release, namespace, *arguments))


@functools.cache
def _template(release, namespace, *arguments):
    done = run("template", release, CHART, "--namespace", namespace, *arguments)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if manifest]


def refusal(*arguments):
    """What helm says when it must not render this."""
    done = run("template", RELEASE, CHART, "--namespace", NAMESPACE, *arguments)
    assert done.returncode != 0, f"rendered with {arguments}"
    return done.stderr


def find(manifests, kind, ending=""):
    """The one manifest of that kind whose name ends so, or None."""
    found = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(ending)]
    assert len(found) <= 1, [m["metadata"]["name"] for m in found]
    return found[0] if found else None


def bridge_pod(manifests):
    """The pod's template of the Deployment."""
    return find(manifests, "Deployment")["spec"]["template"]


def bridge_container(manifests):
    """The bridge's own container; sidecars stand behind it."""
    container = bridge_pod(manifests)["spec"]["containers"][0]
    assert container["name"] == "bridge"
    return container


def configuration(manifests):
    """The text of bridge.toml."""
    return next(m["data"]["bridge.toml"] for m in manifests if m["kind"] == "ConfigMap" and "bridge.toml" in m["data"])


def values(*files):
    """The values of the chart, with those files over them."""
    merged = yaml.safe_load((CHART / "values.yaml").read_text())
    for file in files:
        merged = _over(merged, yaml.safe_load(pathlib.Path(file).read_text()))
    return merged


def _over(below, above):
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}
