"""A probe of the instance that serves the path, sent like a client's request: can it quote, and with which enclave?"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import InitQuoteExRequest, InitQuoteExResponse, QuotingResponse
from confcom.aesm.request_checks import PUB_KEY_ID_SIZE
from confcom.aesm.session import ClientSession
from confcom.errors import ConfcomError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

_REQUEST: Final = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=PUB_KEY_ID_SIZE)
_CHUNK_BYTES: Final = 4096
"""More than the size of an answer to InitQuoteEx."""


@dataclass(frozen=True, slots=True)
class HolderStatus:
    """The result of a probe."""

    can_quote: bool
    """True also for BUSY, since the instance serves others, and if the probe itself failed."""
    target_info: bytes = b""
    """TargetInfo of its quoting enclave; empty if the instance gave none."""


_CANNOT_QUOTE: Final = HolderStatus(can_quote=False)
_UNKNOWN: Final = HolderStatus(can_quote=True)


async def probe_holder(path: Path, *, deadline_seconds: float) -> HolderStatus:
    """Send one InitQuoteEx to the instance at `path`. An instance that does not answer cannot quote."""
    try:
        async with asyncio.timeout(deadline_seconds):
            response = await _init(path)
    except (TimeoutError, ConnectionError, FileNotFoundError, ConfcomError):
        return _CANNOT_QUOTE
    except OSError:
        # The probe failed: the instance's backlog is full, or this process is out of descriptors.
        return _UNKNOWN
    if not isinstance(response, InitQuoteExResponse):
        return _CANNOT_QUOTE
    if response.error_code == AesmErrorCode.SUCCESS:
        return HolderStatus(can_quote=True, target_info=response.target_info or b"")
    return HolderStatus(can_quote=response.error_code == AesmErrorCode.BUSY)


async def _init(path: Path) -> QuotingResponse:
    loop = asyncio.get_running_loop()
    session = ClientSession(_REQUEST)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        # A unix socket's connect() would wait only for room in the backlog; non-blocking, it succeeds or fails at once.
        client.connect(os.fspath(path))
        await loop.sock_sendall(client, session.data_to_send)
        while (response := session.receive(await loop.sock_recv(client, _CHUNK_BYTES))) is None:
            pass
    return response
