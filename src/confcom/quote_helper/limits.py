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


@dataclass(frozen=True, slots=True)
class HelperLimits:
    """Caps and deadlines; the defaults are what every helper runs with, and tests shrink them."""

    max_connections: int = 4096
    """Each costs a file descriptor and a few KiB. A node has at most a few hundred containers, with one connection per
    request. Beyond it, the connection that has waited longest for its request is closed. Intel's aesmd dies at 255."""

    first_byte_seconds: float = 10.0
    """Every known client sends its request right after connecting; Intel's server waits for ever."""
    whole_request_seconds: float = 20.0
    """From connecting to the last byte. Intel's client allows itself 15 s for each of the two writes it needs."""
    place_seconds: float = 12.0
    """How long a request waits for the provider to be ready and free before it is refused. Intel's client gives up
    after 15 s, and a refusal that it reads explains more than a time-out."""
    answer_seconds: float = 60.0
    """From the whole request to its answer, whatever the provider does. Only clients that never give up (Gramine) still
    wait then; the limit frees what a hung provider would hold."""
    write_seconds: float = 15.0
    """For a client to take its answer. An answer fits the kernel's socket buffer, so only one that does not read needs
    any time."""

    accept_drain_seconds: float = 0.2
    """After SIGTERM the path is gone at once; connections that the kernel had already made are still served."""
    drain_seconds: float = 12.0
    """After SIGTERM, for requests that have arrived: as long as one may wait for a place."""

    close_seconds: float = 2.0
    """For the provider to release what it holds; a hung one is left behind, and ends with the process."""

    self_test_retry_seconds: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 30.0)
    """Waits between self-tests that failed; the last one repeats."""
    repeated_log_seconds: float = 60.0
    """At most one log line about malformed input, and one about a failing provider, in this time; metrics count all."""
