"""Prints who comes and goes as presence.py does, from the stream of NATS.

    NATS_URL=nats://127.0.0.1:4222 python presence_jetstream.py
"""

import asyncio
import json
import os
import sys
import time

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from presence import PERIOD, Presence

# Presence of devices, all that concerns children, and heartbeats; not what devices report.
SUBJECTS = [
    "jetlinks.device.*.*.online",
    "jetlinks.device.*.*.offline",
    "jetlinks.device.*.*.child.>",
    "jetlinks.bridge.replica.*",
]


async def main():
    connection = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1, reconnect_time_wait=1
    )
    # From the beginning, for this program alone: the server forgets the consumer an hour after the program has gone.
    consumer = await connection.jetstream().pull_subscribe(
        None,
        stream="JETLINKS_DEVICE",
        config=ConsumerConfig(
            filter_subjects=SUBJECTS,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=3600,
        ),
    )
    presence, shown, passed = Presence(), set(), time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            # The messages that the consumer has not delivered yet, at the moment of the question.
            left = (await consumer.consumer_info()).num_pending
            while left > 0:
                for message in await consumer.fetch(min(left, 500), timeout=5):
                    presence.note(json.loads(message.data))
                    left -= 1
        except (nats.errors.Error, asyncio.TimeoutError) as error:
            print("the server does not answer:", error, file=sys.stderr)
            await asyncio.sleep(PERIOD)
            continue
        # A server that was away, or a program that stood still, makes no replica silent.
        presence.pass_time(min(asked - passed, 2 * PERIOD))
        passed = asked
        online = presence.online()
        for device in sorted(shown ^ online):
            print(device, "online" if device in online else "offline", flush=True)
        shown = online
        await asyncio.sleep(PERIOD)


if __name__ == "__main__":
    asyncio.run(main())
