"""Every limit of the quote helper, with its reason. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SOCKET_MODE: Final = 0o666
"""Connecting needs write permission (unix(7)), and enclave programs run as any user. Intel's aesmd: 0777."""
DIRECTORY_MODE: Final = 0o755
"""Everyone may reach the socket, nobody else may put one in its place."""
BACKLOG: Final = 4096
"""Linux' default net.core.somaxconn, to which the kernel cuts it. Intel's client hangs in connect() without limit when
the backlog is full, and asyncio's default of 100 refuses at 1,024 connects at once (measured)."""
RESERVED_FILE_DESCRIPTORS: Final = 64
"""Kept free for files, probes and the loop itself, so that connections can never use up RLIMIT_NOFILE."""

DROP_REASONS: Final = ("malformed", "timeout", "write_timeout", "shed", "gone", "failed", "stopping")
"""Why a connection is closed without an answer, for metrics. gone: its client had closed before it could be answered;
failed: the answer could not be encoded."""
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
    """Each costs a file descriptor and a few KiB. A node has at most a few hundred containers, with one connection per
    request. Beyond it, the peer that holds most loses the one that has waited longest for its request. Intel's aesmd
    dies at 255."""
    waiting_per_peer: int = 1024
    """Requests of one peer that wait for the provider; the next is refused as BUSY. A quarter of all connections, since
    what waits cannot be shed; a node has at most a few hundred containers, of which each asks once at a time."""
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
    call_seconds: float = 48.0
    """For one call of a blocking provider: with the wait for a place, a minute. Only clients that never give up
    (Gramine) still wait then; the limit frees what a hung provider would hold."""
    write_seconds: float = 15.0
    """For a client to take its answer. An answer fits the kernel's socket buffer, so only one that does not read needs
    any time."""

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
