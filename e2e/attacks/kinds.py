"""The attacks. Each goes on until it is told that its time is over, and returns what it did."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from e2e.attacks import requests
from e2e.attacks.held import GONE, Counts, Held, connect, most_descriptors, unread_bytes

Over = Callable[[], bool]
Attack = Callable[[str, Over], Counts]
"""Given where the helper is: the path of its socket, or where its probes are asked, a path or HOST:PORT."""

AT_ONCE = 32
"""Connections between two pauses: with these, some thousand a second. What is attacked is memory and places; the
kernel's backlog, which nobody shares fairly, can be filled by whoever only connects."""
PAUSE_SECONDS = 0.005
WHOLE_ANSWER = 60_000
"""An answer of which so much is unread is a whole one, and no refusal."""
UIDS = (100_000, 2_000_000_000)
"""From which random user IDs are taken: none that a distribution has."""
PER_PROCESS = 256
"""Connections of a process that then exits: so many that it is gone before the helper has accepted the last of them."""
COMPLAINERS = 600
"""User IDs that cause log lines."""
METRICS = b"/metrics"
PROBES = (METRICS, b"/readyz")
CROWD = 30
"""Connections at once of the larger of the two loops that ask for metrics."""
PROBE_SECONDS = 5.0
"""For one answer; then the next is asked for."""


def unread(path: str, over: Over) -> Counts:
    """Have whole quotes sent, and never read them."""
    return _hold(path, over, requests.quote_request(path, over), _unread_or_open)


def incomplete(path: str, over: Over) -> Counts:
    """Send nearly all of a long request, and wait."""
    return _hold(path, over, requests.INCOMPLETE, _open)


def _unread_or_open(sock: socket.socket, events: int) -> bool:
    """Whether a whole answer waits to be read, or none has come."""
    return unread_bytes(sock) >= WHOLE_ANSWER or not events


def _open(_: socket.socket, events: int) -> bool:
    """Whether the helper has neither answered nor closed."""
    return not events


def _not_gone(_: socket.socket, events: int) -> bool:
    return not events & GONE


def _hold(
    path: str,
    over: Over,
    request: bytes,
    worth: Callable[[socket.socket, int], bool],
    uids: Iterator[int] | None = None,
) -> Counts:
    held = Held(most_descriptors(), worth)
    while not over():
        held.look()
        for _ in range(0 if held.full else AT_ONCE):
            sock = connect(path, request, held.counts) if uids is None else _as(next(uids), path, request, held.counts)
            if sock is None:
                break
            held.add(sock)
        time.sleep(PAUSE_SECONDS)
    held.close()
    return held.counts


def _as(uid: int, path: str, request: bytes, counts: Counts) -> socket.socket | None:
    """Connect as another effective user."""
    os.seteuid(uid)
    try:
        return connect(path, request, counts)
    finally:
        os.seteuid(0)


def gone_peers_held(path: str, over: Over) -> Counts:
    """Be thousands of users whose processes are gone while their connections stay open."""
    held = Held(most_descriptors(), _not_gone)
    uids = _random_uids()
    while not over():
        held.look()
        if held.full:
            time.sleep(PAUSE_SECONDS)
            continue
        socks = [socket.socket(socket.AF_UNIX) for _ in range(PER_PROCESS)]
        _connect_and_exit(path, socks, uids, [b"\1"])
        held.counts.made += PER_PROCESS
        for sock in socks:
            held.add(sock)
    held.close()
    return held.counts


def gone_peers(path: str, over: Over) -> Counts:
    """Be thousands of users whose processes, and with them their connections, are gone at once."""
    counts = Counts()
    uids = _random_uids()
    while not over():
        _connect_and_exit(path, None, uids, [b"\1"])
        counts.made += PER_PROCESS
    return counts


def effective_users(path: str, over: Over) -> Counts:
    """Be thousands of users by changing the effective one of a process that goes on."""
    return _hold(path, over, b"\1", _not_gone, uids=_random_uids())


def unread_by_users(path: str, over: Over) -> Counts:
    """Have whole quotes sent to thousands of users, and never read them."""
    return _hold(path, over, requests.quote_request(path, over), _unread_or_open, uids=_random_uids())


def incomplete_by_users(path: str, over: Over) -> Counts:
    """Send nearly all of long requests as thousands of users, and wait."""
    return _hold(path, over, requests.INCOMPLETE, _open, uids=_random_uids())


def complaints(path: str, over: Over) -> Counts:
    """Cause log lines of 600 users whose processes are gone: by requests that are malformed, and by quotes."""
    counts = Counts()
    quote = requests.quote_request(path, over)
    first, _ = UIDS
    uids = itertools.cycle(range(first, first + COMPLAINERS))
    while not over():
        socks = [socket.socket(socket.AF_UNIX) for _ in range(PER_PROCESS)]
        _connect_and_exit(path, socks, uids, [quote, requests.MALFORMED])
        counts.made += PER_PROCESS
        for sock in socks:
            sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                while sock.recv(requests.LONGEST):
                    pass
            sock.close()
    return counts


def _random_uids() -> Iterator[int]:
    chosen = random.Random()  # noqa: S311 # user IDs, not secrets
    while True:
        yield chosen.randint(*UIDS)


def _connect_and_exit(
    path: str, socks: list[socket.socket] | None, uids: Iterator[int], requests_sent: Sequence[bytes]
) -> None:
    """Connect as several users in a process that then exits.

    Args:
        path: where.
        socks: unconnected ones, which stay open here; None: the process has its own, which its end closes.
        uids: who connects.
        requests_sent: one by each user in turn.
    """
    chosen = list(itertools.islice(uids, PER_PROCESS))
    child = os.fork()
    if not child:
        try:
            own = socks or [socket.socket(socket.AF_UNIX) for _ in chosen]
            for sock, uid, request in zip(own, chosen, itertools.cycle(requests_sent), strict=False):
                _connect_as(uid, path, sock, request)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _connect_as(uid: int, path: str, sock: socket.socket, request: bytes) -> None:
    os.setresuid(uid, uid, 0)
    with contextlib.suppress(OSError):
        sock.settimeout(1.0)
        sock.connect(path)
        sock.sendall(request)
    os.setresuid(0, 0, 0)


def probes(where: str, over: Over, *, connections: int = 1) -> Counts:
    """Ask for metrics and readiness in a loop, so many at a time."""
    counts = [Counts() for _ in range(connections)]
    renderings: set[bytes] = set()
    threads = [threading.Thread(target=_ask, args=(where, over, one, renderings)) for one in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made, refused = sum(one.made for one in counts), sum(one.refused for one in counts)
    return Counts(made, refused, connections, len(renderings))


def crowd_of_probes(where: str, over: Over) -> Counts:
    """The same by many."""
    return probes(where, over, connections=CROWD)


def _ask(where: str, over: Over, counts: Counts, renderings: set[bytes]) -> None:
    for target in itertools.cycle(PROBES):
        if over():
            return
        digest = hashlib.sha256()
        try:
            with _connected(where) as sock:
                sock.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: probes\r\n\r\n")
                while chunk := sock.recv(requests.LONGEST):
                    digest.update(chunk)
        except OSError:
            counts.refused += 1
            continue
        counts.made += 1
        if target == METRICS:
            renderings.add(digest.digest())


def _connected(where: str) -> socket.socket:
    if not where.startswith("/"):
        host, _, port = where.rpartition(":")
        return socket.create_connection((host, int(port)), PROBE_SECONDS)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PROBE_SECONDS)
    sock.connect(where)
    return sock


KINDS: Mapping[str, Attack] = MappingProxyType(
    {
        "unread": unread,
        "incomplete": incomplete,
        "gone-peers-held": gone_peers_held,
        "gone-peers": gone_peers,
        "effective-users": effective_users,
        "unread-by-users": unread_by_users,
        "incomplete-by-users": incomplete_by_users,
        "complaints": complaints,
        "probes": probes,
        "crowd-of-probes": crowd_of_probes,
    }
)
"""By the name that the command line knows."""
