"""Ask whoever serves the path, as a client does: can it quote, and for which quoting enclave?"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.aesm.answers import PUB_KEY_ID_SIZE
from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import InitQuoteExRequest, InitQuoteExResponse, QuotingResponse
from confcom.aesm.session import ClientSession
from confcom.errors import ConfcomError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

_REQUEST: Final = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=PUB_KEY_ID_SIZE)
_CHUNK_BYTES: Final = 4096
"""More than an answer to InitQuoteEx has."""


@dataclass(frozen=True, slots=True)
class HolderAnswer:
    """What an instance told of itself."""

    can_quote: bool
    """Busy counts as able, since it works for others; so does whoever could not be asked."""
    target_info: bytes = b""
    """Of its quoting enclave; empty if it gave none."""


_CANNOT_QUOTE: Final = HolderAnswer(can_quote=False)
_UNKNOWN: Final = HolderAnswer(can_quote=True)


async def ask_holder(path: Path, *, deadline_seconds: float) -> HolderAnswer:
    """Send one InitQuoteEx. That no answer comes is an answer too: it cannot quote.

    Args:
        path: the socket.
        deadline_seconds: for everything.
    """
    try:
        async with asyncio.timeout(deadline_seconds):
            response = await _init(path)
    except (TimeoutError, ConnectionError, FileNotFoundError, ConfcomError):
        return _CANNOT_QUOTE
    except OSError:
        # It could not be asked: its backlog is full, or we have no descriptor.
        return _UNKNOWN
    if not isinstance(response, InitQuoteExResponse):
        return _CANNOT_QUOTE
    if response.error_code == AesmErrorCode.SUCCESS:
        return HolderAnswer(can_quote=True, target_info=response.target_info or b"")
    return HolderAnswer(can_quote=response.error_code == AesmErrorCode.BUSY)


async def _init(path: Path) -> QuotingResponse:
    loop = asyncio.get_running_loop()
    session = ClientSession(_REQUEST)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        # At once or never: a unix socket's connect() waits for nothing but a place in the backlog.
        client.connect(os.fspath(path))
        await loop.sock_sendall(client, session.data_to_send)
        while (response := session.receive(await loop.sock_recv(client, _CHUNK_BYTES))) is None:
            pass
    return response
