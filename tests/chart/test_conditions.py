"""What is rendered when, and with which value."""

import base64
import tomllib

from helm import CHART, NAMESPACE, RELEASE, VALUES, bridge_container, bridge_pod, configuration, find, run, template

EVERYTHING = ("-f", VALUES / "everything.yaml")
NATS = ("-f", CHART / "values-nats.yaml")


def a_rollout_never_has_fewer_pods_than_replicas():
    spec = find(template(), "Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["replicas"] == 2
    assert "replicas" not in find(template("--set", "replicas=null"), "Deployment")["spec"]


def the_grace_period_covers_the_longest_drain():
    cases = [
        # preStop, connections, rate, timeout, seconds
        (5, 20000, 1000, "20s", 50),
        (5, 20001, 1000, "20s", 51),
        (0, 1, 1000, "0s", 6),
        (10, 10000, 500, "1m30s", 125),
        (5, 999, 1000, "500ms", 12),
        (5, 1000, 1000, "1h", 3611),
        (5, 30000, 1, "2d", 202810),
    ]
    for pause, connections, rate, timeout, seconds in cases:
        manifests = template(
            "--set", f"preStopSeconds={pause},config.limits.connections={connections},config.drain.rate={rate}",
            "--set", f"config.drain.timeout={timeout},resources.limits.memory=4Gi",
        )
        given = bridge_pod(manifests)["spec"]["terminationGracePeriodSeconds"]
        assert given == seconds, f"{(pause, connections, rate, timeout)}: {given}, not {seconds}"
    given = bridge_pod(template("--set", "terminationGracePeriodSeconds=7"))["spec"]["terminationGracePeriodSeconds"]
    assert given == 7


def the_pause_before_sigterm_needs_no_shell():
    assert bridge_container(template())["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert "lifecycle" not in bridge_container(template("--set", "preStopSeconds=0"))


def only_readiness_depends_on_a_queue():
    container = bridge_container(template())
    paths = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/livez", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }


def a_listener_is_a_port_of_the_pod_and_of_its_service_exactly_when_it_is_on():
    def ports(manifests):
        pod = {p["name"]: p["containerPort"] for p in bridge_container(manifests)["ports"]}
        services = {}
        for ending in ("-jetlinks-bridge", "-udp"):
            service = find(manifests, "Service", ending)
            services |= {p["name"]: p["port"] for p in service["spec"]["ports"]} if service else {}
        return pod, services

    assert ports(template()) == ({"mqtt": 1883, "admin": 9090}, {"mqtt": 1883})
    pod, services = ports(template(*EVERYTHING))
    assert pod == {"mqtt": 1883, "mqtts": 8883, "mqtt-ws": 8083, "mqtt-wss": 8084, "coap": 5683, "coaps": 5684, "admin": 9090}
    assert services == {name: port for name, port in pod.items() if name != "admin"}
    pod, services = ports(template("--set", "config.mqtt.listen=0.0.0.0:2883,service.tcp.ports.mqtt=1884"))
    assert (pod["mqtt"], services) == (2883, {"mqtt": 1884})
    assert ports(template("--set", "config.mqtt.listen=,config.coap.listen=0.0.0.0:5683"))[1] == {"coap": 5683}


def the_services_say_how_traffic_comes_in():
    inside = find(template(), "Service", "-jetlinks-bridge")["spec"]
    assert "externalTrafficPolicy" not in inside and inside["sessionAffinity"] == "None"
    manifests = template(*EVERYTHING)
    tcp, udp = find(manifests, "Service", "-jetlinks-bridge"), find(manifests, "Service", "-udp")
    assert tcp["spec"]["externalTrafficPolicy"] == udp["spec"]["externalTrafficPolicy"] == "Local"
    assert tcp["spec"]["loadBalancerClass"] == "example.com/internal"
    assert tcp["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert tcp["metadata"]["annotations"] == {"example.com/proxy-protocol": "true"}
    assert {p["name"]: p.get("nodePort") for p in tcp["spec"]["ports"]}["mqtt"] == 31883
    assert udp["spec"]["sessionAffinity"] == "ClientIP"
    assert udp["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 86400}}


def pods_spread_over_nodes_and_zones():
    constraints = bridge_pod(template())["spec"]["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    labels = bridge_pod(template())["metadata"]["labels"].items()
    assert all(c["labelSelector"]["matchLabels"].items() <= labels for c in constraints)
    assert "topologySpreadConstraints" not in bridge_pod(template("--set", "topologySpread.enabled=false"))["spec"]


def an_autoscaler_alone_decides_about_replicas():
    manifests = template("--set", "autoscaling.enabled=true,autoscaling.targetConnections=15000")
    assert "replicas" not in find(manifests, "Deployment")["spec"]
    scaler = find(manifests, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == find(manifests, "Deployment")["metadata"]["name"]
    cpu, connections = scaler["metrics"]
    assert cpu["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    assert connections["pods"] == {
        "metric": {"name": "jetlinks_bridge_connections"},
        "target": {"type": "AverageValue", "averageValue": "15000"},
    }
    manifests = template("--set", "autoscaling.enabled=true,autoscaling.targetCPUUtilizationPercentage=0,autoscaling.targetConnections=1")
    assert [m["type"] for m in find(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]] == ["Pods"]


def optional_parts_are_there_exactly_when_they_are_asked_for():
    switches = {
        "podDisruptionBudget.enabled": "PodDisruptionBudget",
        "autoscaling.enabled": "HorizontalPodAutoscaler",
        "networkPolicy.enabled": "NetworkPolicy",
        "serviceMonitor.enabled": "ServiceMonitor",
        "prometheusRule.enabled": "PrometheusRule",
        "serviceAccount.create": "ServiceAccount",
    }
    for switch, kind in switches.items():
        assert find(template("--set", f"{switch}=true"), kind), kind
        assert not find(template("--set", f"{switch}=false"), kind), kind
    assert not find(template(), "ConfigMap", "-dashboard") and not find(template(), "Ingress")


def without_devices_the_file_says_that_there_are_none():
    file = find(template(), "Secret", "-devices")["data"]["devices.toml"]
    # The bridge takes an empty file for one that lost its contents, and ends.
    assert tomllib.loads(base64.b64decode(file).decode()) == {"device": []}


def a_changed_configuration_replaces_the_pods_and_a_changed_device_does_not():
    def checksums(*arguments):
        annotations = bridge_pod(template(*arguments))["metadata"]["annotations"]
        return annotations["checksum/config"], annotations["checksum/secrets"]

    assert checksums() == checksums("--set", "registry.devices=x") == checksums("--set", "replicas=7")
    assert checksums()[0] != checksums("--set", "config.log.level=debug")[0]
    # Credentials of NATS are read again at each connection, those of Kafka at the start alone.
    assert checksums(*NATS)[1] == checksums(*NATS, "--set", "secrets.nats.credentials.existingSecret=a")[1]
    kafka = "secrets.kafka[0].existingSecret=a,secrets.kafka[0].files.sasl\\.password=password"
    assert checksums()[1] != checksums("--set", kafka)[1]


def the_notes_name_the_next_three_commands():
    def notes(*arguments):
        done = run("install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("NOTES:")[1]

    text = notes(*NATS, "--set", "config.mqtt.listen=0.0.0.0:1883")
    for command in (
        "kubectl --namespace field rollout status deployment/devices-jetlinks-bridge",
        "helm --namespace field test devices --logs",
        "kubectl --namespace field port-forward service/devices-jetlinks-bridge 1883:mqtt",
    ):
        assert command in text, text
    assert "do not coordinate" not in text and "do not coordinate" in notes()
    assert "No device is registered" in text
    assert "No device is registered" not in notes("--set", "registry.existingSecret=x")
    assert "some replicas" in notes("--set", "replicas=null")


def secrets_are_generated_only_where_none_is_named():
    def keys(*arguments):
        secret = find(template(*arguments), "Secret", "-generated")
        return set(secret["data"]) if secret else set()

    dtls = ("--set", "config.dtls.listen=0.0.0.0:5684,tls.dtls.existingSecret=x,resources.limits.memory=2Gi")
    assert keys() == {"admin-token"}
    assert keys(*dtls) == {"admin-token", "dtls-token-secret"}
    assert keys(*dtls, "--set", "secrets.dtlsTokenSecret.existingSecret=x") == {"admin-token"}
    assert keys("--set", "secrets.adminToken.existingSecret=x") == set()
    assert keys("--set", "secrets.adminToken.generate=false") == set()


def no_secret_stands_in_the_configuration_or_in_the_environment():
    manifests = template(*EVERYTHING)
    text = configuration(manifests)
    named = {
        "token_file": 2, "token_secret_file": 1, "private_key_file": 3, '"sasl.password_file"': 1, "credentials_file": 1,
        "claim_secret_file": 1,
    }
    for name, count in named.items():
        assert text.count(f"\n{name} = ") == count, (name, text)
    for plain in ("token", "token_secret", "claim_secret", "private_key", "credentials", '"sasl.password"'):
        assert f"\n{plain} = " not in text, plain
    assert bridge_container(manifests)["env"] == [{"name": "TZ", "value": "UTC"}]


def the_network_policy_opens_what_the_configuration_names_and_nothing_else():
    policy = find(template(*EVERYTHING), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    devices, admin, extra = policy["ingress"]
    assert [p["port"] for p in devices["ports"]] == ["mqtt", "mqtts", "mqtt-ws", "mqtt-wss", "coap", "coaps"]
    assert devices["from"][0] == {"ipBlock": {"cidr": "192.0.2.0/24"}}
    assert devices["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert [p["port"] for p in admin["ports"]] == ["admin"] and len(admin["from"]) == 1
    assert extra["from"] == [{"podSelector": {}}]
    dns, queues, tracing, more = policy["egress"]
    assert {p["port"] for p in dns["ports"]} == {53} and len(dns["to"]) == 1
    # kafka-3 and nats-2 name no port; https has its own; 9094 is named.
    assert sorted(p["port"] for p in queues["ports"]) == [443, 4222, 4333, 9092, 9093, 9094]
    assert queues["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert tracing == {"ports": [{"port": 4318, "protocol": "TCP"}], "to": [{"podSelector": {"matchLabels": {"app": "otel"}}}]}
    assert more == {"ports": [{"port": 4317}]}
    quiet = find(template("--set", "networkPolicy.enabled=true"), "NetworkPolicy")["spec"]
    assert [[p["port"] for p in rule["ports"]] for rule in quiet["ingress"]] == [["mqtt"]]
    assert [[p["port"] for p in rule["ports"]] for rule in quiet["egress"]] == [[53, 53]]
    for url, port in ("https://otel/v1/traces", 443), ("http://otel", 80), ("http://[::1]:4318/", 4318):
        values = f"networkPolicy.enabled=true,config.tracing.endpoint={url}"
        _, tracing = find(template("--set", values), "NetworkPolicy")["spec"]["egress"]
        assert tracing == {"ports": [{"port": port, "protocol": "TCP"}]}, url


def an_ingress_leads_to_the_listener_for_websocket():
    spec = find(template(*EVERYTHING), "Ingress")["spec"]
    assert spec["ingressClassName"] == "nginx" and spec["rules"][0]["host"] == "mqtt.example.com"
    (path,) = spec["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/mqtt", "Exact")
    assert path["backend"]["service"]["port"] == {"name": "mqtt-ws"}
    (rule,) = find(
        template("--set", "ingress.enabled=true,config.mqtt.websocket.listen=0.0.0.0:8083"), "Ingress",
    )["spec"]["rules"]
    assert "host" not in rule


def the_service_monitor_finds_the_admin_service_alone():
    manifests = template(*EVERYTHING)
    wanted = find(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    found = [m["metadata"]["name"] for m in manifests if m["kind"] == "Service" and wanted <= m["metadata"]["labels"].items()]
    assert found == ["devices-jetlinks-bridge-admin"]


def a_disabled_alert_is_gone_and_the_others_select_this_release():
    def alerts(*arguments):
        (group,) = find(template("--set", "prometheusRule.enabled=true", *arguments), "PrometheusRule")["spec"]["groups"]
        return {rule["alert"]: rule["expr"] for rule in group["rules"]}

    every = alerts()
    assert all('namespace="field",job="devices-jetlinks-bridge-admin"' in expression for expression in every.values())
    assert set(every) - set(alerts("--set", "prometheusRule.disabled={JetlinksBridgeTakeovers}")) == {"JetlinksBridgeTakeovers"}
    assert 'job="x"' in alerts("--set-string", 'prometheusRule.selector=job="x"')["JetlinksBridgeAbsent"]
    limits = alerts("--set", "config.limits.connections=1234,config.limits.inflight_bytes=1MiB")
    assert limits["JetlinksBridgeConnectionsNearLimit"].endswith("> 0.9 * 1234")
    assert limits["JetlinksBridgeInflightFull"].endswith("> 0.9 * 1048576")


def the_image_is_named_by_tag_or_by_digest():
    def image(*arguments):
        return bridge_container(template(*arguments))["image"]

    assert image() == "jetlinks-bridge:0.1.0"
    assert image("--set", "image.repository=r.example.com/b,image.tag=1.2") == "r.example.com/b:1.2"
    digest = "sha256:" + "0" * 64
    assert image("--set", f"image.digest={digest},image.tag=1.2") == f"jetlinks-bridge@{digest}"


def helm_test_is_there_exactly_when_a_message_can_be_read_back():
    assert not find(template(), "Pod")
    assert find(template(*NATS), "Pod")
    assert not find(template(*NATS, "--set", "test.enabled=false"), "Pod")
    assert not find(template(*NATS, "--set", "config.registry.source=nats"), "Pod")
    pod = find(template(*NATS, "--set", "config.registry.source=nats,test.existingSecret=one"), "Pod")
    assert "/run/secrets/jetlinks-bridge/test-device/devices.toml" in pod["spec"]["initContainers"][0]["args"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
