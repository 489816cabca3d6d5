"""A device on aiocoap: posts one body and prints the code of the answer.

Usage: coap_device.py PORT DEVICE PATH BODY_IN_HEX
"""

import asyncio
import sys

from aiocoap import POST, Context, Message
from aiocoap.numbers import OptionNumber
from aiocoap.optiontypes import OpaqueOption

PATIENCE_SECONDS = 20

port, device, path, body = sys.argv[1:]


async def main():
    context = await Context.create_client_context()
    request = Message(code=POST, uri=f"coap://127.0.0.1:{port}{path}", payload=bytes.fromhex(body))
    request.opt.add_option(OpaqueOption(OptionNumber(2100), device.encode()))
    answer = await asyncio.wait_for(context.request(request).response, PATIENCE_SECONDS)
    code = int(answer.code)
    print(f"{code >> 5}.{code & 31:02}")
    await context.shutdown()


asyncio.run(main())
