"""Server processes to measure, each on the server's core, all on one simulated platform."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.beside import HELPER_MODULE, Checkout
from bench.machine import on_core, with_byte_code
from confcom.quote_helper.telemetry.quote_log import MAX_QUOTE_LINES
from confcom.quote_provider.state_directory import open_or_create_platform
from testkit.helper_process import http_get, running_helper

START_SECONDS = 30.0
"""After which a server that does not listen has failed."""
STATE = "state"
"""Where `helper_process` looks for the platform, below a server's directory."""
POLL_SECONDS = 0.001
BYTE_CODE = "byte-code"
"""Where Python keeps it for these starts, beside the platform: the first one makes it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers."""

    pid: int
    socket: Path
    metric: Callable[[str], float] = lambda _: 0.0
    """A metric's value by its name; 0 of a server that has none."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where servers are started."""

    directory: Path
    core: int

    @classmethod
    def create(cls, directory: Path, core: int) -> Bench:
        """With a platform for all of them."""
        open_or_create_platform(directory / STATE)
        return cls(directory, core)

    @property
    def state_dir(self) -> Path:
        """The platform's."""
        return self.directory / STATE

    def place(self, name: str) -> Path:
        """A directory for one server, with the platform in it."""
        place = self.directory / name
        place.mkdir()
        shutil.copytree(self.state_dir, place / STATE)
        return place

    @contextlib.contextmanager
    def helper(
        self, name: str, *flags: str, limits: dict[str, float] | None = None, checkout: Checkout | None = None
    ) -> Iterator[Server]:
        """The quote helper itself, its log in a file and its probes answered.

        Args:
            name: of its directory.
            flags: besides those that say where everything is.
            limits: other values than a helper has, by the names in HelperLimits.
            checkout: whose code it runs; None: this one's. Only this one's limits can be altered.
        """
        place = self.place(name)
        with contextlib.ExitStack() as stack:
            alterations = None if limits is None else {"limits": limits}
            code = checkout or Checkout.this()
            inside = functools.partial(_run_by, code.python)
            with on_core(self.core):
                running = stack.enter_context(
                    running_helper(
                        *flags, directory=place, alterations=alterations, environ=code.environment, inside=inside
                    )
                )
            yield Server(running.process.pid, running.socket, running.metric)

    @contextlib.contextmanager
    def script(self, module: str, *, core: int | None = None, reads: Path | None = None) -> Iterator[Server]:
        """A server of `bench.servers`, on the servers' core or another one.

        Args:
            module: its name.
            core: None: the servers' core.
            reads: its second argument; None: the platform's state.
        """
        place = self.place(module)
        path = place / "aesm.socket"
        with on_core(self.core if core is None else core):
            process = subprocess.Popen([sys.executable, "-m", f"bench.servers.{module}", path, reads or place / STATE])
        try:
            deadline = time.monotonic() + START_SECONDS
            while not path.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"bench.servers.{module} does not serve")
                time.sleep(0.005)
            yield Server(process.pid, path)
        finally:
            process.kill()
            process.wait()


def _run_by(python: str, command: tuple[str, ...]) -> tuple[str, ...]:
    return (python, *command[1:])


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table of features.

    Args:
        key: in the JSON.
        title: in the table.
        above: the key of the row that this one adds a feature to; None for the floor.
        start: starts it.
    """

    key: str
    title: str
    above: str | None
    start: Callable[[Bench], AbstractContextManager[Server]]


DEFAULT = "default"
"""The key of the quote helper as it is without any flag."""

FEATURES: dict[str, Callable[[Bench], tuple[str, ...]]] = {
    "metrics": lambda _: ("--log-level", "error"),
    DEFAULT: lambda _: (),
    "every_quote": lambda _: ("--log-quotes-per-peer", str(MAX_QUOTE_LINES)),
    "pods": lambda _: ("--identify-pods",),
}
"""Flags of the quote helper's rows, by their key."""


def helper_of(key: str, checkout: Checkout | None = None) -> Callable[[Bench], AbstractContextManager[Server]]:
    """Start the quote helper of one row, of this checkout or of another one."""

    def start(bench: Bench) -> AbstractContextManager[Server]:
        name = key if checkout is None else beside_key(key)
        return bench.helper(name, *FEATURES[key](bench), checkout=checkout)

    return start


def words_of(key: str, bench: Bench) -> list[str]:
    """What a quote helper's --help must have for a row."""
    return [flag for flag in FEATURES[key](bench) if flag.startswith("--")]


def beside_key(key: str) -> str:
    """The key of the same row of the other checkout."""
    return f"{key}-beside"


VARIANTS = (
    Variant("prototype", "bare uvloop prototype", None, lambda bench: bench.script("prototype")),
    Variant("untold", "our server: limits, deadlines, fair turns", "prototype", lambda bench: bench.script("untold")),
    Variant(
        "metrics",
        "+ peers by uid, metrics, counts for the log (--log-level error)",
        "untold",
        helper_of("metrics"),
    ),
    Variant(DEFAULT, "+ log lines: the default configuration", "metrics", helper_of(DEFAULT)),
    Variant("every_quote", "default, and a log line for every quote", DEFAULT, helper_of("every_quote")),
    Variant("pods", "default, and --identify-pods", DEFAULT, helper_of("pods")),
)
"""Each one's cost is its difference to the row that it adds to."""


def seconds_to_ready(directory: Path, *, core: int, checkout: Checkout) -> float:
    """From before fork() and exec() until /readyz says 200: a whole quote was made, and the path leads there.

    Args:
        directory: where the socket is made; the platform is there.
        core: where the helper runs; whoever asks should be on another.
        checkout: whose code it runs.
    """
    probes = directory / "probes"
    command = [
        *(checkout.python, "-m", HELPER_MODULE, "--simulated", "--state-dir", str(directory / "state")),
        *("--socket", str(directory / "aesm.socket"), "--probe-address", f"unix:{probes}"),
    ]
    with (directory / "log").open("wb") as log, on_core(core):
        started = time.perf_counter()
        environ = with_byte_code(directory / BYTE_CODE, checkout.environment)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=environ)
    try:
        while not _is_ready(probes):
            if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                raise RuntimeError(f"the quote helper did not get ready: {(directory / 'log').read_text()}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - started
    finally:
        process.kill()
        process.wait()
        probes.unlink(missing_ok=True)


def _is_ready(probes: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, ConnectionError):
        status, _ = http_get(probes, "/readyz")
        return bool(status == 200)
    return False
