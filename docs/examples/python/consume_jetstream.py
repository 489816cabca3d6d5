"""Prints each envelope of the stream once: id, device, type, data.

    NATS_URL=nats://127.0.0.1:4222 python consume_jetstream.py

Several of these share the messages, as they share a durable consumer, whose position the server keeps. A message is
acknowledged behind the work, so a crash loses nothing: the server delivers again what was not acknowledged.
"""

import asyncio
import json
import os
import signal
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig

from seen import Seen

BATCH = 500


def work(envelope):
    """The work of the application."""
    type = envelope["type"].removeprefix("org.jetlinks.")
    print(envelope["id"], envelope.get("deviceid", "-"), type, json.dumps(envelope["data"]), flush=True)


async def main():
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    connection = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        # Without an end: a server that is away comes back.
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
    )
    consumer, seen = None, Seen()
    while not stopped.is_set():
        try:
            consumer = consumer or await connection.jetstream().pull_subscribe(
                # All that devices and bridge say; heartbeats and rejected messages are in the stream as well.
                "jetlinks.device.>",
                stream="JETLINKS_DEVICE",
                durable=os.environ.get("DURABLE", "example"),
                config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=30, max_ack_pending=4 * BATCH),
            )
            messages = await consumer.fetch(BATCH, timeout=0.5)
        except asyncio.TimeoutError:
            continue  # Nothing came, or the server is away.
        except nats.errors.Error as error:
            # No stream yet, or a server that has just come back. It is asked again.
            print(error, file=sys.stderr)
            await asyncio.sleep(1)
            continue
        for message in messages:
            envelope = json.loads(message.data)
            if not seen.is_copy(envelope["id"]):
                work(envelope)
            # One that gets lost is no harm: the message comes again, and is a copy.
            await message.ack()
    await connection.drain()


if __name__ == "__main__":
    asyncio.run(main())
