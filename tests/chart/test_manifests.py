"""Every manifest of every release is one that Kubernetes takes."""

import jsonschema
import kubernetes_validate
import yaml

from helm import CHART, MATRIX, NAMESPACE, RELEASE, TOOLS, UNRESTRICTED, VALUES, find, run, template

KUBERNETES = "1.37"
# The chart's own containers; others are as somebody gave them.
OWN = {"bridge", "send", "read"}
# The files of the definitions of these kinds, below TOOLS/crds.
CUSTOM = {
    "Certificate": "cert-manager.io_certificates",
    "HTTPRoute": "gateway.networking.k8s.io_httproutes",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules",
    "ServiceMonitor": "monitoring.coreos.com_servicemonitors",
    "TCPRoute": "gateway.networking.k8s.io_tcproutes",
    "TLSRoute": "gateway.networking.k8s.io_tlsroutes",
    "UDPRoute": "gateway.networking.k8s.io_udproutes",
}


def _pods(manifests):
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            yield manifest["spec"]["template"]
        elif manifest["kind"] == "Pod":
            yield manifest


def _containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def _check_custom(manifest):
    definition = yaml.safe_load((TOOLS / f"crds/{CUSTOM[manifest['kind']]}.yaml").read_text())
    (version,) = [v for v in definition["spec"]["versions"] if manifest["apiVersion"].endswith("/" + v["name"])]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(manifest, schema)


def _closed(schema):
    """The server drops members that the schema does not name; here they are mistakes."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    if closed.pop("x-kubernetes-int-or-string", False):
        closed.pop("type", None)
    # Go takes flags anywhere, Python at the front alone.
    if isinstance(closed.get("pattern"), str) and closed["pattern"].startswith("^(?i)"):
        closed["pattern"] = "(?i)^" + closed["pattern"].removeprefix("^(?i)")
    return closed


def lint_finds_nothing_in_the_chart_and_its_presets():
    for name, arguments in MATRIX.items():
        done = run("lint", "--strict", CHART, *arguments)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def every_manifest_of_the_matrix_satisfies_the_schema_of_kubernetes():
    kinds = set()
    for name, arguments in (MATRIX | UNRESTRICTED).items():
        for manifest in template(*arguments):
            kinds.add(manifest["kind"])
            try:
                if manifest["kind"] in CUSTOM:
                    _check_custom(manifest)
                else:
                    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
            except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
                raise AssertionError(f"{name}: {manifest['kind']} {manifest['metadata']['name']}: {error}") from error
    wanted = {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "Pod", "PodDisruptionBudget",
        "Secret", "Service", "ServiceAccount", *CUSTOM,
    }
    assert kinds == wanted, kinds ^ wanted


def a_manifest_with_a_wrong_member_is_found():
    manifests = template("-f", VALUES / "everything.yaml")
    deployment, monitor = find(manifests, "Deployment"), find(manifests, "ServiceMonitor")
    deployment["spec"]["replica"] = 1
    monitor["spec"]["endpoints"][0]["intervall"] = "1s"
    manifests = template("-f", VALUES / "kitchen-sink.yaml")
    route, certificate = find(manifests, "UDPRoute", "-coap"), find(manifests, "Certificate")
    route["spec"]["rules"][0]["backendRefs"][0]["ports"] = [1]
    certificate["spec"]["dnsName"] = "example.com"
    for check in (
        lambda: kubernetes_validate.validate(deployment, KUBERNETES, strict=True),
        lambda: _check_custom(monitor), lambda: _check_custom(route), lambda: _check_custom(certificate),
    ):
        try:
            check()
        except (kubernetes_validate.ValidationError, jsonschema.ValidationError):
            continue
        raise AssertionError("accepted")


def no_two_manifests_have_one_name_and_all_are_in_the_namespace_of_the_release():
    for name, arguments in MATRIX.items():
        seen = set()
        for manifest in template(*arguments):
            key = (manifest["kind"], manifest["metadata"]["name"])
            assert key not in seen, f"{name}: {key}"
            seen.add(key)
            assert manifest["metadata"]["namespace"] == NAMESPACE, f"{name}: {key}"
            assert len(key[1]) <= 63, f"{name}: {key}"
            assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE, f"{name}: {key}"


def every_pod_satisfies_the_restricted_pod_security_standard():
    allowed = {"configMap", "emptyDir", "projected", "secret", "downwardAPI", "csi", "ephemeral", "persistentVolumeClaim"}
    for name, arguments in MATRIX.items():
        for pod in _pods(template(*arguments)):
            spec = pod["spec"]
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
            assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            for volume in spec["volumes"]:
                assert set(volume) - {"name"} <= allowed, f"{name}: {volume}"
            for container in _containers(pod):
                security = container["securityContext"]
                assert security["allowPrivilegeEscalation"] is False, name
                assert security["capabilities"] == {"drop": ["ALL"]}, name
                assert "privileged" not in security, name


def no_pod_can_write_to_its_image_or_speak_to_the_api_server():
    for name, arguments in MATRIX.items():
        manifests = template(*arguments)
        for pod in _pods(manifests):
            assert pod["spec"]["automountServiceAccountToken"] is False, name
            assert pod["spec"]["enableServiceLinks"] is False, name
            for container in _containers(pod):
                if container["name"] in OWN:
                    assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        account = find(manifests, "ServiceAccount")
        assert account is None or account["automountServiceAccountToken"] is False, name


def every_mounted_volume_exists_and_every_volume_is_mounted():
    for name, arguments in MATRIX.items():
        for pod in _pods(template(*arguments)):
            volumes = [volume["name"] for volume in pod["spec"]["volumes"]]
            assert len(volumes) == len(set(volumes)), f"{name}: {volumes}"
            mounted = set()
            for container in _containers(pod):
                mounts = container.get("volumeMounts", [])
                mounted |= {m["name"] for m in mounts}
                paths = [m["mountPath"] for m in mounts]
                nested = [(a, b) for a in paths for b in paths if a != b and b.startswith(a + "/")]
                assert not nested, f"{name}: {nested}"
            assert mounted == set(volumes), f"{name}: {mounted ^ set(volumes)}"


def every_service_reaches_ports_of_the_bridge_and_never_the_test():
    for name, arguments in MATRIX.items():
        manifests = template(*arguments)
        bridge = find(manifests, "Deployment")["spec"]["template"]
        ports = {(port["name"], port["protocol"]) for port in bridge["spec"]["containers"][0]["ports"]}
        for service in (m for m in manifests if m["kind"] == "Service"):
            selector = service["spec"]["selector"].items()
            assert selector <= bridge["metadata"]["labels"].items(), name
            for port in service["spec"]["ports"]:
                assert (port["targetPort"], port["protocol"]) in ports, f"{name}: {port}"
            for pod in (m for m in manifests if m["kind"] == "Pod"):
                assert not selector <= pod["metadata"]["labels"].items(), name
