"""Prints each envelope of the topic once: id, device, type, data.

    KAFKA_BROKERS=127.0.0.1:9092 python consume_kafka.py

Several of these share the partitions. The position is committed behind the work, so a crash loses nothing: what was
printed and not committed is printed again.
"""

import json
import os
import signal
import sys

from confluent_kafka import Consumer, KafkaException

from seen import Seen

BATCH = 500


def work(envelope):
    """The work of the application."""
    type = envelope["type"].removeprefix("org.jetlinks.")
    print(envelope["id"], envelope.get("deviceid", "-"), type, json.dumps(envelope["data"]), flush=True)


def main():
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    consumer = Consumer({
        "bootstrap.servers": os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092"),
        "group.id": os.environ.get("GROUP", "example"),
        "auto.offset.reset": "earliest",
        # Committed below, once the work is done.
        "enable.auto.commit": False,
        # The client looks for the broker itself while it is away; the pauses between its attempts grow to this.
        "reconnect.backoff.max.ms": 1000,
    })
    consumer.subscribe([os.environ.get("KAFKA_TOPIC", "jetlinks.device")])
    seen = Seen()
    is_committed = True
    while not stopped:
        for record in consumer.consume(BATCH, timeout=0.5):
            if record.error():
                print(record.error(), file=sys.stderr)
                continue
            envelope = json.loads(record.value())
            if not seen.is_copy(envelope["id"]):
                work(envelope)
            is_committed = False
        is_committed = is_committed or commit(consumer)
    is_committed or commit(consumer)
    consumer.close()


def commit(consumer):
    """Whether the broker has the position. While it is away the next commit makes up for this one."""
    try:
        consumer.commit(asynchronous=False)
        return True
    except KafkaException as error:
        print(error, file=sys.stderr)
        return False


if __name__ == "__main__":
    main()
