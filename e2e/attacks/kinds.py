"""The attacks. Each attack runs until its time is over, and returns counts, which the program prints as JSON.

Usage: python -m e2e.attacks.kinds KIND SECONDS WHERE...

A separate process attacks each address WHERE.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import random
import resource
import select
import socket
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import TARGET_INFO_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.passing_descriptors import MOST_PER_MESSAGE, pass_lingering, pass_own_end
from testkit.replay import wire

Over = Callable[[], bool]
Worth = Callable[[socket.socket, int], bool]
"""Whether a connection with these poll events is still worth holding."""

AT_ONCE = 32
"""Number of connections between two pauses: some thousands a second. Attacks aim at the helper's memory and
places: the kernel's backlog, which has no fair shares, can be filled by any process that connects."""
PAUSE_SECONDS = 0.005
WHOLE_ANSWER = 16_000
"""If at least this many bytes are unread, the whole answer has come, not a refusal; LONGEST is slightly larger."""
UIDS = (100_000, 2_000_000_000)
"""Range of random user IDs; no distribution assigns any of them."""
PER_PROCESS = 256
"""Connections of a process that then exits, before the helper has accepted the last of the connections."""
COMPLAINERS = 600
"""Number of user IDs that cause log lines."""
PROBES = (b"/metrics", b"/readyz")
CROWD = 30
"""Two loops request metrics; the larger loop has this number of simultaneous connections."""
FLOODERS = 4
"""Number of connections that request quotes in a loop; one core cannot serve so many at the same time."""
ANSWER_SECONDS = 5.0
"""Seconds to wait for one answer; after that the attacker sends the next request."""
RETRY_SECONDS = 0.1

LONGEST = 16_384
"""Largest buffer, in bytes, that a client may ask the helper to fill."""
LONGEST_REQUEST = 8_192
INIT_QUOTE_EX, GET_QUOTE_EX = 15, 17
"""Protobuf field numbers of both calls, the same in requests and in answers."""
TARGET_INFO = 2
"""Field number of the target info in an answer to InitQuoteEx."""
KEY = ECDSA_P256_KEY_ID.encode()
INIT = wire.frame(wire.data(INIT_QUOTE_EX, wire.data(1, KEY) + wire.number(3, 1) + wire.number(4, 32)))
INCOMPLETE = LONGEST_REQUEST.to_bytes(wire.HEADER_SIZE, "little") + bytes(8_000)
MORE_THAN_PLACES = 4_500
"""Number of connections: more than the helper's 4,096 places."""
MALFORMED = wire.frame(b"\xff" * 100)
SPARE_DESCRIPTORS = 512
"""Number of descriptors that stay free for other files and for connections made between two checks."""
LOOK_SECONDS = 0.5
"""Seconds between two checks of the held connections."""
RENEWED_SHARE = 0.02
"""Share of the connections that each check closes, oldest first, while an attacker can hold no more."""
GONE = select.POLLHUP | select.POLLRDHUP | select.POLLERR


def most_descriptors() -> int:
    """Raise the limit of open files as far as this process may; return how many connections it can hold."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most - SPARE_DESCRIPTORS


@dataclass(slots=True)
class Counts:
    """Number of connections that an attacker made."""

    made: int = 0


class Held:
    """Up to `most` connections, ordered by age. Each is held while `worth` accepts its poll events."""

    def __init__(self, most: int, worth: Worth) -> None:
        self._most = most
        self._worth = worth
        self._looked = time.monotonic()
        self._held: deque[socket.socket] = deque()
        self.counts = Counts()

    def add(self, sock: socket.socket) -> None:
        """Hold one more connection; it stays open at least until the next call of `look`."""
        self._held.append(sock)

    @property
    def full(self) -> bool:
        return len(self._held) >= self._most

    def look(self) -> None:
        """Once per LOOK_SECONDS, close worthless connections; if `full`, also close some of the oldest."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        poll = select.poll()
        for sock in self._held:
            poll.register(sock, select.POLLIN | select.POLLRDHUP)
        told = dict(poll.poll(0))
        kept: deque[socket.socket] = deque()
        for sock in self._held:
            if self._worth(sock, told.get(sock.fileno(), 0)):
                kept.append(sock)
            else:
                sock.close()
        self._held = kept
        if self.full:
            for _ in range(max(1, int(len(kept) * RENEWED_SHARE))):
                kept.popleft().close()

    def close(self) -> None:
        while self._held:
            self._held.popleft().close()


def connect(path: str, request: bytes, counts: Counts) -> socket.socket | None:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(1.0)  # time limit of sendall(); connect() fails at once if the backlog is full
    try:
        made.connect(path)
        made.sendall(request)
    except OSError:
        made.close()
        return None
    counts.made += 1
    return made


def unread_bytes(sock: socket.socket) -> int:
    size = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(sock, termios.FIONREAD, size)
    return size[0]


Attack = Callable[[str, Over], Counts]
"""An attack on a helper. The text is the AESM socket's path; for probes it is a path or HOST:PORT."""


def quote_request(path: str, over: Over) -> bytes:
    """A GetQuoteEx request for the longest answer, with a report that the helper's enclave accepts."""
    target = bytes(TARGET_INFO_SIZE)
    while not over():
        # Other attackers may cause the helper to refuse the request or to close the connection.
        with contextlib.suppress(OSError, ValueError):
            if found := _target_info(_answer(path, INIT)):
                target = found
                break
        time.sleep(RETRY_SECONDS)
    report = SimulatedEnclave.from_name("attacker").create_report(TargetInfo.parse(target), bytes(64))
    asked = wire.data(1, report.encode()) + wire.data(2, KEY) + wire.number(4, LONGEST)
    request: bytes = wire.frame(wire.data(GET_QUOTE_EX, asked))
    return request


def _target_info(answer: bytes) -> bytes:
    """Target info in an answer to InitQuoteEx; empty if the answer has none."""
    found = wire.nested_fields(answer[wire.HEADER_SIZE :]).get(INIT_QUOTE_EX, {}).get(TARGET_INFO)
    return found if isinstance(found, bytes) else b""


def _answer(where: str, request: bytes) -> bytes:
    answer = b""
    with _connected(where) as sock:
        sock.sendall(request)
        while chunk := sock.recv(LONGEST):
            answer += chunk
    return answer


def _connected(where: str) -> socket.socket:
    if not where.startswith("/"):
        host, _, port = where.rpartition(":")
        return socket.create_connection((host, int(port)), ANSWER_SECONDS)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(ANSWER_SECONDS)
    sock.connect(where)
    return sock


def _unread_or_open(sock: socket.socket, events: int) -> bool:
    """Whether a whole answer waits to be read, or no answer has come."""
    return unread_bytes(sock) >= WHOLE_ANSWER or not events


def _open(_: socket.socket, events: int) -> bool:
    """Whether the helper has neither answered nor closed the connection."""
    return not events


def _not_gone(_: socket.socket, events: int) -> bool:
    return not events & GONE


@dataclass(frozen=True, slots=True)
class Holding:
    """An attack that sends one request on as many connections as can be held, as one user or as thousands."""

    request: Callable[[str, Over], bytes]
    worth: Worth
    by_users: bool = False
    most: int = 1 << 20
    """Largest number of simultaneous connections, if there are descriptors for all of them."""

    def __call__(self, path: str, over: Over) -> Counts:
        request, uids = self.request(path, over), _random_uids()
        held = Held(min(self.most, most_descriptors()), self.worth)
        while not over():
            held.look()
            for _ in range(0 if held.full else AT_ONCE):
                connecting = partial(_as_user, next(uids)) if self.by_users else connect
                sock = connecting(path, request, held.counts)
                if sock is None:
                    break
                held.add(sock)
            time.sleep(PAUSE_SECONDS)
        held.close()
        return held.counts


def _as_user(uid: int, path: str, request: bytes, counts: Counts) -> socket.socket | None:
    os.seteuid(uid)
    try:
        return connect(path, request, counts)
    finally:
        os.seteuid(0)


def _random_uids() -> Iterator[int]:
    chosen = random.Random()  # noqa: S311 # user IDs, not secrets
    while True:
        yield chosen.randint(*UIDS)


def gone_peers(path: str, over: Over, *, held: bool = False) -> Counts:
    """Connect as thousands of users whose processes exit at once; with `held`, the connections stay open."""
    holding, uids = Held(most_descriptors(), _not_gone), _random_uids()
    while not over():
        holding.look()
        if holding.full:
            time.sleep(PAUSE_SECONDS)
            continue
        socks = [socket.socket(socket.AF_UNIX) for _ in range(PER_PROCESS)] if held else []
        _connect_and_exit(path, socks, uids, [b"\1"])
        holding.counts.made += PER_PROCESS
        for sock in socks:
            holding.add(sock)
    holding.close()
    return holding.counts


def complaints(path: str, over: Over) -> Counts:
    """With malformed requests and quotes, cause log lines about 600 users whose processes have exited."""
    counts, quote = Counts(), quote_request(path, over)
    uids = itertools.cycle(range(UIDS[0], UIDS[0] + COMPLAINERS))
    while not over():
        socks = [socket.socket(socket.AF_UNIX) for _ in range(PER_PROCESS)]
        _connect_and_exit(path, socks, uids, [quote, MALFORMED])
        counts.made += PER_PROCESS
        for sock in socks:
            sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                while sock.recv(LONGEST):
                    pass
            sock.close()
    return counts


def _connect_and_exit(path: str, socks: list[socket.socket], uids: Iterator[int], requests: Sequence[bytes]) -> None:
    """Connect as several users in a child process, which then exits; user after user sends the next request.

    Sockets in `socks` stay open in this process. If `socks` is empty, the child makes and closes sockets.
    """
    chosen = list(itertools.islice(uids, PER_PROCESS))
    child = os.fork()
    if not child:
        try:
            own = socks or [socket.socket(socket.AF_UNIX) for _ in chosen]
            for sock, uid, request in zip(own, chosen, itertools.cycle(requests), strict=False):
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


def flood(path: str, over: Over) -> Counts:
    request = quote_request(path, over)
    return _in_threads(FLOODERS, over, lambda: _answer(path, request))


def probes(where: str, over: Over, *, connections: int = 1) -> Counts:
    targets = itertools.cycle(PROBES)

    def ask() -> None:
        _answer(where, b"GET " + next(targets) + b" HTTP/1.1\r\nHost: probes\r\n\r\n")

    return _in_threads(connections, over, ask)


def lingering(path: str, over: Over, *, rate: float, number: int = 1) -> Counts:
    return Counts(pass_lingering(path, over, rate=rate, number=number))


def own_ends(path: str, over: Over, *, by_users: bool = False) -> Counts:
    """Repeatedly leave the longest answer unread, pass this end of the connection to the helper, and exit."""
    request, counts, uids = quote_request(path, over), Counts(), _random_uids()
    while not over():
        child = os.fork()
        if not child:
            try:
                if by_users:
                    os.seteuid(next(uids))
                pass_own_end(path, request)
            finally:
                os._exit(0)
        next(uids)
        os.waitpid(child, 0)
        counts.made += 1
        time.sleep(PAUSE_SECONDS)
    return counts


def _in_threads(number: int, over: Over, ask: Callable[[], object]) -> Counts:
    counts = [Counts() for _ in range(number)]

    def work(own: Counts) -> None:
        while not over():
            with contextlib.suppress(OSError):
                ask()
                own.made += 1

    threads = [threading.Thread(target=work, args=(own,)) for own in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counts(sum(own.made for own in counts))


def _always(request: bytes) -> Callable[[str, Over], bytes]:
    return lambda _, __: request


KINDS: Mapping[str, Attack] = MappingProxyType(
    {
        "unread": Holding(quote_request, _unread_or_open),
        "incomplete": Holding(_always(INCOMPLETE), _open),
        "silent": Holding(_always(b""), _open, most=MORE_THAN_PLACES),
        "header": Holding(_always(INCOMPLETE[: wire.HEADER_SIZE]), _open, most=200),
        "gone-peers-held": partial(gone_peers, held=True),
        "gone-peers": gone_peers,
        "effective-users": Holding(_always(b"\1"), _not_gone, by_users=True),
        "unread-by-users": Holding(quote_request, _unread_or_open, by_users=True),
        "incomplete-by-users": Holding(_always(INCOMPLETE), _open, by_users=True),
        "complaints": complaints,
        "flood": flood,
        "lingering": partial(lingering, rate=20.0),
        "lingering-slowly": partial(lingering, rate=1.0),
        "lingering-many": partial(lingering, rate=1.0, number=MOST_PER_MESSAGE),
        "lingering-fast": partial(lingering, rate=200.0),
        "own-ends": own_ends,
        "own-ends-by-users": partial(own_ends, by_users=True),
        "probes": probes,
        "crowd-of-probes": partial(probes, connections=CROWD),
    }
)
"""Attacks by their names on the command line."""


def attack(kind: str, seconds: float, where: str) -> dict[str, int]:
    ends = time.monotonic() + seconds
    return dataclasses.asdict(KINDS[kind](where, lambda: time.monotonic() >= ends))


def main(argv: Sequence[str]) -> int:
    kind, seconds, *places = argv
    with ProcessPoolExecutor(len(places)) as pool:
        running = [pool.submit(attack, kind, float(seconds), where) for where in places]
        done = {where: one.result() for where, one in zip(places, running, strict=True)}
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
