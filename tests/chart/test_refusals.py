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
]

CONTRADICTIONS = [
    (("config.uplink.queue=nats", "config.nats.servers={nats://nats:4222}"), "config.nats.stream.max_bytes is required"),
    (("config.uplink.queue=nats", "config.nats.stream.max_bytes=1GiB"), "config.nats.servers is required when config.uplink.queue"),
    (("config.commands.queue=nats",), "config.nats.servers is required when config.commands.queue"),
    (("config.registry.source=nats",), "config.nats.servers is required when config.registry.source"),
    (("config.uplink.queue=kafka",), "config.kafka.brokers is required"),
    (("config.commands.queue=kafka",), "config.kafka.brokers is required"),
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
    (("config.dtls.listen=0.0.0.0:5684",), "needs up to 1883Mi"),
    (("config.dtls.listen=0.0.0.0:5684", "config.mqtt.listen="), "needs up to 1570Mi"),
    (("resources.limits.memory=much",), '"much" is no size'),
    (("autoscaling.enabled=true", "autoscaling.minReplicas=11"), "autoscaling.minReplicas is above"),
    (("autoscaling.enabled=true", "autoscaling.targetCPUUtilizationPercentage=0"), "autoscaling needs a target"),
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


def servers_with_a_password_may_come_from_the_environment():
    manifests = template(
        "--set", "config.commands.queue=nats,extraEnv[0].name=JETLINKS_BRIDGE__NATS__SERVERS",
        "--set", "extraEnv[0].valueFrom.secretKeyRef.name=nats,extraEnv[0].valueFrom.secretKeyRef.key=url",
    )
    assert bridge_container(manifests)["env"][0]["name"] == "JETLINKS_BRIDGE__NATS__SERVERS"
