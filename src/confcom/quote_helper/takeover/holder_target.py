"""The TargetInfo that the instance at the path gives clients, asked for like a client does."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Final

from confcom.aesm.messages import InitQuoteExRequest, InitQuoteExResponse
from confcom.aesm.request_checks import PUB_KEY_ID_SIZE
from confcom.aesm.session import ClientSession
from confcom.errors import ConfcomError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

_REQUEST: Final = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=PUB_KEY_ID_SIZE)
_CHUNK_BYTES: Final = 4096
"""More than the size of an answer to InitQuoteEx."""


async def read_holder_target(path: Path, *, deadline_seconds: float) -> bytes:
    """Return the TargetInfo that the instance at `path` gives; empty if it gives none in time."""
    loop, session = asyncio.get_running_loop(), ClientSession(_REQUEST)
    try:
        async with asyncio.timeout(deadline_seconds):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.setblocking(False)
                # connect() would wait for room in the backlog; non-blocking, it succeeds or fails at once.
                client.connect(os.fspath(path))
                await loop.sock_sendall(client, session.data_to_send)
                while (response := session.receive(await loop.sock_recv(client, _CHUNK_BYTES))) is None:
                    pass
    except (OSError, ConfcomError):
        return b""
    return (isinstance(response, InitQuoteExResponse) and response.target_info) or b""
