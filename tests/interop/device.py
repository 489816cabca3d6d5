"""A device on Eclipse Paho: reports at each QoS, answers one function, leaves.

Usage: device.py VERSION PORT PRODUCT DEVICE USERNAME PASSWORD
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt

PATIENCE_SECONDS = 60
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311}

version, port, product, device, username, password = sys.argv[1:]
prefix = f"/{product}/{device}"
subscribed = threading.Event()
answered = threading.Event()
granted = []


def on_connect(client, userdata, flags, reason, properties):
    assert reason == 0, reason
    assert not flags.session_present
    client.subscribe(f"{prefix}/#", qos=2)


def on_subscribe(client, userdata, mid, reasons, properties):
    granted.extend(reason.value for reason in reasons)
    subscribed.set()


def on_message(client, userdata, message):
    command = json.loads(message.payload)
    reply = {
        "messageId": command["messageId"],
        "functionId": command["functionId"],
        "output": sum(given["value"] for given in command["inputs"]),
    }
    answer = client.publish(f"{message.topic}/reply", json.dumps(reply), qos=1)
    threading.Thread(target=lambda: (answer.wait_for_publish(PATIENCE_SECONDS), answered.set())).start()


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=device, protocol=VERSIONS[version], clean_session=True
)
client.username_pw_set(username, password)
client.on_connect = on_connect
client.on_subscribe = on_subscribe
client.on_message = on_message
client.connect("127.0.0.1", int(port), keepalive=30)
client.loop_start()

assert subscribed.wait(PATIENCE_SECONDS), "no SUBACK"
assert granted == [1], granted
for qos in range(3):
    report = client.publish(f"{prefix}/properties/report", json.dumps({"properties": {"qos": qos}}), qos=qos)
    report.wait_for_publish(PATIENCE_SECONDS)
    assert report.is_published(), f"QoS {qos} was not acknowledged"
assert answered.wait(PATIENCE_SECONDS), "no command"
client.disconnect()
client.loop_stop()
