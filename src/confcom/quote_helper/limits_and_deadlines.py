"""Limits on memory that clients share, and deadlines in seconds; modules define their own further limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

UNREAD_OVERHEAD: Final = 2048
"""Kernel memory in bytes for each unread answer, beside the answer's own bytes. Measured: up to 1,852."""
ANSWER_OVERHEAD: Final = UNREAD_OVERHEAD + 1024
"""UNREAD_OVERHEAD plus the bytes of an answer beside its quote; the QE's report takes 960 of these bytes."""
MIB: Final = 1024 * 1024
DEFAULT_MEMORY_LIMIT_MIB: Final = 256
"""Default of the chart for the container's memory limit."""
UNREAD_MEMORY_PART: Final = 32
"""Unread answers may take one part in 32 of the container's memory. With 256 MiB, a helper uses 50 MiB by itself, 10
for logs and metrics, 46 for 4,096 connections with the largest requests, 10 for 4,096 connections with unread answers,
and 8 for the unread answers. The other 132 MiB are for unread answers that sixteen earlier runs of the helper have
left: they stay charged to the Pod's memory control group after a restart."""
PEERS: Final = 128
"""Number of peers for which memory is set aside: more than the 110 Pods that a kubelet runs by default."""
UNREAD_RESERVE: Final = 20 * 1024
"""Bytes that are enough for an unread answer of any size."""
POOL_PART: Final = 4
"""One peer may hold one part in 4 of the memory for unread answers that is not reserved for single peers: with 256
MiB, 180 quotes of a simulated platform. A program with 64 clients is then not paused; with one part in 8 it was
paused, on a busy node. Four peers that do not read their answers leave only the reserves to the other peers."""
UNREAD_DESCRIPTORS_PART: Final = 3
"""One descriptor in 3 is for unread answers if descriptors are too few for all connections. Connections without an
answer get the larger part, because clients read their answers at once."""
QUOTE_BATCH: Final = 32
"""Number of calls of an inline provider whose answers are encoded and sent together afterwards: a batch costs a fifth
less than single calls (measured; the CPU's caches), and delays its first answer by 1.5 ms."""


@dataclass(frozen=True, slots=True)
class HelperLimits:
    """Caps and deadlines. Helpers use the defaults, adapted to memory and descriptors; tests use smaller values."""

    max_connections: int = 4096
    """Maximum number of connections without an answer. Each costs a file descriptor, 2.3 KiB (measured), and its
    request. A node has at most a few hundred containers, with one connection per request. At the limit, connections
    with incomplete requests are closed. Intel's aesmd crashes at 255 connections."""
    max_waiting: int = 2048
    """Maximum number of complete requests without an answer: half of `max_connections`, since a complete request
    cannot be shed for another connection, and an incomplete one can. A single peer may have half of `max_waiting`."""
    unread_memory: int = DEFAULT_MEMORY_LIMIT_MIB * MIB // UNREAD_MEMORY_PART
    """Bytes of kernel memory that the unread answers of all clients may take together."""
    least_unread: int = UNREAD_OVERHEAD
    """Least number of bytes that an unread answer counts as. Where descriptors are few, this number is so large that
    `unread_memory` is used up before the descriptors, and peers share descriptors by the rules for memory."""
    crowded_seconds: float = 1.0
    """How long a connection may take for its request when the connection limit is reached. Every known client sends its
    request right after connecting; on a node that is out of CPU this may take a second."""
    many_peers_seconds: float = 0.25
    """`crowded_seconds` if no peer holds more than a few connections: thousands of peers share the places, and
    16,384 clients are admitted in a second, more than the helper can accept, so no client waits in the backlog
    (with 1 s they waited a second). A container that has used up its CPU quota is stopped for less than 0.1 s."""
    accept_retry_seconds: float = 0.05
    """Seconds for which accepting pauses when connections or descriptors run out and none may be closed."""

    turn_seconds: float = 0.005
    """Time for calls of an inline provider before the event loop runs other tasks: well under the 50 ms for which
    the loop may be blocked at most, and long compared to a quote (under 0.1 ms)."""
    accept_seconds: float = 0.01
    """Time for accepting before the event loop runs other tasks: longer than `turn_seconds`, since accepted clients
    share the helper fairly, and the kernel's backlog, which any client can fill, has no fair shares."""
    whole_request_seconds: float = 20.0
    """Maximum time from connecting to a request's last byte. Every known client sends right after connecting;
    Intel's client allows 15 s for each of the two writes of a request, and Intel's server waits forever."""
    provider_wait_seconds: float = 12.0
    """Maximum wait of a request for the provider. Then it is refused with BUSY, or with SERVICE_UNAVAILABLE if
    there is no provider: Intel's client gives up after 15 s, and a refusal explains more than a time-out."""
    peer_wait_seconds: float = 2.5
    """Maximum wait of a connection until its peer is below the peer's limits; then its request is refused with BUSY.
    The wait for the provider may follow. Both together are shorter than Intel's client waits (15 s), unless the peer
    was at its limits both before and after the request's last byte."""
    accept_drain_seconds: float = 1.0
    """Time for which a socket still accepts connections after it lost its path, by SIGTERM or to a newer instance. A
    client that found the path needs microseconds to connect; on a node that is out of CPU, a second."""
    receive_drain_seconds: float = 1.0
    """Time after `accept_drain_seconds` for which the helper still lets clients complete their requests."""
    drain_seconds: float = 12.5
    """Time in which a stopping helper answers complete requests: a little over `provider_wait_seconds`."""

    self_test_interval_seconds: float = 10.0
    """Interval between self-tests that succeed: the default interval of a kubelet's readiness probe."""
    self_test_seconds: float = 15.0
    """Duration of one self-test (as long as Intel's client waits) after which the provider counts as hung."""
    self_test_retry_seconds: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 30.0)
    """Seconds to wait after the first, second ... failed self-test in a row; the last value repeats."""
    repeated_log_seconds: float = 60.0
    """Interval of log lines of one kind: about a failing provider, failing connections, or repaired modes."""

    socket_tick_seconds: float = 0.5
    """Interval of checks of the socket's path (few system calls). A lost path is bound again within 1 s."""
    hand_over_look_seconds: float = 0.02
    """Interval after SIGTERM between checks whether another instance has taken the socket's path."""

    @property
    def unread_pool(self) -> int:
        """Bytes of memory for unread answers, beyond the memory that is set aside for each peer."""
        return max(0, self.unread_memory - PEERS * self.unread_reserve)

    @property
    def unread_reserve(self) -> int:
        """Bytes of memory set aside for each peer's unread answers: enough for one answer of any size."""
        return max(UNREAD_RESERVE, self.least_unread)

    @property
    def descriptors(self) -> int:
        """Number of descriptors for all connections, both without an answer and with an unread answer."""
        return self.max_connections + self.unread_memory // UNREAD_OVERHEAD

    def with_descriptors(self, available: int) -> HelperLimits:
        """Return limits that need only `available` descriptors, for fewer connections and unread answers."""
        places = max(1, min(self.max_connections, available - ceil(available / UNREAD_DESCRIPTORS_PART)))
        return replace(
            self,
            max_connections=places,
            max_waiting=max(1, min(self.max_waiting, places // 2)),
            least_unread=max(UNREAD_OVERHEAD, ceil(self.unread_memory / max(1, available - places))),
        )
