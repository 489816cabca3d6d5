"""What the chart must not render, and what it says then."""

from helm import bridge_container, refusal, template

# Arguments, and a part of the message.
SCHEMA = [
    ("config.mqtt.lisen=0.0.0.0:1883", "'lisen' not allowed"),
    ("replica=3", "'replica' not allowed"),
    ("config.mqtt.listen=127.0.0.1:1883", "/config/mqtt/listen"),
    ("config.mqtt.listen=0.0.0.0:0", "/config/mqtt/listen"),
    ("config.mqtt.listen=1883", "/config/mqtt/listen"),
    ("config.mqtt.listen=null", "missing property 'listen'"),
    ("config.coap=null", "missing property 'coap'"),
    ("config.admin.listen=", "/config/admin/listen"),
    ("config.admin.listen=127.0.0.1:9090", "/config/admin/listen"),
    ("config.admin.token=secret", "'token' not allowed"),
    ("config.dtls.token_secret=secret", "'token_secret' not allowed"),
    ("config.mqtt.tls.ticket_key=secret", "'ticket_key' not allowed"),
    ("config.nats.credentials=secret", "'credentials' not allowed"),
    ("config.registry.file.path=/x", "'path' not allowed"),
    ("config.kafka.properties.sasl\\.password=secret", "/config/kafka/properties/sasl.password"),
    ("config.kafka.properties.sasl.password=secret", "/config/kafka/properties/sasl"),
    ("config.kafka.properties.acks=1", "/config/kafka/properties"),
    ("config.nats.servers={nats://user:secret@nats:4222}", "/config/nats/servers/0"),
    ("config.nats.servers={nats:4222}", "/config/nats/servers/0"),
    ("config.uplink.queue=mqtt", "/config/uplink/queue"),
    ("config.drain.timeout=20", "/config/drain/timeout"),
    ("config.drain.rate=0", "/config/drain/rate"),
    ("config.limits.connections=many", "/config/limits/connections"),
    ("config.limits.inflight_bytes=256", "/config/limits/inflight_bytes"),
    ("config.log.format=xml", "/config/log/format"),
    ("config.runtime.workers=2000", "/config/runtime/workers"),
    ("image.digest=latest", "/image/digest"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ("service.tcp.type=External", "/service/tcp/type"),
    ("service.udp.sessionAffinityTimeoutSeconds=86401", "/service/udp/sessionAffinityTimeoutSeconds"),
    ("service.tcp.ports.mqtt=70000", "/service/tcp/ports/mqtt"),
    ("podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"),
    ("preStopSeconds=-1", "/preStopSeconds"),
    ("secrets.adminToken.existingSecret=Not_A_Name", "/secrets/adminToken/existingSecret"),
    ("secrets.kafka[0].existingSecret=x", "missing property 'files'"),
    ("prometheusRule.disabled={Other}", "/prometheusRule/disabled/0"),
    ("config.mqtt.listen=0.0.0.0:99999", "/config/mqtt/listen"),
    ("config.coap.listen=[::]:65536", "/config/coap/listen"),
    ("config.admin.listen=0.0.0.0:99999", "/config/admin/listen"),
    ("config.mqtt.listen={}", "/config/mqtt/listen"),
    ("config.mqtt.listen={0.0.0.0:1,[::]:1,0.0.0.0:2}", "/config/mqtt/listen"),
    ("config.mqtt.proxy_protocol_from={10.0.0.0/33}", "/config/mqtt/proxy_protocol_from/0"),
    ("config.mqtt.proxy_protocol_from={10.0.0.256}", "/config/mqtt/proxy_protocol_from/0"),
    ("config.mqtt.proxy_protocol_from={fd00::/129}", "/config/mqtt/proxy_protocol_from/0"),
    ("config.mqtt.proxy_protocol_from={balancer}", "/config/mqtt/proxy_protocol_from/0"),
    ("service.tcp.loadBalancerSourceRanges={192.0.2.0/33}", "/service/tcp/loadBalancerSourceRanges/0"),
    ("service.tcp.loadBalancerSourceRanges={192.0.2.1}", "/service/tcp/loadBalancerSourceRanges/0"),
    ("config.log.level=verbose", "/config/log/level"),
    ("config.log.level=info\\,async_nats=loud", "/config/log/level"),
    ("config.log.level=INFO", "/config/log/level"),
    ("registry.records=-1", "/registry/records"),
    ("strategy.type=OnDelete", "/strategy/type"),
    ("strategy.rollingUpdate.maxSurge=101%", "/strategy/rollingUpdate/maxSurge"),
    ("strategy.rollingUpdate.partition=1", "'partition' not allowed"),
    ("readinessProbe.terminationGracePeriodSeconds=1", "'terminationGracePeriodSeconds' not allowed"),
    ("dnsPolicy=Mine", "/dnsPolicy"),
    ("extraArgs=--set", "/extraArgs"),
    ("lifecycle.preStart.sleep.seconds=1", "'preStart' not allowed"),
    ("sidecars[0].image=x", "/sidecars/0"),
    ("service.tcp.ipFamilies={IPv5}", "/service/tcp/ipFamilies/0"),
    ("service.tcp.ipFamilies={IPv4,IPv4}", "/service/tcp/ipFamilies"),
    ("service.tcp.trafficDistribution=Near", "/service/tcp/trafficDistribution"),
    ("service.udp.internalTrafficPolicy=Far", "/service/udp/internalTrafficPolicy"),
    ("gatewayRoutes[0].kind=GRPCRoute", "/gatewayRoutes/0/kind"),
    ("certificate.renewBefore=15d", "/certificate/renewBefore"),
    ("serviceMonitor.scheme=ftp", "/serviceMonitor/scheme"),
    ("podDisruptionBudget.minAvailable=all", "/podDisruptionBudget/minAvailable"),
]

CONTRADICTIONS = [
    (("config.uplink.queue=nats", "config.nats.servers={nats://nats:4222}"), "config.nats.stream.max_bytes is required"),
    (("config.uplink.queue=nats", "config.nats.stream.max_bytes=1GiB"), "config.nats.servers is required when config.uplink.queue"),
    (("config.commands.queue=nats",), "config.nats.servers is required when config.commands.queue"),
    (("config.registry.source=nats",), "config.nats.servers is required when config.registry.source"),
    (("config.uplink.queue=kafka",), "config.kafka.brokers is required"),
    (("config.commands.queue=kafka",), "config.kafka.brokers is required"),
    (("config.commands.queue=kafka", "config.kafka.brokers=kafka:9092"), "more than one replica: without it every replica reads"),
    (("config.commands.queue=kafka", "autoscaling.enabled=true", "replicas=1"), "more than one replica: without it every replica reads"),
    (("config.registry.source=http",), "config.registry.http.url is required"),
    (("config.mqtt.tls.listen=0.0.0.0:8883",), "tls.mqtt.existingSecret is required"),
    (("config.mqtt.websocket_tls.listen=0.0.0.0:8084",), "tls.mqtt.existingSecret is required"),
    (("config.dtls.listen=0.0.0.0:5684",), "tls.dtls.existingSecret is required"),
    (
        ("config.dtls.listen=0.0.0.0:5684", "tls.dtls.existingSecret=x", "secrets.dtlsTokenSecret.generate=false"),
        "secrets.dtlsTokenSecret needs existingSecret or generate",
    ),
    (("ingress.enabled=true",), "ingress.enabled needs config.mqtt.websocket.listen"),
    (("config.mqtt.websocket.listen=0.0.0.0:1883",), "two listeners share a TCP port"),
    (("config.mqtt.listen=0.0.0.0:9090",), "two listeners share a TCP port"),
    (("config.coap.listen=0.0.0.0:5684", "config.dtls.listen=0.0.0.0:5684"), "share a port"),
    (("config.mqtt.listen=",), "no listener for devices is on"),
    (("resources.limits.memory=632Mi",), "needs up to 633Mi"),
    (("resources.limits.memory=1G", "config.limits.connections=60000"), "needs up to 1258Mi"),
    # Connections of MQTT and of DTLS share one limit.
    (("config.dtls.listen=0.0.0.0:5684",), "needs up to 1570Mi"),
    (("config.dtls.listen=0.0.0.0:5684", "config.mqtt.listen="), "needs up to 1570Mi"),
    (("config.mqtt.tls.listen=0.0.0.0:8883",), "needs up to 1570Mi"),
    (("resources.requests.memory=632Mi",), "resources.requests.memory is 632Mi, and the configuration needs up to 633Mi"),
    (("resources.requests.memory=4Gi",), "resources.requests.memory is above resources.limits.memory"),
    (("resources.requests.cpu=2", "resources.limits.cpu=1500m"), "resources.requests.cpu is above resources.limits.cpu"),
    (("registry.records=300000",), "needs up to 896Mi"),
    (("config.registry.source=nats", "registry.records=2000000"), "needs up to 2056Mi"),
    (("config.registry.source=http", "resources.limits.memory=641Mi"), "needs up to 642Mi"),
    (("terminationGracePeriodSeconds=10",), "terminationGracePeriodSeconds is 10, and a pod may take 55 s to end"),
    (("service.tcp.ipFamilyPolicy=RequireDualStack",), "service.tcp asks for IPv6, and the listener of port mqtt is on 0.0.0.0"),
    (("service.tcp.ipFamilies={IPv6}",), "service.tcp asks for IPv6"),
    (
        ("config.coap.listen=0.0.0.0:5683", "service.udp.ipFamilyPolicy=PreferDualStack"),
        "service.udp asks for IPv6, and the listener of port coap is on 0.0.0.0",
    ),
    (("service.tcp.type=NodePort", "service.tcp.nodePorts.mqtt=1883"), "service.tcp.nodePorts.mqtt is 1883"),
    (("commonLabels.app\\.kubernetes\\.io/name=x",), "commonLabels has app.kubernetes.io/name, which the chart sets itself"),
    (("commonLabels.helm\\.sh/chart=x",), "commonLabels has helm.sh/chart, which the chart sets itself"),
    (("podLabels.app\\.kubernetes\\.io/instance=x",), "podLabels has app.kubernetes.io/instance, by which the chart selects"),
    (("service.tcp.labels.jetlinks-bridge/port=x",), "service.tcp.labels has jetlinks-bridge/port"),
    (("gatewayRoutes[0].kind=TCPRoute", "gatewayRoutes[0].listener=mqtts", "gatewayRoutes[0].parentRefs[0].name=g"), "the listener mqtts is off"),
    (("gatewayRoutes[0].kind=UDPRoute", "gatewayRoutes[0].listener=mqtt", "gatewayRoutes[0].parentRefs[0].name=g"), "a UDPRoute leads to coap, coaps"),
    (
        tuple(f"gatewayRoutes[{i}].{s}" for i in (0, 1) for s in ("kind=TCPRoute", "listener=mqtt", "parentRefs[0].name=g")),
        "two routes are called devices-jetlinks-bridge-mqtt",
    ),
    (("certificate.enabled=true",), "certificate.issuerRef.name is required"),
    (("certificate.enabled=true",), "certificate.dnsNames or certificate.ipAddresses is required"),
    (("certificate.enabled=true",), "certificate.enabled needs a listener for TLS or DTLS"),
    (("autoscaling.enabled=true", "autoscaling.targetConnections=14001"), "may be 14000 at most, 70 % of config.limits.connections"),
    (("strategy.rollingUpdate.maxSurge=0%",), "maxSurge and maxUnavailable are both 0"),
    (("podDisruptionBudget.minAvailable=2",), "podDisruptionBudget.minAvailable is 2 of 2 pods"),
    (
        ("serviceMonitor.enabled=true", "serviceMonitor.jobLabel=x", "prometheusRule.enabled=true"),
        "serviceMonitor.jobLabel changes the label job",
    ),
    (("networkPolicy.enabled=true", "hostNetwork=true"), "networkPolicy.enabled has no effect on pods with hostNetwork"),
    (("resources.limits.memory=much",), '"much" is no size'),
    (("autoscaling.enabled=true", "autoscaling.minReplicas=11"), "autoscaling.minReplicas is above"),
    (("autoscaling.enabled=true",), "autoscaling needs a target"),
]


def the_schema_refuses_each_wrong_value_and_names_its_place():
    for setting, message in SCHEMA:
        said = refusal("--set", setting)
        assert message in said, f"{setting}: {said}"


def settings_that_contradict_each_other_are_refused_with_a_reason():
    for settings, message in CONTRADICTIONS:
        said = refusal(*(part for setting in settings for part in ("--set", setting)))
        assert message in said, f"{settings}: {said}"


def all_contradictions_are_told_at_once():
    said = refusal("--set", "config.uplink.queue=nats,ingress.enabled=true,config.dtls.listen=0.0.0.0:5684")
    for part in ("max_bytes", "nats.servers", "ingress.enabled", "tls.dtls.existingSecret", "resources.limits.memory"):
        assert part in said, said


def a_memory_limit_that_just_suffices_and_none_at_all_are_taken():
    template("--set", "resources.limits.memory=633Mi")
    template("--set", "resources.limits.memory=0.7Gi")
    template("--set", "resources.limits=null")
    template("--set", "resources.limits=null,resources.requests.memory=633Mi")
    template("--set", "resources.requests.memory=768Mi,resources.requests.cpu=0.5,resources.limits.cpu=500m")
    template("--set", "registry.records=300000,resources.limits.memory=896Mi")
    template("--set", "config.registry.source=http,config.registry.http.url=http://x,resources.limits.memory=642Mi")


def commands_from_kafka_are_taken_where_replicas_hear_each_other_or_there_is_one():
    kafka = "config.commands.queue=kafka,config.kafka.brokers=kafka:9092"
    template("--set", f"{kafka},replicas=1")
    template("--set", kafka + ",config.nats.servers={nats://nats:4222}")
    template("--set", f"{kafka},envFrom[0].secretRef.name=x")


def values_at_the_edge_are_taken():
    template("--set", "config.mqtt.listen=0.0.0.0:65535,config.log.level=off")
    template("--set-json", 'config.log.level="info,async_nats=debug,jetlinks_bridge::queue=trace"')
    networks = '["10.0.0.0/32", "0.0.0.0/0", "255.255.255.255", "::/0", "fd00::1/128", "::1", "::ffff:10.0.0.1"]'
    template("--set-json", f"config.mqtt.proxy_protocol_from={networks}")
    template("--set", "service.tcp.type=NodePort,service.tcp.nodePorts.mqtt=1883,service.nodePortRange=1-65535")
    template("--set", "podDisruptionBudget.minAvailable=1,strategy.rollingUpdate.maxUnavailable=1,strategy.rollingUpdate.maxSurge=0")
    template("--set", "autoscaling.enabled=true,autoscaling.targetConnections=14000")


def servers_with_a_password_may_come_from_the_environment():
    manifests = template(
        "--set", "config.commands.queue=nats,extraEnv[0].name=JETLINKS_BRIDGE__NATS__SERVERS",
        "--set", "extraEnv[0].valueFrom.secretKeyRef.name=nats,extraEnv[0].valueFrom.secretKeyRef.key=url",
    )
    assert bridge_container(manifests)["env"][0]["name"] == "JETLINKS_BRIDGE__NATS__SERVERS"
