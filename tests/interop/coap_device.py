"""A device on aiocoap: posts one body and prints the code of the answer, and its payload.

Usage: coap_device.py PORT DEVICE PATH BODY_IN_HEX [BYTES_OF_A_BLOCK_OF_THE_ANSWER]
"""

import asyncio
import sys

from aiocoap import POST, Context, Message
from aiocoap.numbers import OptionNumber
from aiocoap.optiontypes import BlockOption, OpaqueOption

PATIENCE_SECONDS = 60

port, device, path, body = sys.argv[1:5]
block_bytes = [int(size) for size in sys.argv[5:]]


async def main():
    context = await Context.create_client_context()
    request = Message(code=POST, uri=f"coap://127.0.0.1:{port}{path}", payload=bytes.fromhex(body))
    request.opt.add_option(OpaqueOption(OptionNumber(2100), device.encode()))
    for size in block_bytes:
        # The exponent begins with 16 bytes (RFC 7959 section 2.2).
        request.opt.block2 = BlockOption.BlockwiseTuple(0, False, size.bit_length() - 5)
    answer = await asyncio.wait_for(context.request(request).response, PATIENCE_SECONDS)
    code = int(answer.code)
    print(f"{code >> 5}.{code & 31:02} {answer.payload.decode()}".strip())
    await context.shutdown()


asyncio.run(main())
