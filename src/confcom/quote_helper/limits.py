"""Every limit of the quote helper, with its reason. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from confcom.aesm.answers import MAX_QUOTE_BUFFER_SIZE
from confcom.aesm.framing import HEADER_SIZE, MAX_REQUEST_SIZE

SOCKET_MODE: Final = 0o666
"""Connecting needs write permission (unix(7)), and enclave programs run as any user. Intel's aesmd: 0777."""
DIRECTORY_MODE: Final = 0o755
"""Everyone may reach the socket, nobody else may put one in its place."""
BACKLOG: Final = 4096
"""Linux' default net.core.somaxconn, to which the kernel cuts it. Intel's client hangs in connect() without limit when
the backlog is full, and asyncio's default of 100 refuses at 1,024 connects at once (measured)."""
RESERVED_FILE_DESCRIPTORS: Final = 64
"""Kept free for files, probes and the loop itself, so that connections can never use up RLIMIT_NOFILE."""

DROP_REASONS: Final = ("malformed", "timeout", "write_timeout", "shed", "over_share", "gone", "failed", "stopping")
"""Why a connection ends without a whole answer, for metrics. over_share: its peer held as much as it may for too long;
gone: its client had closed before it could be answered; failed: an error in the helper."""
CONNECTION_MEMORY: Final = 5 * 1024
"""Bytes that a request is counted for besides its own and those of a quote. Measured: a connection takes 2,321
(objects, file, socket), and the kernel's buffers take up to 1,852 more than the answer that they hold."""
LARGEST_FRAME: Final = HEADER_SIZE + MAX_REQUEST_SIZE
"""Bytes of the largest request."""
DEFAULT_MEMORY_LIMIT: Final = 256 * 1024 * 1024
"""Bytes that the helper's container may use, by the chart's default."""
CLIENT_MEMORY_PART: Final = 2
"""Half of the container's memory is for what clients send, and do not read. With 256 MiB, of the other half a helper
takes 50 MiB by itself, 10 for 4,096 connections without an answer, and 10 for logs, audit records and metrics. The rest
is for what a container that ended has left in the Pod's memory control group."""
UNANSWERED_PART: Final = Fraction(2, 3)
"""Of the descriptors, where there are not enough for all connections: those without an answer come first, because
clients read their answers at once."""
PEERS: Final = 128
"""One peer may have one part in so many of it, so that no node's Pods can take all of it: a kubelet runs at most 110 by
default."""
READING_SECONDS: Final = 0.0002
"""How soon after an answer was sent it is worth a look whether the client has read it."""
UNREAD_LOOK_SECONDS: Final = 0.005
"""Between further looks: a client that waits for its connection to be closed waits that long."""
UNWATCHED_SECONDS: Final = 0.02
"""How long after an answer was sent the helper looks by itself. Then it watches the connection, which costs as much as
several looks, and the answer counts for its peer. A client on a busy node may wait for a processor that long."""
ACCEPT_BATCH: Final = 16
"""Connections accepted before the first of them is read: enough that clients have sent by then, few enough that the
caps are looked at often."""
QUOTE_BATCH: Final = 16
"""Calls of an inline provider before their answers are encoded and sent: a batch costs a sixth less than one by one
(measured: caches), and delays its first answer by about a millisecond."""
EVENTS_PER_TURN: Final = 64
"""Connections read in one turn of the event loop. Reading and decoding the largest request takes under 0.3 ms, so even
64 of the worst stay below the 50 ms that nothing may block the loop."""


@dataclass(frozen=True, slots=True)
class HelperLimits:
    """Caps and deadlines; the defaults are what every helper runs with, and tests shrink them."""

    max_connections: int = 4096
    """Connections without an answer. Each costs a file descriptor and 2.3 KiB (measured). A node has at most a few
    hundred containers, with one connection per request. Beyond it, incomplete requests are closed. Intel's aesmd dies
    at 255."""
    max_waiting: int = 2048
    """Complete requests without an answer: half of all places, since they cannot be closed for others, and incomplete
    ones can. A lone peer may have half of these."""
    client_memory: int = DEFAULT_MEMORY_LIMIT // CLIENT_MEMORY_PART
    """Bytes that all clients together may make the helper hold."""
    crowded_seconds: float = 1.0
    """When all places are taken, how long a connection may take for its request. Every known client sends its request
    right after connecting; a second is what a node that is out of CPU may need for that."""
    crowded_retry_seconds: float = 0.05
    """Until accepting is tried again when all places are taken and none may be freed yet."""
    turn_seconds: float = 0.005
    """For accepting, and for calls of an inline provider, before others have the event loop: with both well under the
    50 ms that nothing may block it, and long against one quote (under 0.1 ms)."""
    accept_retry_seconds: float = 1.0
    """Until accepting is tried again when there was no descriptor for it, if no connection has ended before."""
    provider_threads: int = 8
    """Calls of a blocking provider at once, at most; it may bear fewer. An enclave has a few threads (TCS), and each
    thread here costs a stack."""

    first_byte_seconds: float = 10.0
    """Every known client sends its request right after connecting; Intel's server waits for ever."""
    whole_request_seconds: float = 20.0
    """From connecting to the last byte. Intel's client allows itself 15 s for each of the two writes it needs."""
    place_seconds: float = 12.0
    """How long a request waits for the provider to be ready and free before it is refused. Intel's client gives up
    after 15 s, and a refusal that it reads explains more than a time-out."""
    share_seconds: float = 3.0
    """How long a complete request waits for its peer to hold less, before it is refused. The wait for its turn may
    follow, and both together are no longer than Intel's client waits."""
    call_seconds: float = 48.0
    """For one call of a blocking provider: with the wait for a place, a minute. Only clients that never give up
    (Gramine) still wait then; the limit frees what a hung provider would hold."""
    write_seconds: float = 15.0
    """For the kernel to take the whole answer. It fits the socket's buffer, unless that was made smaller on the node
    (net.core.wmem_default); then the client has to read a part of it first."""

    accept_drain_seconds: float = 1.0
    """After SIGTERM, or when a newer instance has taken it, the path does not lead here any more; connections that the
    kernel had already made are still accepted. A client that found the path needs microseconds to connect; on a node
    that is out of CPU, a second."""
    receive_drain_seconds: float = 1.0
    """After that, for requests that are on their way."""
    drain_seconds: float = 12.0
    """After SIGTERM, for requests that have arrived: as long as one may wait for a place."""

    close_seconds: float = 2.0
    """For the provider to release what it holds; a hung one is left behind, and ends with the process."""

    self_test_interval_seconds: float = 10.0
    """Between self-tests that succeed: as often as a kubelet asks for readiness by default."""
    self_test_seconds: float = 15.0
    """For one self-test; then the provider hangs. Intel's client waits no longer for its answer either."""
    self_test_retry_seconds: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 30.0)
    """Waits between self-tests that failed; the last one repeats."""
    reopen_seconds: float = 5.0
    """Between attempts to open a backend that cannot be opened yet: it waits for a kubelet, which takes a minute."""
    refusal_log_seconds: float = 1.0
    """At most one debug line about a request that the provider refuses in this time: any client can cause them."""
    repeated_log_seconds: float = 60.0
    """At most one log line about malformed input, and one about a failing provider, in this time; metrics count all."""

    socket_tick_seconds: float = 0.5
    """Between looks at the socket's path: its loss is noticed, and repaired, within a second. A look costs one
    lstat(2)."""
    hand_back_seconds: float = 1.0
    """After SIGTERM, for another instance that can quote to take the path: it looks every half second, and asks for the
    target info. Then the path is removed."""
    hand_back_look_seconds: float = 0.02
    """Between looks whether it did."""
    holder_target_seconds: float = 1.0
    """For the instance that is being replaced to say whom it quotes for. Without an answer its target info counts as
    another, which only makes clients ask again."""
    holder_examination_seconds: float = 5.0
    """Between questions to the newer instance that has the path, whether it can quote. A kubelet notices a hung one
    after 20 to 30 s; who can quote meanwhile should."""
    holder_answer_seconds: float = 15.0
    """For its answer: longer than a helper makes a request wait, and as long as Intel's client waits."""

    @property
    def descriptors(self) -> int:
        """Count the descriptors of all connections: those without an answer, and those that the memory allows."""
        return self.max_connections + self.client_memory // CONNECTION_MEMORY

    def with_descriptors(self, available: int) -> HelperLimits:
        """Adapt to the descriptors that connections may have."""
        if available >= self.descriptors:
            return self
        unread = self.client_memory // CONNECTION_MEMORY
        connections = min(self.max_connections, max(1, int(available * UNANSWERED_PART), available - unread))
        return replace(
            self,
            max_connections=connections,
            max_waiting=max(1, min(self.max_waiting, connections // 2)),
            client_memory=max(1, available - connections) * CONNECTION_MEMORY,
        )

    @property
    def memory_per_peer(self) -> int:
        """Bytes that one peer may make the helper hold: its part, but at least one request and answer of any size."""
        return max(self.client_memory // PEERS, CONNECTION_MEMORY + LARGEST_FRAME + MAX_QUOTE_BUFFER_SIZE)
