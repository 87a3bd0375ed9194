"""The worker processes of a verifier: who gets which quote, and what happens when a worker ends."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, cast

from confcom.errors import UnavailableError
from confcom.quote_worker import LENGTH, Answer, Request, Setup, framed
from confcom.verify.trust import Platform
from confcom.verify.verdict import Verdict, VerdictKind, failed

JOBS_PER_WORKER: Final = 2
"""Jobs that a worker has at most: it verifies one while the next waits in its socket, so that it never idles."""
TRIES: Final = 2
"""Workers that a quote may end before it is given up: a worker may also end for another cause, but hardly twice."""
START_SECONDS: Final = 30.0
"""Time limit of the workers' start, which takes under a second on a machine that is not overloaded."""
_PROGRAM: Final = ("-P", "-m", "confcom.quote_worker")


class BusyError(UnavailableError):
    """More callers wait for verdicts than the verifier's bound."""

    error_code = "verifier-busy"


class WorkerError(UnavailableError):
    """A verifier has no worker process: a worker could not be started, or the verifier was closed."""

    error_code = "verifier-not-running"


@dataclass(slots=True, eq=False)
class _Job:
    message: bytes
    answer: asyncio.Future[Answer]
    ended_workers: int = 0

    def finish(self, answer: Answer) -> None:
        if not self.answer.done():  # the caller may have been cancelled
            self.answer.set_result(answer)

    def fail(self, error: WorkerError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Worker(asyncio.Protocol):
    """One process and its socket. It answers its jobs in their order."""

    def __init__(self, workers: Workers, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.jobs: deque[_Job] = deque()
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """True when the process can verify; False if it ended before."""
        self._workers = workers
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self, message: bytes) -> None:
        cast("asyncio.WriteTransport", self._transport).write(framed(message))

    def take(self, job: _Job) -> None:
        self.jobs.append(job)
        self.send(job.message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                break
            message = bytes(self._received[LENGTH.size : end])
            del self._received[:end]
            if message:
                self.jobs.popleft().finish(pickle.loads(message))
            else:
                self.ready.set_result(True)
        self._workers.dispatch()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._workers.ended(self)

    async def end(self) -> None:
        """Kill the process, which has nothing to save, and wait for its end."""
        cast("asyncio.WriteTransport", self._transport).abort()
        self.process.kill()
        await asyncio.to_thread(self.process.wait)


class Workers:
    """Worker processes that verify under one policy; each that ends is replaced."""

    def __init__(self, number: int, setup: Setup) -> None:
        self._number = number
        self._setup = pickle.dumps(setup)
        self._workers: set[_Worker] = set()
        self._queue: deque[_Job] = deque()
        self._starts: set[asyncio.Task[_Worker]] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._running = False

    async def start(self) -> None:
        """Start all workers, and wait until they are ready. Raises WorkerError if one cannot be started."""
        self._running = True
        self._replace()
        try:
            async with asyncio.timeout(START_SECONDS):
                started = await asyncio.gather(*self._starts)
                ready = await asyncio.gather(*(worker.ready for worker in started))
        except TimeoutError as error:
            raise _not_started(f"it was not ready after {START_SECONDS:g} s") from error
        if not all(ready):
            raise _not_started("it ended at once; its standard error says why")

    async def stop(self) -> None:
        """End all workers. Callers that still wait get a WorkerError."""
        self._running = False
        await asyncio.gather(*self._starts, return_exceptions=True)
        workers = tuple(self._workers)
        error = WorkerError("the verifier was closed", why="its `async with` block ended", remedy="close it last")
        for job in (*(job for worker in workers for job in worker.jobs), *self._queue):
            job.fail(error)
        self._queue.clear()
        await asyncio.gather(*self._ends, *(worker.end() for worker in workers))

    async def run(self, request: Request) -> Answer:
        """Return a worker's answer; the verdict `verifier-ended` if each worker that tried the request ended.

        Raises:
            WorkerError: no worker can be started, or the workers were stopped.
        """
        job = _Job(pickle.dumps(request, pickle.HIGHEST_PROTOCOL), asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._replace()
        self.dispatch()
        return await job.answer

    def dispatch(self) -> None:
        """Give waiting jobs, the oldest first, to the workers with the fewest jobs."""
        while self._queue:
            free = [worker for worker in self._workers if len(worker.jobs) < JOBS_PER_WORKER]
            if not free:
                return
            job = self._queue.popleft()
            if not job.answer.done():
                min(free, key=lambda worker: (not worker.ready.done(), len(worker.jobs))).take(job)

    def ended(self, worker: _Worker) -> None:
        """Replace a worker that ended. The job on which it worked is tried once more; the next was not begun."""
        self._workers.discard(worker)
        if not self._running:
            return
        end = asyncio.create_task(worker.end())
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)
        jobs = worker.jobs
        if not worker.ready.done():
            # Nobody replaces it until the next request: a program that cannot start is not started again and again.
            worker.ready.set_result(False)
            self._queue.extendleft(reversed(jobs))
            self._fail(_not_started("it ended at once; its standard error says why"))
            return
        if jobs:
            jobs[0].ended_workers += 1
            if jobs[0].ended_workers == TRIES:
                jobs.popleft().finish(_ended_verdict())
        self._queue.extendleft(reversed(jobs))
        self._replace()

    def _replace(self) -> None:
        for _ in range(self._number - len(self._workers) - len(self._starts)):
            start = asyncio.create_task(self._start())
            self._starts.add(start)
            start.add_done_callback(self._started)

    async def _start(self) -> _Worker:
        # Sockets are not inherited: each worker has its own end alone, so that it ends with its parent.
        ours, theirs = socket.socketpair()
        with theirs:
            paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
            command = [sys.executable, *_PROGRAM, str(theirs.fileno())]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": paths},
            )
        loop = asyncio.get_running_loop()
        _, worker = await loop.create_unix_connection(lambda: _Worker(self, process), sock=ours)
        self._workers.add(worker)
        worker.send(self._setup)
        return worker

    def _started(self, start: asyncio.Task[_Worker]) -> None:
        self._starts.discard(start)
        if start.cancelled() or (error := start.exception()) is None:
            self.dispatch()
        else:
            self._fail(_not_started(str(error)))

    def _fail(self, error: WorkerError) -> None:
        if self._workers or self._starts:
            self.dispatch()
            return
        for job in self._queue:
            job.fail(error)
        self._queue.clear()


def _not_started(why: str) -> WorkerError:
    return WorkerError(
        "a worker process cannot be started",
        why=why,
        remedy="check the limits of memory and processes, and that confcom can be imported",
    )


def _ended_verdict() -> Verdict:
    check = failed(
        "a verification that ends",
        f"it ended {TRIES} worker processes",
        "the quote makes dcap-qvl crash or exceed its time limit",
        VerdictKind.UNUSABLE,
        code="verifier-ended",
    )
    return Verdict(VerdictKind.UNUSABLE, Platform.UNKNOWN, (check,))
