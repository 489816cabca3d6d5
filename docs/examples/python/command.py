"""Gives a device a command over NATS and prints its outcome, one line.

    python command.py product1/device1 properties.read '{"properties":["sn"]}'
    python command.py product1/gw1/child/child1 function.invoke '{"functionId":"beep"}'
    python command.py product1/device1 properties.write '{"properties":{"a":1}}' --async

    reply {...}             the device's reply
    accepted                with --async: the device has it; the reply follows as a line of its own
    failed CODE message     the bridge or the device says no; after TIME_OUT and CONNECTION_LOST it may have acted
    offline                 nobody holds a session of the device
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
import urllib.parse
import uuid

import nats
from nats.errors import NoRespondersError

# How long "no responders" is taken for a restart of a replica or a server, not for a device that is offline.
PATIENCE = 15.0


def subject_of(device, what):
    """The subject: each id is one token, with bytes outside A-Z a-z 0-9 _ - percent-encoded."""
    def encode(id):
        return urllib.parse.quote(id, safe="").replace(".", "%2E").replace("~", "%7E")
    return ".".join(["jetlinks.command", *map(encode, device.split("/")), what])


async def request(connection, subject, body):
    """The outcome's envelope, or None for a device that is offline."""
    # The request waits longer than the bridge does, which always answers.
    timeout = body.get("headers", {}).get("timeout", 10_000) / 1000 + 2
    pause, end = 0.25, time.monotonic() + PATIENCE
    while True:
        try:
            answer = await connection.request(subject, json.dumps(body).encode(), timeout=timeout)
            # Some failures have no body, but all have the headers.
            if not answer.data:
                code = (answer.headers or {}).get("Nats-Service-Error-Code", "SYSTEM_ERROR")
                return {"origin": "bridge", "data": {"success": False, "code": code, "message": ""}}
            return json.loads(answer.data)
        except NoRespondersError:
            # Nothing was delivered, so it is safe to ask again.
            if time.monotonic() >= end:
                return None
            print("no responders, once more", file=sys.stderr, flush=True)
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 4.0)


def show(envelope):
    data = envelope["data"]
    if envelope["origin"] == "bridge" and data.get("code") == "REQUEST_HANDLING":
        print("accepted", flush=True)
    elif data.get("success", True):
        print("reply", json.dumps(data), flush=True)
    else:
        print("failed", data.get("code", "-"), data.get("message", ""), flush=True)
        return 1
    return 0


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("device", help="product/device, or product/gateway/child/child")
    parser.add_argument("what", help="properties.read, function.invoke, ...")
    parser.add_argument("body", nargs="?", default="{}", type=json.loads)
    parser.add_argument("--async", dest="is_async", action="store_true")
    arguments = parser.parse_args()
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1)
    # An id of the caller's own, by which it knows the reply again.
    body = {"messageId": uuid.uuid4().hex} | arguments.body
    if arguments.is_async:
        body["headers"] = body.get("headers", {}) | {"async": True}
        # Replies go to the stream, under the same words; what a stream stores can be subscribed to as well. First this,
        # then the command, else the reply may come between them.
        replies = await connection.subscribe(subject_of(arguments.device, arguments.what + ".reply").replace(
            "jetlinks.command.", "jetlinks.device.", 1))
        await connection.flush()
    outcome = await request(connection, subject_of(arguments.device, arguments.what), body)
    if outcome is None:
        print("offline", flush=True)
        return 1
    code = show(outcome)
    while arguments.is_async and code == 0:
        reply = json.loads((await replies.next_msg(timeout=60)).data)
        if reply["data"].get("messageId") == body["messageId"]:
            code = show(reply)
            break
    await connection.close()
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
