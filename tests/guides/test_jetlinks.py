"""What docs/jetlinks.md says of nats-server's MQTT listener and of the bridge happens, with its own configuration."""

import json
import pathlib
import re
import subprocess
import tempfile

import paho.mqtt.client as mqtt

from stage import BRIDGE, PATIENCE_SECONDS, ROOT, TOOLS, Bridge, Process, blocks, eventually, guide, section, shell

GUIDE = guide("jetlinks.md")
BEHIND = section(GUIDE, "A JetLinks platform behind the bridge")


class _Stage:
    """nats-server and a bridge on the configuration of the guide, and device1 as `simulate` plays it."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        # A port of -1 is any free one.
        (folder / "nats.conf").write_text(blocks(BEHIND, "conf")[0].replace(":4222", ":-1").replace(":1893", ":-1"))
        self.nats = Process([TOOLS / "venv/bin/nats-server", "-c", "nats.conf"], cwd=folder)
        try:
            self.nats_port = self.nats.port(r"Listening for client connections on 127\.0\.0\.1:(\d+)")
            self.platform_port = self.nats.port(r"Listening for MQTT clients on mqtt://127\.0\.0\.1:(\d+)")
            (folder / "bridge.toml").write_text(self.here(blocks(BEHIND, "toml")[0]))
            (folder / "devices.toml").write_text((ROOT / "config/devices.toml").read_text())
            self.bridge = Bridge(config=folder / "bridge.toml")
        except BaseException:
            self.nats.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bridge.__exit__()
        self.nats.__exit__()

    def here(self, text):
        return text.replace("4222", str(self.nats_port)).replace("1893", str(self.platform_port))

    def device(self):
        address = f"127.0.0.1:{self.bridge.ports['mqtt']}"
        return Process([BRIDGE, "simulate", "--address", address, "--config", ROOT / "config/dev.toml", "--rate", "5"], cwd=ROOT)

    def publish(self, topic, body):
        """A message of device1 on a connection of its own."""
        credentials = subprocess.run(
            [BRIDGE, "credentials", "device1", "--output", "json", "--config", ROOT / "config/dev.toml"],
            cwd=ROOT, check=True, capture_output=True, text=True)
        told = json.loads(credentials.stdout)
        subprocess.run(
            ["mosquitto_pub", "-V", "mqttv311", "-h", "127.0.0.1", "-p", str(self.bridge.ports["mqtt"]), "-i", "device1", "-q", "1",
             "-u", told["username"], "-P", told["password"], "-t", f"/product1/device1/{topic}", "-m", body],
            check=True, capture_output=True, timeout=PATIENCE_SECONDS)


class _Platform:
    """An MQTT client of nats-server that subscribes the topics of the guide with QoS 1 and a session that stays."""

    def __init__(self, stage):
        self.came, self.granted = [], []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "platform", clean_session=False, protocol=mqtt.MQTTv311)
        self.client.username_pw_set("platform", "platform-secret")
        self.client.on_message = lambda client, data, message: self.came.append((message.topic, message.payload))
        self.client.on_subscribe = lambda client, data, mid, reasons, properties: self.granted.append(reasons)
        self.client.connect("127.0.0.1", stage.platform_port)
        self.client.loop_start()
        topics = re.split("[,;\n]", blocks(BEHIND, "text")[0].strip())
        self.client.subscribe([(topic, 1) for topic in topics])
        eventually("SUBACK", lambda: self.granted)
        assert all(reason.value == 1 for reason in self.granted[0]), self.granted

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def first(self, topic, wanted=lambda body: True):
        """The first body of a topic that is wanted."""
        return eventually(topic, lambda: next(
            (body for name, text in list(self.came) if name == topic and wanted(body := json.loads(text))), None))


def nats_server_takes_the_configuration_at_every_start():
    # It reads accounts in an order of its own, and in some orders refuses imports that it takes in others.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "nats.conf"
        path.write_text(blocks(BEHIND, "conf")[0])
        for _ in range(20):
            done = subprocess.run([TOOLS / "venv/bin/nats-server", "-t", "-c", path], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def messages_presence_and_replies_reach_an_mqtt_client_as_jetlinks_topics():
    with tempfile.TemporaryDirectory() as folder, _Stage(folder) as stage, _Platform(stage) as platform:
        with stage.device():
            assert platform.first("/product1/device1/online")["messageType"] == "ONLINE"
            report = platform.first("/product1/device1/properties/report")
            assert report["messageType"] == "REPORT_PROPERTY" and report["deviceId"] == "device1", report
            # As the official protocol writes a command.
            command = {"messageType": "READ_PROPERTY", "messageId": "4711", "deviceId": "device1", "timestamp": 1795657858228,
                       "headers": {"async": False, "timeout": 10000, "productId": "product1"}, "properties": ["sn"]}
            platform.client.publish("/product1/device1/properties/read", json.dumps(command), qos=1)
            reply = platform.first("/product1/device1/properties/read/reply")
            assert "/product1/device1/properties/read" not in [topic for topic, _ in platform.came], "its own command"
            assert reply["messageId"] == "4711" and reply["properties"] == {"sn": "device1"} and reply["success"] is True, reply
        platform.first("/product1/device1/offline")


def the_lines_of_the_guide_show_a_command_and_its_reply():
    listen, ask = blocks(BEHIND, "sh")
    with tempfile.TemporaryDirectory() as folder, _Stage(folder) as stage:
        listen = stage.here(listen.strip())
        with Process(["bash", "-c", f"exec {listen}"]) as listener, stage.device():
            listener.find("a report", lambda line: line.startswith("/product1/device1/properties/report {"))
            shell(stage.here(ask))
            listener.find("the reply", lambda line: re.match(r"/product1/device1/properties/read/reply .*\"sn\":\"device1\"", line))


def a_message_of_a_child_and_its_command_keep_their_topics():
    with tempfile.TemporaryDirectory() as folder, _Stage(folder) as stage, _Platform(stage) as platform:
        told = json.loads(subprocess.run(
            [BRIDGE, "credentials", "gw1", "--output", "json", "--config", ROOT / "config/dev.toml"],
            cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        came, ready = [], []
        gateway = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "gw1", protocol=mqtt.MQTTv311)
        gateway.username_pw_set(told["username"], told["password"])
        gateway.on_message = lambda client, data, message: came.append(message.topic)
        gateway.on_subscribe = lambda *_: ready.append(True)
        gateway.connect("127.0.0.1", stage.bridge.ports["mqtt"])
        gateway.loop_start()
        gateway.subscribe("/product1/gw1/#", 1)
        eventually("SUBACK", lambda: ready)
        gateway.publish("/product1/gw1/child/child1/event/alarm", '{"data":7}', qos=1)
        assert platform.first("/product1/gw1/child/child1/event/alarm")["data"] == 7
        platform.client.publish("/product1/gw1/child/child1/properties/read", '{"messageId":"5","properties":["sn"]}', qos=1)
        eventually("the command", lambda: "/product1/gw1/child/child1/properties/read" in came)
        gateway.publish("/product1/gw1/child/child1/properties/read/reply", '{"messageId":"5","properties":{"sn":"B"}}', qos=1)
        assert platform.first("/product1/gw1/child/child1/properties/read/reply")["properties"] == {"sn": "B"}
        assert "/product1/gw1/child/child1/properties/read" not in [topic for topic, _ in platform.came], "its own command"
        gateway.disconnect()
        gateway.loop_stop()


def a_message_while_the_platform_is_away_is_in_the_stream_alone():
    with tempfile.TemporaryDirectory() as folder, _Stage(folder) as stage:
        with _Platform(stage) as platform:
            stage.publish("event/seen", '{"data":1}')
            platform.first("/product1/device1/event/seen")
        stage.publish("event/missed", '{"data":2}')
        with _Platform(stage) as platform:
            # What is handed on keeps its order, so what comes later shows that the other never will.
            stage.publish("event/later", '{"data":3}')
            platform.first("/product1/device1/event/later")
            assert not [topic for topic, _ in platform.came if topic.endswith("/missed")], platform.came
        server = f"nats://bridge:bridge-secret@127.0.0.1:{stage.nats_port}"
        stored = shell(f"{TOOLS}/bin/nats --server {server} stream get JETLINKS_DEVICE --last-for jetlinks.device.product1.device1.event.missed")
        assert '"data":2' in stored, stored


def the_lines_of_moved_devices_are_imported():
    lines = re.findall(r"^ +(\{\"id\".*\})$", section(GUIDE, "Moving devices"), re.MULTILINE)
    assert len(lines) == 3, lines
    with tempfile.TemporaryDirectory() as folder, _Stage(folder) as stage:
        given = ["--config", f"{folder}/bridge.toml", "--set", "registry.source=nats"]
        subprocess.run([BRIDGE, "devices", "import", *given, "-"], input="\n".join(lines), text=True, check=True, cwd=folder)
        listed = subprocess.run([BRIDGE, "devices", "ls", *given], text=True, check=True, capture_output=True, cwd=folder).stdout
        assert all(name in listed for name in ("device7", "gw7", "child7")), listed
        told = subprocess.run([BRIDGE, "credentials", "device7", *given], text=True, check=True, capture_output=True, cwd=folder).stdout
        assert "-i device7" in told, told
