"""A service between a client and the helper that spoils answers, to show that a replayed client would notice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from confcom.aesm.messages import MessageKind
from testkit.replay import wire
from testkit.replay.helper import RunningHelper

Spoil = Callable[[MessageKind, int, bytes], tuple[bytes, ...]]
"""The call, how many of its kind came before, and the helper's answer with its header; returns what to send, by one
write() each."""


@contextlib.contextmanager
def spoiling(helper: RunningHelper, address: Path | bytes, spoil: Spoil) -> Iterator[None]:
    """Listen at an address (abstract, if it is bytes) as long as the block runs."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address if isinstance(address, bytes) else str(address))
        listener.listen(16)
        thread = threading.Thread(target=_serve, args=(listener, helper, spoil))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            thread.join()


def _serve(listener: socket.socket, helper: RunningHelper, spoil: Spoil) -> None:
    seen: dict[MessageKind, int] = {}
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(ConnectionError):
            # What a client does after it has given up is of no interest.
            header = connection.recv(wire.HEADER_SIZE, socket.MSG_WAITALL)
            body = connection.recv(int.from_bytes(header, "little"), socket.MSG_WAITALL)
            (number,) = wire.fields(body)
            call = MessageKind(number)
            for piece in spoil(call, seen.get(call, 0), helper.send(header + body)):
                connection.sendall(piece)
            seen[call] = seen.get(call, 0) + 1
