"""The worker processes of a verifier: who gets which quote, and what happens when a worker ends."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from confcom.errors import UnavailableError
from confcom.quote_worker import Request, Setup
from confcom.verify.trust import Platform
from confcom.verify.verdict import Verdict, VerdictKind, failed

JOBS_PER_WORKER: Final = 2
"""Jobs that a worker has at most: it verifies one while the next waits in its socket, so that it never idles."""
TRIES: Final = 2
"""Workers that may end while they verify a quote: one may end for another cause, but two hardly."""
START_SECONDS: Final = 30.0
"""Time limit of a worker's start, which takes under a second on a machine that is not overloaded."""
_SIZE: Final = struct.Struct("!i")
"""The size before each message, as multiprocessing.connection.Connection has it."""
_ENDS: Final = (asyncio.IncompleteReadError, ConnectionError)


class WorkerError(UnavailableError):
    """A verifier has no worker process: a worker cannot be started, or the verifier does not run."""

    error_code = "verifier-not-running"


@dataclass(slots=True, eq=False)
class _Job:
    request: Request
    answer: asyncio.Future[Verdict | None]
    ended_workers: int = 0

    def finish(self, answer: Verdict | WorkerError | None) -> None:
        if self.answer.done():  # the caller was cancelled
            return
        if isinstance(answer, WorkerError):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def start(cls, setup: Setup) -> Self:
        """Start a process and wait until it is ready. Raises WorkerError if it cannot be started."""
        # The parent's end is not inherited: it closes with the parent, and so ends the worker, however the parent ends.
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            with theirs:
                process = _spawned(theirs)
        except OSError as error:
            writer.close()
            raise _not_started(str(error)) from error
        worker = cls(process, reader, writer)
        try:
            worker.send(setup)
            async with asyncio.timeout(START_SECONDS):
                await worker.receive()
        except BaseException as error:
            await worker.end()
            if isinstance(error, TimeoutError):
                raise _not_started(f"it was not ready after {START_SECONDS:g} s") from error
            if isinstance(error, _ENDS):
                raise _not_started("it ended at once, and its standard error says why") from error
            raise
        return worker

    def send(self, message: Setup | Request) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self.writer.write(_SIZE.pack(len(data)) + data)

    async def receive(self) -> Any:  # noqa: ANN401 # what the worker sends
        (size,) = _SIZE.unpack(await self.reader.readexactly(_SIZE.size))
        return pickle.loads(await self.reader.readexactly(size))  # noqa: S301 # from our own program

    async def end(self) -> None:
        """Kill the process, which has nothing to save, and wait for its end."""
        self.writer.close()
        self.process.kill()
        await asyncio.to_thread(self.process.wait)


def _spawned(end: socket.socket) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "confcom.quote_worker", str(end.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[end.fileno()],
        env={**os.environ, "PYTHONPATH": paths},
    )


class Workers:
    """Worker processes that verify under one policy. A worker that ends is replaced."""

    def __init__(self, number: int, setup: Setup) -> None:
        self._number, self._setup = number, setup
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    async def start(self) -> None:
        """Start all workers, and wait until they are ready. Raises WorkerError if one cannot be started."""
        starts = [asyncio.get_running_loop().create_future() for _ in range(self._number)]
        self._tasks = [asyncio.create_task(self._serve(started)) for started in starts]
        await asyncio.gather(*starts)

    async def stop(self) -> None:
        """End all workers. Callers that still wait get a WorkerError."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        _finish(self._queued(), _closed())

    async def run(self, request: Request) -> Verdict | None:
        """Return a worker's answer, or the verdict `verifier-ended` if each worker that tried the request ended.

        Raises:
            WorkerError: no worker can be started, or the workers were stopped.
        """
        if self._stopped:  # while the caller waited for collateral
            raise _closed()
        job = _Job(request, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(job)
        return await job.answer

    async def _serve(self, started: asyncio.Future[None]) -> None:
        """Keep one worker. The jobs of a worker that ended go to the worker in its place."""
        jobs: deque[_Job] = deque()
        try:
            while True:
                try:
                    worker = await _Worker.start(self._setup)
                except WorkerError as error:
                    if not started.done():
                        started.set_exception(error)
                        return
                    _finish([*jobs, *self._queued()], error)
                    jobs.clear()
                    jobs.append(await self._queue.get())  # without demand, there is no other try
                    continue
                if not started.done():
                    started.set_result(None)
                try:
                    await self._feed(worker, jobs)
                finally:
                    await worker.end()
        finally:
            _finish(jobs, _closed())

    async def _feed(self, worker: _Worker, jobs: deque[_Job]) -> None:
        """Pass jobs to a worker, and its answers to the callers, until it ends."""
        for job in jobs:
            worker.send(job.request)
        while True:
            if not jobs:
                jobs.append(await self._queue.get())
                if worker.reader.at_eof():
                    return
                worker.send(jobs[0].request)
            while len(jobs) < JOBS_PER_WORKER and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
                worker.send(jobs[-1].request)
            try:
                answer = await worker.receive()
            except _ENDS:
                jobs[0].ended_workers += 1
                if jobs[0].ended_workers == TRIES:
                    jobs.popleft().finish(_ended_verdict())
                return
            jobs.popleft().finish(answer)

    def _queued(self) -> list[_Job]:
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]


def _finish(jobs: list[_Job] | deque[_Job], error: WorkerError) -> None:
    for job in jobs:
        job.finish(error)


def _closed() -> WorkerError:
    return WorkerError("the verifier was closed", why="its `async with` block ended", remedy="close it last")


def _not_started(why: str) -> WorkerError:
    return WorkerError("a worker cannot be started", why=why, remedy="check the limits of memory and of processes")


def _ended_verdict() -> Verdict:
    required, found = "a verification that ends by itself", f"it ended {TRIES} worker processes"
    why = "the quote makes dcap-qvl crash, or exceed its time limit"
    check = failed(required, found, why, VerdictKind.UNUSABLE, code="verifier-ended")
    return Verdict(VerdictKind.UNUSABLE, Platform.UNKNOWN, (check,))
