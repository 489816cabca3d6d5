"""How traffic comes in and where it may go: Services, routes, certificates, network policies."""

import json

from helm import CHART, VALUES, bridge_container, bridge_pod, find, refusal, template

EVERYTHING = ("-f", VALUES / "everything.yaml")
KITCHEN_SINK = ("-f", VALUES / "kitchen-sink.yaml")
NATS = ("-f", CHART / "values-nats.yaml")
POLICY = ("--set", "networkPolicy.enabled=true")


def _policy(*arguments, test=False):
    return find(template(*arguments), "NetworkPolicy", "-test" if test else "-jetlinks-bridge")["spec"]


def _ports(rules):
    return [sorted({port["port"] for port in rule["ports"]}) for rule in rules]


def _set_json(**settings):
    return [part for name, value in settings.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]


def the_services_say_how_traffic_comes_in():
    inside = find(template(), "Service", "-jetlinks-bridge")["spec"]
    assert "externalTrafficPolicy" not in inside and inside["sessionAffinity"] == "None"
    assert not {"ipFamilies", "ipFamilyPolicy", "trafficDistribution", "internalTrafficPolicy", "loadBalancerIP"} & set(inside)
    manifests = template(*EVERYTHING)
    tcp, udp = find(manifests, "Service", "-jetlinks-bridge"), find(manifests, "Service", "-udp")
    assert tcp["spec"]["externalTrafficPolicy"] == udp["spec"]["externalTrafficPolicy"] == "Local"
    assert tcp["spec"]["loadBalancerClass"] == "example.com/internal"
    assert tcp["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert tcp["metadata"]["annotations"] == {"example.com/proxy-protocol": "true"}
    assert {p["name"]: p.get("nodePort") for p in tcp["spec"]["ports"]}["mqtt"] == 31883
    assert udp["spec"]["sessionAffinity"] == "ClientIP"
    assert udp["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 86400}}
    manifests = template(*KITCHEN_SINK)
    tcp, udp = find(manifests, "Service", "-jetlinks-bridge"), find(manifests, "Service", "-udp")
    assert tcp["metadata"]["labels"]["example.com/pool"] == udp["metadata"]["labels"]["example.com/pool"] == "devices"
    assert tcp["metadata"]["labels"]["team"] == "devices"
    assert tcp["spec"]["loadBalancerIP"] == "192.0.2.1"
    assert (tcp["spec"]["internalTrafficPolicy"], udp["spec"]["internalTrafficPolicy"]) == ("Local", "Cluster")
    assert (tcp["spec"]["trafficDistribution"], udp["spec"]["trafficDistribution"]) == ("PreferSameZone", "PreferSameNode")
    assert (tcp["spec"]["ipFamilyPolicy"], tcp["spec"]["ipFamilies"]) == ("PreferDualStack", ["IPv4", "IPv6"])
    assert (udp["spec"]["ipFamilyPolicy"], udp["spec"]["ipFamilies"]) == ("SingleStack", ["IPv4"])
    assert tcp["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 600}}


def a_listener_may_have_an_address_of_each_family():
    manifests = template(*KITCHEN_SINK)
    assert bridge_container(manifests)["ports"][0] == {"name": "mqtt", "containerPort": 1883, "protocol": "TCP"}
    for value, what in (["0.0.0.0:1883", "[::]:1884"], "two ports"), ("0.0.0.0:1883", "IPv4 alone"):
        said = refusal(*KITCHEN_SINK, *_set_json(**{"config.mqtt.listen": value}))
        assert what in said, said
    template("--set", "config.mqtt.listen=[::]:1883,service.tcp.ipFamilyPolicy=RequireDualStack")


def a_route_leads_to_the_listener_that_it_names():
    manifests = template(*KITCHEN_SINK)
    found = {
        (m["kind"], m["metadata"]["name"]): m["spec"]["rules"][0]["backendRefs"][0]
        for m in manifests if m["apiVersion"] == "gateway.networking.k8s.io/v1"
    }
    tcp, udp = "devices-jetlinks-bridge", "devices-jetlinks-bridge-udp"
    assert found == {
        ("TCPRoute", f"{tcp}-mqtt"): {"name": tcp, "port": 1883},
        ("TCPRoute", f"{tcp}-inside"): {"name": tcp, "port": 1883},
        ("TLSRoute", f"{tcp}-mqtts"): {"name": tcp, "port": 8883},
        ("TLSRoute", f"{tcp}-wss"): {"name": tcp, "port": 8084},
        ("HTTPRoute", f"{tcp}-ws"): {"name": tcp, "port": 8083},
        ("UDPRoute", f"{tcp}-coap"): {"name": udp, "port": 5683},
        ("UDPRoute", f"{tcp}-coaps"): {"name": udp, "port": 5684},
    }
    for (_, _), backend in found.items():
        service = find(manifests, "Service", backend["name"])
        assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
    http = find(manifests, "HTTPRoute")["spec"]
    assert http["rules"][0]["matches"] == [{"path": {"type": "Exact", "value": "/mqtt"}}]
    assert http["hostnames"] == ["mqtt.example.com"] and http["parentRefs"] == [{"name": "gateway", "sectionName": "http"}]
    old = template(*_set_json(gatewayRoutes=[{
        "kind": "TCPRoute", "listener": "mqtt", "parentRefs": [{"name": "g"}], "apiVersion": "gateway.networking.k8s.io/v1alpha2",
    }]))
    assert find(old, "TCPRoute")["apiVersion"].endswith("v1alpha2")


def a_certificate_is_the_one_of_the_listeners_that_have_none_of_their_own():
    def secrets(*arguments):
        volumes = bridge_pod(template(*arguments))["spec"]["volumes"]
        return {v["name"]: v["secret"]["secretName"] for v in volumes if v["name"].endswith("-tls") and "secret" in v}

    manifests = template(*KITCHEN_SINK)
    certificate = find(manifests, "Certificate")["spec"]
    assert certificate["secretName"] == "devices-tls"
    assert certificate["privateKey"] == {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}
    assert certificate["issuerRef"] == {"name": "devices", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    assert (certificate["duration"], certificate["renewBefore"]) == ("2160h", "360h")
    assert secrets(*KITCHEN_SINK) == {"mqtt-tls": "devices-tls", "dtls-tls": "devices-tls"}
    assert secrets(*KITCHEN_SINK, "--set", "tls.dtls.existingSecret=own") == {"mqtt-tls": "devices-tls", "dtls-tls": "own"}
    assert secrets(*KITCHEN_SINK, "--set", "certificate.secretName=")["mqtt-tls"] == "devices-jetlinks-bridge-tls"


def the_network_policy_opens_what_the_configuration_names_and_nothing_else():
    policy = _policy(*EVERYTHING)
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    devices, admin, extra = policy["ingress"]
    assert [p["port"] for p in devices["ports"]] == ["mqtt", "mqtts", "mqtt-ws", "mqtt-wss", "coap", "coaps"]
    assert devices["from"][0] == {"ipBlock": {"cidr": "192.0.2.0/24"}}
    assert devices["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert [p["port"] for p in admin["ports"]] == ["admin"] and len(admin["from"]) == 1
    assert extra["from"] == [{"podSelector": {}}]
    dns, queues, registry, tracing, more = policy["egress"]
    assert {p["port"] for p in dns["ports"]} == {53} and len(dns["to"]) == 1
    # kafka-3 and nats-2 name no port; 9094 is named.
    assert sorted(p["port"] for p in queues["ports"]) == [4222, 4333, 9092, 9093, 9094]
    assert queues["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    # Of https its own.
    assert registry == {"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}
    assert tracing == {"ports": [{"port": 4318, "protocol": "TCP"}], "to": [{"podSelector": {"matchLabels": {"app": "otel"}}}]}
    assert more == {"ports": [{"port": 4317}]}
    quiet = _policy(*POLICY)
    assert [[p["port"] for p in rule["ports"]] for rule in quiet["ingress"]] == [["mqtt"]]
    assert [[p["port"] for p in rule["ports"]] for rule in quiet["egress"]] == [[53, 53]]
    for url, port in ("https://otel/v1/traces", 443), ("http://otel", 80), ("http://[::1]:4318/", 4318):
        _, tracing = _policy(*POLICY, "--set", f"config.tracing.endpoint={url}")["egress"]
        assert tracing == {"ports": [{"port": port, "protocol": "TCP"}]}, url


def the_network_policy_opens_the_ports_of_servers_wherever_they_are_given():
    variable = "JETLINKS_BRIDGE__NATS__SERVERS"
    assert _ports(_policy(*KITCHEN_SINK)["egress"]) == [[53], [4222, 4443, 9093], [8443]]
    # A variable wins over the setting.
    given = _set_json(extraEnv=[{"name": variable, "value": "nats-a,nats://u:p@nats-b:4333/"}])
    assert _ports(_policy(*NATS, *POLICY, *given)["egress"]) == [[53], [4222, 4333]]
    given = _set_json(extraArgs=["--set", "nats.servers=tls://n:5222", "--set=kafka.brokers=a:9,b"])
    both = ("--set", "config.commands.queue=kafka")
    assert _ports(_policy(*NATS, *POLICY, *given, *both)["egress"]) == [[53], [9, 5222, 9092]]
    registry = ("--set", "config.registry.source=http,config.registry.http.url=http://platform/devices")
    assert _ports(_policy(*POLICY, *registry)["egress"]) == [[53], [80]]
    given = _set_json(extraEnv=[{"name": "JETLINKS_BRIDGE__TRACING__ENDPOINT", "value": "http://otel:4318"}])
    assert _ports(_policy(*POLICY, *given)["egress"]) == [[53], [4318]]


def a_port_that_the_chart_cannot_read_has_to_be_named():
    hidden = {"secretKeyRef": {"name": "nats", "key": "url"}}
    cases = [
        (_set_json(extraEnv=[{"name": "JETLINKS_BRIDGE__NATS__SERVERS", "valueFrom": hidden}]), NATS, "extraPorts", [4222]),
        (
            _set_json(extraEnv=[{"name": "JETLINKS_BRIDGE__KAFKA__BROKERS", "valueFrom": hidden}]),
            ("-f", CHART / "values-kafka.yaml"), "extraPorts", [9093],
        ),
        (
            _set_json(extraEnv=[{"name": "JETLINKS_BRIDGE__REGISTRY__HTTP__URL", "valueFrom": hidden}]),
            ("--set", "config.registry.source=http"), "registryPorts", [8443],
        ),
        (
            _set_json(envFrom=[{"secretRef": {"name": "nats"}}]), (*NATS, *_set_json(**{"config.nats.servers": []})),
            "extraPorts", [4222],
        ),
    ]
    for given, arguments, name, ports in cases:
        said = refusal(*arguments, *POLICY, *given)
        assert f"name it in networkPolicy.{name}" in said, said
        # Without a policy, or with the port, it is as good as any.
        template(*arguments, *given)
        rules = _policy(*arguments, *POLICY, *given, *_set_json(**{f"networkPolicy.{name}": ports}))["egress"]
        assert ports in _ports(rules), rules


def the_pod_of_the_test_may_reach_the_bridge_and_the_queue():
    manifests = template(*EVERYTHING)
    policy = find(manifests, "NetworkPolicy", "-test")["spec"]
    pod = find(manifests, "Pod")
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in policy
    dns, bridge, queues = policy["egress"]
    assert {p["port"] for p in dns["ports"]} == {53} and len(dns["to"]) == 1
    assert bridge["ports"] == [{"port": "mqtt", "protocol": "TCP"}]
    selected = bridge["to"][0]["podSelector"]["matchLabels"].items()
    assert selected <= bridge_pod(manifests)["metadata"]["labels"].items()
    assert sorted(p["port"] for p in queues["ports"]) == [4222, 4333, 9092, 9093, 9094]
    # Where there is no test there is no such policy.
    assert not find(template(*NATS, *POLICY, "--set", "test.enabled=false"), "NetworkPolicy", "-test")


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
