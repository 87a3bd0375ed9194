"""Server processes on the server's core, all on one simulated platform."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load import ENCLAVE, WrongAnswerError
from bench.machine import Checkout, on_core, with_byte_code
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_or_create_platform, open_platform
from e2e.waiting import until
from testkit.helper_process import running_helper
from testkit.replay.verification import QuoteVerifier
from testkit.stub_aesmd import StubAesmd

CALL_SECONDS = 0.0025
"""Seconds that Intel's aesmd takes for a quote (measured in simulation mode)."""
STATE = "state"
"""Name of the platform's folder in each server's folder."""


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    socket: Path
    log: Path = Path(os.devnull)
    start_seconds: float = 0.0
    """Seconds from before fork() until the server is ready; before that, a helper has made a whole quote."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with a path short enough for sockets, and the core on which servers run."""

    directory: Path
    core: int

    @classmethod
    def create(cls, directory: Path, core: int) -> Place:
        directory.chmod(0o755)  # some clients run as other users
        open_or_create_platform(directory / STATE)
        return cls(directory, core)

    @property
    def state_dir(self) -> Path:
        return self.directory / STATE

    def below(self, name: str) -> Path:
        """Make a folder for one server, with a copy of the simulated platform."""
        made = self.directory / name
        made.mkdir()
        shutil.copytree(self.state_dir, made / STATE)
        return made

    @contextlib.contextmanager
    def helper(self, name: str, checkout: Checkout, *flags: str) -> Iterator[Server]:
        starting = running_helper(
            *flags,
            directory=self.below(name),
            environ=with_byte_code(self.directory, checkout.environment),
            inside=lambda command: (checkout.python, *command[1:]),
        )
        with contextlib.ExitStack() as stack:
            began = time.perf_counter()
            with on_core(self.core):
                running = stack.enter_context(starting)
            yield Server(running.process.pid, running.socket, running.log, time.perf_counter() - began)

    @contextlib.contextmanager
    def aesmd(self, core: int) -> Iterator[Server]:
        """A stand-in for Intel's aesmd that serves one call at a time, as slowly as Intel's aesmd."""
        place = self.below("aesmd")
        path = place / "aesm.socket"
        stub = StubAesmd(path, SimulatedQuoteProvider(open_platform(place / STATE)))
        stub.seconds = CALL_SECONDS

        def serve() -> None:
            stub.start()
            signal.pause()

        process = multiprocessing.get_context("fork").Process(target=serve, daemon=True)
        with on_core(core):
            process.start()
        try:
            until(path.exists, "the stand-in for aesmd serves", seconds=30.0)
            yield Server(process.pid or 0, path)
        finally:
            process.kill()
            process.join()


def verify_sample(sample: Sequence[tuple[bytes, bytes]], state_dir: Path) -> None:
    verifier = QuoteVerifier(state_dir)
    for quote, report_data in sample:
        verdict = verifier.verify(quote, ENCLAVE, report_data)
        if not verdict.ok:
            raise WrongAnswerError(f"a quote does not verify: {verdict.failures}")
