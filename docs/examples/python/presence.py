"""Prints who comes and goes, by the rules of docs/wire.md ("Presence"): `device1 online`, `device1 offline`.

    KAFKA_BROKERS=127.0.0.1:9092 python presence.py

It reads the topic from its beginning and prints nothing until it has read all that is there. It needs every partition,
as the heartbeats of a replica are in another one than the presence of its devices, so it is in no group.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from seen import Seen

MISSED_BEATS = 3
# The interval of a bridge that does not tell it in its heartbeats.
INTERVAL = 30.0
# How often the broker is asked how much there is to read, seconds.
PERIOD = 0.5


@dataclass
class Session:
    id: str
    gateway: str | None  # Of a child: the device whose session it is.
    replica: str | None


@dataclass
class Replica:
    newest: float = 0.0  # When it last gave a sign of life, by its own clock.
    interval: float = INTERVAL
    silent: float = 0.0  # How long nothing has come from it, while the queue was there and read.


class Presence:
    """The rules. A device is online by what is known, so nothing is undone when a replica comes back."""

    def __init__(self):
        self.sessions = {}
        self.replicas = {}
        self.newest = 0.0
        self.is_current = False
        self.seen = Seen()

    def note(self, envelope):
        """Takes a record in, in the order of its partition."""
        recorded = datetime.fromisoformat(envelope["recordedtime"].replace("Z", "+00:00")).timestamp()
        self.newest = max(self.newest, recorded)
        kind = envelope["type"].removeprefix("org.jetlinks.")
        if kind not in ("device.online", "device.offline", "bridge.replica") or self.seen.is_copy(envelope["id"]):
            return
        if "replicaid" in envelope:
            replica = self.replicas.setdefault(envelope["replicaid"], Replica())
            replica.newest, replica.silent = max(replica.newest, recorded), 0.0
            if kind == "bridge.replica":
                replica.interval = envelope["data"].get("interval_ms", INTERVAL * 1000) / 1000
                return
        device, gateway = envelope["deviceid"], envelope.get("gatewayid")
        if envelope["origin"] == "device" and gateway is None:
            return  # The device's own words: its session is there all the same.
        if kind == "device.online":
            self.sessions[device] = Session(envelope["sessionid"], gateway, envelope.get("replicaid"))
        elif device in self.sessions and self.sessions[device].id == envelope["sessionid"]:
            del self.sessions[device]

    def pass_time(self, seconds):
        """Says that all is read that was stored, and that the queue has been there for so long since the last time."""
        for replica in self.replicas.values():
            # What was silent before the first time shows only in the records.
            replica.silent = replica.silent + seconds if self.is_current else self.newest - replica.newest
        self.is_current = True

    def online(self):
        """The devices that are online."""
        return {device for device, session in self.sessions.items() if self._lives(session)}

    def _lives(self, session):
        if session.gateway is not None:
            # A child is there as long as the session in which its gateway said so.
            gateway = self.sessions.get(session.gateway)
            return gateway is not None and gateway.id == session.id and self._lives(gateway)
        replica = self.replicas[session.replica]
        return replica.silent <= MISSED_BEATS * replica.interval


def main():
    consumer = Consumer({
        "bootstrap.servers": os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092"),
        "group.id": "unused",
        "enable.auto.commit": False,
        "reconnect.backoff.max.ms": 1000,
    })
    topic = os.environ.get("KAFKA_TOPIC", "jetlinks.device")
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])

    presence, shown = Presence(), set()
    # Where each partition must have been read to, and when the broker said so.
    ends, asked, passed = None, 0.0, time.monotonic()
    while True:
        for record in consumer.consume(500, timeout=PERIOD / 2):
            if not record.error():
                presence.note(json.loads(record.value()))
        if ends is None and time.monotonic() - asked >= PERIOD:
            asked = time.monotonic()
            ends = stored_until(consumer, topic, partitions)
        if ends is not None and is_read(consumer, topic, ends):
            # A broker that was away, or a program that stood still, makes no replica silent.
            presence.pass_time(min(asked - passed, 2 * PERIOD))
            ends, passed = None, asked
            online = presence.online()
            for device in sorted(shown ^ online):
                print(device, "online" if device in online else "offline", flush=True)
            shown = online


def stored_until(consumer, topic, partitions):
    """The end of each partition that has records; nothing while the broker does not answer."""
    try:
        marks = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=2) for number in partitions}
        return {number: high for number, (low, high) in marks.items() if low < high}
    except KafkaException as error:
        print(error, file=sys.stderr)
        return None


def is_read(consumer, topic, ends):
    positions = consumer.position([TopicPartition(topic, number) for number in ends])
    return all(position.offset >= ends[position.partition] for position in positions)


if __name__ == "__main__":
    main()
