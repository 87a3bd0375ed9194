"""Every limit of the quote helper, with its reason. Times are seconds."""

from __future__ import annotations

from typing import Final

SOCKET_MODE: Final = 0o666
"""Connecting needs write permission (unix(7)), and enclave programs run as any user. Intel's aesmd: 0777."""
DIRECTORY_MODE: Final = 0o755
"""Everyone may reach the socket, nobody else may put one in its place."""
BACKLOG: Final = 4096
"""Linux' default net.core.somaxconn, to which the kernel cuts it. Intel's client hangs in connect() without limit when
the backlog is full, and asyncio's default of 100 refuses at 1,024 connects at once (measured)."""

MAX_CONNECTIONS: Final = 4096
"""Each costs a file descriptor and about 3 KiB. A node has at most a few hundred containers, with one connection per
request. Beyond it, the connection that has waited longest for its request is closed. Intel's aesmd dies at 255."""
RESERVED_FILE_DESCRIPTORS: Final = 64
"""Kept free for files, probes and the loop itself, so that connections can never use up RLIMIT_NOFILE."""

FIRST_BYTE_SECONDS: Final = 10.0
"""Every known client sends its request right after connecting; Intel's server waits for ever."""
WHOLE_REQUEST_SECONDS: Final = 20.0
"""From connecting to the last byte. Intel's client allows itself 15 s per write and sends two."""
PLACE_SECONDS: Final = 12.0
"""How long a request waits for the provider to be ready and free before it is refused. Intel's client gives up after
15 s, and a refusal that it reads explains more than a time-out."""
ANSWER_SECONDS: Final = 60.0
"""From the whole request to the answer. Only clients that never give up (Gramine) still wait then; it frees what a hung
provider holds."""
WRITE_SECONDS: Final = 15.0
"""For a client to take its answer; an answer fits the kernel's socket buffer, so only a client that does not read
needs any time."""

ACCEPT_DRAIN_SECONDS: Final = 0.2
"""After SIGTERM the path is gone at once; connections that the kernel had already made are still served."""
DRAIN_SECONDS: Final = 12.0
"""After SIGTERM, for requests that have arrived: as long as one may wait for a place."""

REPEATED_LOG_SECONDS: Final = 60.0
"""At most one log line about malformed input, and one about a failing provider, in this time; metrics count all."""
SELF_TEST_RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between self-tests that failed; the last one repeats."""
