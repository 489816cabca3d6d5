"""What a pod is made of: rights, containers, environment, place, and what must not change it."""

import pathlib
import re
import shutil
import tempfile

import yaml

from helm import CHART, NAMESPACE, RELEASE, VALUES, bridge_container, bridge_pod, find, run, template

KITCHEN_SINK = ("-f", VALUES / "kitchen-sink.yaml")
NATS = ("-f", CHART / "values-nats.yaml")


def _rendered(chart, *arguments):
    done = run("template", RELEASE, chart, "--namespace", NAMESPACE, *arguments)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def _replace(path, pattern, text):
    before = path.read_text()
    after = re.sub(pattern, text, before, count=1, flags=re.MULTILINE)
    assert after != before, path
    path.write_text(after)


def another_version_dashboard_or_alert_of_the_chart_leaves_the_pods_alone():
    arguments = (
        *NATS, "--set", "secrets.adminToken.generate=false,dashboard.enabled=true,prometheusRule.enabled=true",
        "--set", "image.tag=v1,serviceMonitor.enabled=true",
    )
    with tempfile.TemporaryDirectory() as folder:
        chart = pathlib.Path(folder, "chart")
        shutil.copytree(CHART, chart)
        first = _rendered(chart, *arguments)
        _replace(chart / "Chart.yaml", r"^version: .*$", "version: 99.0.0")
        _replace(chart / "Chart.yaml", r"^appVersion: .*$", 'appVersion: "99.0.0"')
        _replace(chart / "dashboards/jetlinks-bridge.json", r'"title": "[^"]*"', '"title": "Another"')
        _replace(chart / "rules/queue.yaml", r"^  for: 1m$", "  for: 2m")
        second = _rendered(chart, *arguments)
        third = _rendered(chart, *arguments, "--set", "commonLabels.team=devices")
    for kind, ending in ("ConfigMap", "-dashboard"), ("PrometheusRule", ""), ("Deployment", ""):
        assert find(first, kind, ending) != find(second, kind, ending), kind
    assert bridge_pod(first) == bridge_pod(second) == bridge_pod(third)
    assert find(third, "Deployment")["metadata"]["labels"]["team"] == "devices"
    labels = bridge_pod(template(*KITCHEN_SINK))["metadata"]["labels"]
    assert set(labels) == {
        "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "example.com/tier",
    }


def rights_are_those_of_the_restricted_standard_until_somebody_changes_one():
    def rights(*arguments):
        pod = bridge_pod(template(*arguments))["spec"]
        return pod.get("securityContext"), pod["containers"][0].get("securityContext")

    pod, container = rights()
    assert pod == {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }
    # OpenShift gives each namespace users of its own, and refuses a pod that asks for another.
    without = rights("--set", "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,podSecurityContext.fsGroup=null")
    assert without[0] == {
        "runAsNonRoot": True, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod, container = rights(*KITCHEN_SINK)
    assert (pod["runAsUser"], pod["supplementalGroups"], container["runAsUser"]) == (1000700000, [4000], 1000700000)
    assert "fsGroup" not in pod and pod["runAsNonRoot"] and container["capabilities"] == {"drop": ["ALL"]}
    assert rights("--set", "podSecurityContext=null,securityContext=null") == (None, None)
    # The pod of the test has the same ones.
    test = find(template(*KITCHEN_SINK), "Pod")["spec"]
    assert test["securityContext"] == pod
    assert all(c["securityContext"] == container for c in test["initContainers"] + test["containers"])


def a_pod_has_what_is_asked_for_around_the_bridge():
    manifests = template(*KITCHEN_SINK)
    pod = bridge_pod(manifests)["spec"]
    assert [c["name"] for c in pod["initContainers"]] == ["wait"]
    assert [c["name"] for c in pod["containers"]] == ["bridge", "logs"]
    bridge = bridge_container(manifests)
    assert bridge["args"] == ["run", "--config", "/etc/jetlinks-bridge/bridge.toml", "--set", "limits.connect_rate=500"]
    assert [e["name"] for e in bridge["env"]] == ["JETLINKS_BRIDGE__NATS__SERVERS"]
    assert bridge["envFrom"][0] == {"secretRef": {"name": "devices-environment", "optional": True}}
    assert (pod["runtimeClassName"], pod["schedulerName"], pod["dnsPolicy"]) == ("gvisor", "devices", "None")
    assert pod["dnsConfig"]["nameservers"] == ["192.0.2.53"]
    assert pod["hostAliases"] == [{"ip": "192.0.2.10", "hostnames": ["kafka.example.com"]}]
    assert "hostNetwork" not in pod
    host = bridge_pod(template("--set", "hostNetwork=true"))["spec"]
    assert (host["hostNetwork"], host["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert bridge_pod(template("--set", "hostNetwork=true,dnsPolicy=Default"))["spec"]["dnsPolicy"] == "Default"
    plain = bridge_pod(template())["spec"]
    assert not {"initContainers", "runtimeClassName", "schedulerName", "dnsPolicy", "dnsConfig", "hostAliases"} & set(plain)
    assert not {"env", "envFrom"} & set(plain["containers"][0])


def further_objects_are_templates():
    manifests = template(*KITCHEN_SINK)
    assert find(manifests, "ConfigMap", "devices-more")["data"] == {"OBJECT": "3"}
    assert find(manifests, "ConfigMap", "devices-text")["data"] == {"TEXT": "text"}


def the_pause_before_sigterm_needs_no_shell():
    def lifecycle(*arguments):
        return bridge_container(template(*arguments)).get("lifecycle")

    assert lifecycle() == {"preStop": {"sleep": {"seconds": 5}}}
    assert lifecycle("--set", "preStopSeconds=0") is None
    assert lifecycle(*KITCHEN_SINK) == {"preStop": {"sleep": {"seconds": 90}}, "postStart": {"sleep": {"seconds": 1}}}
    own = ("--set-json", 'lifecycle.preStop={"exec":{"command":["/hook"]}}')
    assert lifecycle(*own) == {"preStop": {"exec": {"command": ["/hook"]}}}
    # It takes preStopSeconds at most, and the grace period counts them.
    grace = bridge_pod(template(*own, "--set", "preStopSeconds=60"))["spec"]["terminationGracePeriodSeconds"]
    assert grace == 110


def the_grace_period_covers_the_longest_drain():
    cases = [
        # preStop, connections, rate, timeout, seconds
        (5, 20000, 1000, "20s", 55),
        (5, 20001, 1000, "20s", 56),
        (0, 1, 1000, "0s", 11),
        (10, 10000, 500, "1m30s", 130),
        (5, 999, 1000, "500ms", 17),
        (5, 1000, 1000, "1h", 3616),
        (5, 30000, 1, "2d", 202815),
        # With a queue that stands still, 300 sessions took 8.2 s from SIGTERM on; the bridge's own bound is 13 s.
        (0, 300, 100, "5s", 18),
    ]
    for pause, connections, rate, timeout, seconds in cases:
        values = (
            "--set", f"preStopSeconds={pause},config.limits.connections={connections},config.drain.rate={rate}",
            "--set", f"config.drain.timeout={timeout},resources.limits.memory=4Gi",
        )
        given = bridge_pod(template(*values))["spec"]["terminationGracePeriodSeconds"]
        assert given == seconds, f"{(pause, connections, rate, timeout)}: {given}, not {seconds}"
        # One of somebody's own is taken from there on.
        own = template(*values, "--set", f"terminationGracePeriodSeconds={seconds}")
        assert bridge_pod(own)["spec"]["terminationGracePeriodSeconds"] == seconds
        refused = run("template", RELEASE, CHART, *values, "--set", f"terminationGracePeriodSeconds={seconds - 1}")
        assert f"a pod may take {seconds} s to end" in refused.stderr, refused.stderr


def a_process_that_does_not_answer_gets_little_grace():
    assert bridge_container(template())["livenessProbe"]["terminationGracePeriodSeconds"] == 10
    assert bridge_container(template(*KITCHEN_SINK))["livenessProbe"]["terminationGracePeriodSeconds"] == 15


def a_limit_of_memory_is_its_request():
    resources = bridge_container(template())["resources"]
    # Kubernetes takes a limit for the request where there is none.
    assert resources == {"requests": {"cpu": "250m"}, "limits": {"memory": "768Mi"}}


def two_renderings_for_gitops_are_the_same():
    for preset in sorted(CHART.glob("values-*.yaml")):
        if preset.name == "values-gitops.yaml":
            continue
        arguments = ("-f", preset, "-f", CHART / "values-gitops.yaml")
        arguments += ("--set", "config.dtls.listen=0.0.0.0:5684,tls.dtls.existingSecret=x,resources.limits.memory=2Gi")
        first, second = (run("template", RELEASE, CHART, *arguments).stdout for _ in range(2))
        assert first == second and first, preset.name
        assert "-generated" not in first, preset.name
    # Which is not so without it.
    assert run("template", RELEASE, CHART).stdout != run("template", RELEASE, CHART).stdout


def the_notes_say_what_was_generated_and_that_there_is_no_image():
    def notes(*arguments):
        done = run("install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("NOTES:")[1]

    assert "values-gitops.yaml" in notes() and "ImagePullBackOff" in notes()
    other = notes(*NATS, "-f", CHART / "values-gitops.yaml", "--set", "image.repository=r.example.com/bridge")
    assert "values-gitops.yaml" not in other and "ImagePullBackOff" not in other
