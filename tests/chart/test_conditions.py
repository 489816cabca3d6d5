"""What is rendered when, and with which value."""

import base64
import tomllib

from helm import CHART, NAMESPACE, RELEASE, VALUES, bridge_container, bridge_pod, configuration, find, run, template

EVERYTHING = ("-f", VALUES / "everything.yaml")
NATS = ("-f", CHART / "values-nats.yaml")


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


def pods_spread_over_nodes_and_zones():
    constraints = bridge_pod(template())["spec"]["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    labels = bridge_pod(template())["metadata"]["labels"].items()
    assert all(c["labelSelector"]["matchLabels"].items() <= labels for c in constraints)
    assert "topologySpreadConstraints" not in bridge_pod(template("--set", "topologySpread.enabled=false"))["spec"]


def an_autoscaler_alone_decides_about_replicas():
    by_cpu = "autoscaling.targetCPUUtilizationPercentage=70"
    manifests = template("--set", f"autoscaling.enabled=true,autoscaling.targetConnections=14000,{by_cpu}")
    assert "replicas" not in find(manifests, "Deployment")["spec"]
    scaler = find(manifests, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == find(manifests, "Deployment")["metadata"]["name"]
    connections, cpu = scaler["metrics"]
    assert cpu["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    assert connections["pods"] == {
        "metric": {"name": "jetlinks_bridge_connections"},
        "target": {"type": "AverageValue", "averageValue": "14000"},
    }
    assert scaler["behavior"]["scaleUp"] == {"stabilizationWindowSeconds": 120}

    def metrics(*arguments):
        manifests = template("--set", "autoscaling.enabled=true", *arguments)
        return [m["type"] for m in find(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]]

    assert metrics("--set", "autoscaling.targetConnections=1") == ["Pods"]
    assert metrics("--set", by_cpu) == ["Resource"]
    assert metrics("-f", VALUES / "kitchen-sink.yaml") == ["Pods", "Resource", "External"]
    own = '[{"type":"Object","object":{"describedObject":{"kind":"Service","name":"x"},"metric":{"name":"m"},"target":{"type":"Value","value":"1"}}}]'
    assert metrics("--set-json", f"autoscaling.metrics={own}") == ["Object"]


def a_disruption_budget_says_how_many_may_be_missing_or_must_be_there():
    def budget(*arguments):
        spec = find(template(*arguments), "PodDisruptionBudget")["spec"]
        return {name: spec[name] for name in ("minAvailable", "maxUnavailable") if name in spec}

    assert budget() == {"maxUnavailable": 1}
    assert budget("--set", "podDisruptionBudget.maxUnavailable=25%") == {"maxUnavailable": "25%"}
    assert budget("--set", "podDisruptionBudget.minAvailable=1") == {"minAvailable": 1}
    assert budget("--set", "podDisruptionBudget.minAvailable=60%") == {"minAvailable": "60%"}


def optional_parts_are_there_exactly_when_they_are_asked_for():
    switches = {
        "podDisruptionBudget.enabled": "PodDisruptionBudget",
        "autoscaling.enabled": "HorizontalPodAutoscaler",
        "networkPolicy.enabled": "NetworkPolicy",
        "serviceMonitor.enabled": "ServiceMonitor",
        "prometheusRule.enabled": "PrometheusRule",
        "serviceAccount.create": "ServiceAccount",
    }
    needed = ("--set", "autoscaling.targetConnections=10000")
    for switch, kind in switches.items():
        assert find(template("--set", f"{switch}=true", *needed), kind), kind
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
    without_test = notes(*NATS, "--set", "test.enabled=false")
    assert "helm --namespace field test" not in without_test and "logs --selector" in without_test


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
        "claim_secret_file": 1, "ticket_key_file": 1,
    }
    for name, count in named.items():
        assert text.count(f"\n{name} = ") == count, (name, text)
    for plain in ("token", "token_secret", "claim_secret", "ticket_key", "private_key", "credentials", '"sasl.password"'):
        assert f"\n{plain} = " not in text, plain
    assert bridge_container(manifests)["env"] == [{"name": "TZ", "value": "UTC"}]


def the_service_monitor_finds_the_admin_service_alone():
    manifests = template(*EVERYTHING)
    wanted = find(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    found = [m["metadata"]["name"] for m in manifests if m["kind"] == "Service" and wanted <= m["metadata"]["labels"].items()]
    assert found == ["devices-jetlinks-bridge-admin"]


def the_service_monitor_is_where_and_what_it_is_asked_for():
    spec = find(template("--set", "serviceMonitor.enabled=true"), "ServiceMonitor")["spec"]
    assert not {"jobLabel", "targetLabels", "sampleLimit"} & set(spec) and not {"scheme", "tlsConfig"} & set(spec["endpoints"][0])
    monitor = find(template("-f", VALUES / "kitchen-sink.yaml", "--set", "serviceMonitor.namespace=monitoring"), "ServiceMonitor")
    assert monitor["metadata"]["namespace"] == "monitoring"
    # Its own labels win over those of every object.
    assert monitor["metadata"]["labels"]["team"] == "observers"
    spec = monitor["spec"]
    assert spec["namespaceSelector"] == {"matchNames": [NAMESPACE]}
    assert (spec["jobLabel"], spec["targetLabels"], spec["sampleLimit"]) == ("app.kubernetes.io/name", ["team"], 5000)
    assert (spec["endpoints"][0]["scheme"], spec["endpoints"][0]["tlsConfig"]) == ("https", {"insecureSkipVerify": True})


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
    assert pod["spec"]["volumes"][2]["secret"]["secretName"] == "one"
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def helm_test_takes_the_first_listener_that_it_can_speak_with():
    def way(*settings):
        pod = find(template(*NATS, *(part for setting in settings for part in ("--set", setting))), "Pod")
        args = pod["spec"]["initContainers"][0]["args"] if pod else None
        return pod and (args[args.index("--transport") + 1], args[args.index("--address") + 1])

    tls = ("config.mqtt.listen=", "config.mqtt.tls.listen=0.0.0.0:8883", "tls.mqtt.existingSecret=x", "resources.limits.memory=2Gi")
    dtls = ("config.dtls.listen=0.0.0.0:5684", "tls.dtls.existingSecret=x", "service.udp.ports.coaps=15684")
    name = "devices-jetlinks-bridge"
    assert way() == ("mqtt", f"{name}:1883")
    assert way(*tls) == way(*tls, *dtls) == ("mqtts", f"{name}:8883")
    # A simulated device has no certificate to show.
    assert way(*tls, "tls.mqtt.clientCa=ca.crt") is None
    assert way(*tls, "tls.mqtt.clientCa=ca.crt", *dtls) == ("dtls", f"{name}-udp:15684")
    assert way("config.mqtt.listen=", "config.coap.listen=0.0.0.0:5683") == ("coap", f"{name}-udp:5683")
    assert way("config.mqtt.listen=", "config.mqtt.websocket.listen=0.0.0.0:8083") is None


def the_pod_of_the_test_has_no_secret_but_the_device_and_the_way_to_the_queue():
    def secrets(*arguments):
        pod = find(template(*arguments), "Pod")["spec"]
        mounted = {c["name"]: {m["name"] for m in c["volumeMounts"]} for c in pod["initContainers"] + pod["containers"]}
        return {v["name"]: v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}, mounted

    given, mounted = secrets(*EVERYTHING)
    assert given == {"devices": "test-device", "kafka-0": "kafka-user", "kafka-1": "kafka-ca"}
    assert mounted == {"send": {"ledger", "devices"}, "read": {"ledger", "config", "kafka-0", "kafka-1", "scratch"}}
    given, _ = secrets(*EVERYTHING, "--set", "config.uplink.queue=nats,config.nats.stream.max_bytes=1GiB")
    assert given == {"devices": "test-device", "nats-credentials": "nats-user", "nats-tls": "nats-tls"}
    text = find(template(*EVERYTHING), "ConfigMap", "-test")["data"]["test.toml"]
    assert set(tomllib.loads(text)) == {"kafka", "log", "registry", "uplink"}, text


def the_test_reads_no_more_of_the_queue_than_its_own_time():
    def since(*arguments):
        args = find(template(*NATS, *arguments), "Pod")["spec"]["containers"][0]["args"]
        return args[args.index("--since") + 1]

    assert (since(), since("--set", "test.timeoutSeconds=30")) == ("360s", "90s")
