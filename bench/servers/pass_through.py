"""A relay that only passes bytes on: what any relay in Python costs, without parsing, checks, limits or fair turns.

Usage: python -m bench.servers.pass_through SOCKET UPSTREAM
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

RECEIVE_BYTES = 65_536
"""More than a request or an answer: either arrives by one call."""
BACKLOG = 128


def serve(path: Path, upstream: str) -> None:
    """Serve for ever, one connection at a time."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        while True:
            client, _ = listener.accept()
            with client, socket.socket(socket.AF_UNIX) as service:
                request = client.recv(RECEIVE_BYTES)
                service.connect(upstream)
                service.sendall(request)
                client.sendall(service.recv(RECEIVE_BYTES))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
