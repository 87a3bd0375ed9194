"""The worker processes of a verifier: who gets which quote, and what happens when a worker ends."""

import asyncio
import contextlib
import os
import pickle
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confcom.errors import UnavailableError, WrongValueError
from confcom.quote_worker import SIZE, Request, Setup
from confcom.verify.verdict import Verdict, unusable

MAX_MESSAGES: Final = 2
"""Messages that a worker has at most: the second waits in its socket, so that it never idles."""
MAX_BATCH: Final = 3
"""Jobs in a message, at most: with more, processes wake less often, but a job waits for more others."""
TRIES: Final = 2
"""Workers that may end while they verify a quote: one may end for another cause, but two hardly."""
START_SECONDS: Final = 30.0
"""Time limit of a worker's start, which takes under a second on a machine that is not overloaded."""
_ENDS: Final = (asyncio.IncompleteReadError, ConnectionError)


class WorkerError(UnavailableError):
    """A verifier has no worker process: a worker cannot be started, or the verifier does not run."""

    error_code = "verifier-not-running"


@dataclass(slots=True, eq=False)
class _Job:
    request: Request
    answer: asyncio.Future[Verdict[Any] | None]
    ended_workers: int = 0

    def finish(self, answer: Verdict[Any] | WorkerError | None) -> None:
        if self.answer.done():  # the caller was cancelled
            return
        if isinstance(answer, WorkerError):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


@dataclass(frozen=True, slots=True)
class _Worker:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    progress: socket.socket
    """It has a byte for each job that the worker has begun since the last call of `begun`. It does not block."""

    def send(self, message: Setup | Sequence[Request]) -> None:
        self.writer.write(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    async def receive(self) -> Any:  # noqa: ANN401 # what the worker sends
        (size,) = SIZE.unpack(await self.reader.readexactly(SIZE.size))
        return pickle.loads(await self.reader.readexactly(size))  # noqa: S301 # from our own program

    def begun(self) -> int:
        with contextlib.suppress(BlockingIOError):
            return len(self.progress.recv(MAX_MESSAGES * MAX_BATCH))
        return 0


@contextlib.asynccontextmanager
async def _running(setup: Setup) -> AsyncIterator[_Worker]:
    """Start a worker that is ready, and kill it at the end. Raises WorkerError if it cannot be started."""
    # The parent's end is not inherited: it closes with the parent, and so ends the worker, however the parent ends.
    (ours, theirs), (progress, their_progress) = socket.socketpair(), socket.socketpair()
    progress.setblocking(False)
    worker = _Worker(*await asyncio.open_unix_connection(sock=ours), progress)
    with contextlib.closing(worker.writer), progress:
        try:
            with theirs, their_progress:
                process = _spawned(theirs.fileno(), their_progress.fileno())
        except OSError as error:
            raise _not_started(str(error)) from error
        try:
            try:
                worker.send(setup)
                async with asyncio.timeout(START_SECONDS):
                    await worker.receive()
            except (TimeoutError, *_ENDS) as error:
                why = f"it ended, or was not ready after {START_SECONDS:g} s; its standard error says why"
                raise _not_started(why) from error
            yield worker
        finally:
            process.kill()  # it has nothing to save
            await asyncio.to_thread(process.wait)


def _spawned(*descriptors: int) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "confcom.quote_worker", *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        env={**os.environ, "PYTHONPATH": paths},
    )


class Workers:
    """Worker processes that verify under one policy. A worker that ends is replaced."""

    def __init__(self, number: int, setup: Setup) -> None:
        self._number, self._setup = number, setup
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all workers, and wait until they are ready. Raises WorkerError if one cannot be started."""
        if self._tasks:
            raise WrongValueError("the verifier runs already", remedy="make a verifier for each `async with`")
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        starts = [asyncio.get_running_loop().create_future() for _ in range(self._number)]
        self._tasks = [asyncio.create_task(self._serve(started)) for started in starts]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all workers. Callers that still wait get a WorkerError."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse(_not_running())

    async def run(self, request: Request) -> Verdict[Any] | None:
        """Return a worker's answer, or the verdict `verifier-ended` if each worker that tried the request ended."""
        if not self._tasks:
            raise _not_running()
        job = _Job(request, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(job)
        return await job.answer

    async def _serve(self, started: asyncio.Future[None]) -> None:
        while True:
            try:
                async with _running(self._setup) as worker:
                    if not started.done():
                        started.set_result(None)
                    await self._feed(worker)
            except WorkerError as error:
                if not started.done():
                    started.set_exception(error)
                    return
                self._refuse(error)
                self._queue.put_nowait(await self._queue.get())  # without demand, there is no other try

    async def _feed(self, worker: _Worker) -> None:
        """Pass jobs to a worker, and its answers to the callers, until it ends."""
        jobs: deque[_Job] = deque()
        messages = begun = 0
        try:
            while True:
                while not jobs or (messages < MAX_MESSAGES and not self._queue.empty()):
                    batch = [await self._queue.get()]
                    others = min(MAX_BATCH - 1, self._queue.qsize() // self._number)
                    batch += [self._queue.get_nowait() for _ in range(others)]
                    jobs += batch
                    worker.send([job.request for job in batch])
                    messages += 1
                answers = await worker.receive()
                messages -= 1
                begun += worker.begun() - len(answers)
                for answer in answers:
                    jobs.popleft().finish(answer)
        except _ENDS:
            begun += worker.begun()
            if begun:
                cause = jobs[begun - 1]
                cause.ended_workers += 1
                if cause.ended_workers == TRIES:
                    why = "the quote makes dcap-qvl crash, or exceed its time limit"
                    error = WorkerError(f"it ended {TRIES} worker processes", why=why)
                    jobs.remove(cause)
                    cause.finish(unusable("a verification that ends by itself", error, code="verifier-ended"))
        finally:
            for job in jobs:
                self._queue.put_nowait(job)

    def _refuse(self, error: WorkerError) -> None:
        while not self._queue.empty():
            self._queue.get_nowait().finish(error)


def _not_running() -> WorkerError:
    why = "its `async with` block has not begun, or has ended"
    return WorkerError("the verifier does not run", why=why, remedy="call it in the block")


def _not_started(why: str) -> WorkerError:
    return WorkerError("a worker cannot be started", why=why, remedy="check the limits of memory and of processes")
