"""Gives a device a command over Kafka and prints its outcome, one line, as command.py does.

    python command_kafka.py product1/device1 READ_PROPERTY '{"properties":["sn"]}'
    python command_kafka.py product1/gw1/child/child1 INVOKE_FUNCTION '{"functionId":"beep"}'
"""

import json
import os
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

TOPIC_COMMANDS, TOPIC_OUTCOMES = "jetlinks.command", "jetlinks.reply"
# The bridge waits for 10 s for the device. It may read the record late, too.
PATIENCE = 20.0


def main(address, kind, body="{}"):
    broker = {"bootstrap.servers": os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092")}
    outcomes = Consumer(broker | {"group.id": "unused", "enable.auto.commit": False})
    # From the end as it is before the command is written. A service reads outcomes all the time, in one consumer, and hands
    # each to whoever waits under its correlation id.
    partitions = outcomes.list_topics(TOPIC_OUTCOMES, timeout=30).topics[TOPIC_OUTCOMES].partitions
    ends = [TopicPartition(TOPIC_OUTCOMES, number) for number in partitions]
    for end in ends:
        end.offset = outcomes.get_watermark_offsets(end, timeout=30)[1]
    outcomes.assign(ends)

    correlation = uuid.uuid4().hex
    product, device, *child = address.split("/")
    command = json.loads(body) | {"messageType": kind, "productId": product, "deviceId": device}
    if child:
        command |= {"deviceId": child[-1], "gatewayId": device}
    producer = Producer(broker | {"enable.idempotence": True})
    # The key is the connected device, for a child its gateway: so commands of one device stay in order.
    producer.produce(TOPIC_COMMANDS, json.dumps(command), key=device, headers={"correlation-id": correlation})
    producer.flush()

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        record = outcomes.poll(0.5)
        if record is None or record.error() or dict(record.headers() or []).get("correlation-id") != correlation.encode():
            continue
        data = json.loads(record.value())["data"]
        if data.get("success", True):
            print("reply", json.dumps(data))
            return 0
        print("failed", data.get("code", "-"), data.get("message", ""))
        return 1
    # Without NATS between the replicas nobody answers for a device that no replica holds.
    print("offline")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
