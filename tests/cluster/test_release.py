"""What a release does to a cluster, from its installation to its end."""

import copy

from cluster import Release, cluster
from helm import CHART, MATRIX, VALUES, find

PRESETS = {name: MATRIX[name] for name in ("default", "kafka-nats", "nats", "kafka", "gitops", "everything", "kitchen sink")}
# Objects that Helm has put there may be applied by somebody else, too.
DRY_RUN = ("--dry-run=server", "--server-side", "--force-conflicts")
CHANGED = ("--set", "config.log.level=debug")


def _config(pod):
    return pod["metadata"]["annotations"]["checksum/config"]


def the_server_takes_every_manifest_of_the_matrix_as_it_stands_and_nothing_is_left_of_it():
    for name, arguments in MATRIX.items():
        with cluster().namespace() as namespace:
            before = cluster().objects(namespace)
            release = Release(cluster(), namespace, *arguments)
            manifests = release.manifests()
            # All of them again, strictly: pods are judged by the restricted standard, unknown members are refused.
            done = cluster().apply(manifests, *DRY_RUN, "--namespace", namespace)
            assert "warning" not in done.stderr.lower(), f"{name}: {done.stderr}"
            assert len(done.stdout.splitlines()) == len(manifests), f"{name}: {done.stdout}"
            there = cluster().objects(namespace) - before
            # One for each manifest, and the record of the release; the pod of `helm test` is not there.
            pods = sum(manifest["kind"] == "Pod" for manifest in manifests)
            assert len(there) == len(manifests) - pods + 1, f"{name}: {sorted(there)}"
            release.uninstall()
            left = cluster().objects(namespace) - before
            assert not left, f"{name}: {sorted(left)}"


def a_changed_value_replaces_the_pods_and_a_rollback_brings_the_former_ones_back():
    for name, arguments in PRESETS.items():
        with cluster().namespace() as namespace:
            release = Release(cluster(), namespace, *arguments)
            first = release.pod()
            release.upgrade(*CHANGED)
            second = release.pod()
            assert _config(first) != _config(second), name
            release.rollback(1)
            assert release.pod() == first, name


def an_upgrade_that_changes_nothing_replaces_nothing():
    for name, arguments in PRESETS.items():
        with cluster().namespace() as namespace:
            release = Release(cluster(), namespace, *arguments)
            first = release.deployment()["metadata"]["generation"]
            release.upgrade()
            assert release.deployment()["metadata"]["generation"] == first, name
            release.upgrade("--set", "commonLabels.team=others,dashboard.enabled=true,prometheusRule.enabled=true")
            deployment = release.deployment()["metadata"]
            assert (deployment["generation"], deployment["labels"]["team"]) == (first, "others"), name
            release.upgrade(*CHANGED)
            assert release.deployment()["metadata"]["generation"] > first, name


def what_was_generated_stays_the_same_over_upgrade_and_rollback():
    arguments = ["-f", CHART / "values-nats.yaml", "--set", "config.dtls.listen=0.0.0.0:5684"]
    arguments += ["--set", "tls.dtls.existingSecret=dtls-tls,resources.limits.memory=8Gi"]
    with cluster().namespace() as namespace:
        release = Release(cluster(), namespace, *arguments)
        generated = release.generated()
        assert set(generated) == {"admin-token", "dtls-token-secret"}
        release.upgrade(*CHANGED)
        assert release.generated() == generated
        release.rollback(1)
        assert release.generated() == generated
        release.uninstall()
        # Another installation has others: these come from nowhere but the cluster.
        again = Release(cluster(), namespace, *arguments)
        assert all(again.generated()[key] != value for key, value in generated.items())


def a_secret_that_is_read_at_the_start_alone_replaces_the_pods_when_it_was_renewed():
    def secret(name, text):
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": text, "nats.creds": text}}

    with cluster().namespace() as namespace:
        for name in ("kafka-user", "nats-user"):
            cluster().apply([secret(name, "first")], "--namespace", namespace)
        release = Release(cluster(), namespace, "-f", VALUES / "everything.yaml")
        first = release.pod()
        cluster().apply([secret("nats-user", "second")], "--namespace", namespace)
        release.upgrade()
        assert release.pod() == first, "credentials of NATS are read at each connection"
        cluster().apply([secret("kafka-user", "second")], "--namespace", namespace)
        release.upgrade()
        assert release.pod() != first


def a_manifest_with_a_wrong_member_is_refused():
    with cluster().namespace() as namespace:
        release = Release(cluster(), namespace, "-f", VALUES / "kitchen-sink.yaml")
        right = release.manifests()
        for kind, spoil in {
            "Deployment": lambda spec: spec.update(replica=1),
            "ServiceMonitor": lambda spec: spec["endpoints"][0].update(intervall="1s"),
            "PrometheusRule": lambda spec: spec["groups"][0]["rules"][0].update(expression="up"),
            "HTTPRoute": lambda spec: spec["rules"][0].update(backends=[]),
            "Certificate": lambda spec: spec.update(dnsName="example.com"),
        }.items():
            wrong = copy.deepcopy(find(right, kind))
            spoil(wrong["spec"])
            done = cluster().try_apply([wrong], *DRY_RUN, "--namespace", namespace)
            words = ("unknown field", "field not declared in schema")
            assert done.returncode != 0 and any(word in done.stderr for word in words), f"{kind}: {done.stderr}"


def a_pod_that_may_do_more_than_it_needs_is_refused():
    with cluster().namespace() as namespace:
        release = Release(cluster(), namespace, *MATRIX["nats"])
        pod = find(release.manifests(), "Pod")
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        done = cluster().try_apply([pod], *DRY_RUN, "--namespace", namespace)
        assert done.returncode != 0 and "violates PodSecurity" in done.stderr, done.stderr
