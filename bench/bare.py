"""Baselines for daemons: an interpreter with their third-party packages, and a relay of twenty lines."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import stdlib_module_names

from bench.machine import Checkout, on_core, resident_bytes, with_byte_code
from bench.report import Goal
from e2e.waiting import end, until

START, MEMORY = "start to ready, in the time of a bare interpreter", "resident memory, in that of a bare interpreter"
GOALS = {START: Goal(1.5), MEMORY: Goal(1.3)}
"""Goals of every daemon. A bare interpreter imports the same packages, and does nothing else."""
IMPORTED = re.compile(r"^import time:[^|]*\|[^|]*\| +([\w.]+)$", re.MULTILINE)
PROGRAM = """
import contextlib, importlib, signal, sys
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):  # some packages try to import what is not installed
        importlib.import_module(name)
print(flush=True)
signal.pause()"""
RELAY = """
import asyncio, sys, uvloop

async def read_message(reader):
    header = await reader.readexactly(4)
    return header + await reader.readexactly(int.from_bytes(header, "little"))

async def relay(reader, writer):
    request = await read_message(reader)
    answers, requests = await asyncio.open_unix_connection(sys.argv[2])
    requests.write(request)
    writer.write(await read_message(answers))
    requests.close()
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_unix_server(relay, sys.argv[1])
    await server.serve_forever()

uvloop.run(main())"""
"""Program of a relay that checks nothing, limits nothing, and treats all clients alike."""
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BareInterpreter:
    python: str
    modules: Sequence[str]
    environ: Mapping[str, str]
    core: int

    @classmethod
    def of(cls, log: Path, checkout: Checkout, directory: Path, core: int) -> BareInterpreter:
        """Read the modules from the log of a daemon that was started by `with_import_times`."""
        names = dict.fromkeys(IMPORTED.findall(log.read_text()))
        modules = [name for name in names if name.partition(".")[0] not in {*stdlib_module_names, "confcom"}]
        return cls(checkout.python, modules, with_byte_code(directory, checkout.environment), core)

    def start(self) -> tuple[float, int]:
        """Seconds from before fork() until all modules are imported, and resident bytes after the imports."""
        began = time.perf_counter()
        with on_core(self.core):
            command = [self.python, "-c", PROGRAM, *self.modules]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=self.environ)
        assert process.stdout is not None
        with process.stdout as output:
            output.readline()
            seconds, resident = time.perf_counter() - began, resident_bytes(process.pid)
        end(process, STOP_SECONDS)
        return seconds, resident


@contextlib.contextmanager
def bare_relay(path: Path, aesmd: Path, core: int) -> Iterator[None]:
    with on_core(core):
        process = subprocess.Popen([Checkout().python, "-c", RELAY, str(path), str(aesmd)])
    try:
        until(path.exists, "the bare relay serves", seconds=30.0)
        yield
    finally:
        end(process, STOP_SECONDS)
