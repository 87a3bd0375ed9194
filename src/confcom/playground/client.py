"""The node's control socket, from the other side: what the CLI and the demo's story use."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

import grpc

from confcom.errors import ConfcomError
from confcom.kubelet_api.services import unix_target
from confcom.playground.control import CHANNEL_OPTIONS, Json, Method, method_path
from confcom.playground.errors import BY_NAME, NodeUnavailableError, WaitTimeoutError
from confcom.playground.layout import Layout
from confcom.playground.views import ApplyResult, JobView, NodeState, NodeView, PodView

CALL_TIMEOUT = 10.0
"""Seconds for a call that the node answers at once: it does no work that takes longer than a directory listing."""

WATCH_SECONDS = 5.0
"""How long one watch call may wait in the node before it is asked again, so that a lost node is noticed."""

FIRST_NOTICE_SECONDS, NOTICE_SECONDS = 2.0, 10.0
"""When a deletion that takes its time is spoken of: a person wonders after two seconds, and knows after that."""

WAKE_SECONDS = 0.1
"""How often a waiting main thread looks for signals: one that comes just before it waits does not wake it."""


Outcome = bytes | BaseException


class _CallThread:
    """Makes calls, one after the other, where no signal handler runs.

    Ctrl-C raises between any two instructions of the main thread. Inside gRPC that can leave a call that nobody
    finishes, and closing its channel then waits for ever (measured with grpcio 1.85: 1 in 80 interrupted demos). So
    the main thread waits at a SimpleQueue, which is one instruction; a Future's condition is several, and complains of
    its lock when it is interrupted between two of them.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], bytes], SimpleQueue[Outcome]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="node-client", daemon=True).start()

    def submit(self, call: Callable[[], bytes]) -> SimpleQueue[Outcome]:
        """Make a call when those before it have ended; its result or error comes out of the queue."""
        outcome: SimpleQueue[Outcome] = SimpleQueue()
        self._calls.put((call, outcome))
        return outcome

    def close(self) -> None:
        """End after the calls so far."""
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, outcome = item
            try:
                outcome.put(call())
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever waits
                outcome.put(error)


class NodeClient:
    """Talks to one node. Synchronous; one channel; close it, or use it in a `with` statement.

    Args:
        directory: the node's DIR.
    """

    def __init__(self, directory: Path) -> None:
        self._socket = Layout(directory).control_socket
        self._channel = grpc.insecure_channel(unix_target(str(self._socket)), options=CHANNEL_OPTIONS)
        self._calls = _CallThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel, which ends a call that is under way."""
        self._channel.close()
        self._calls.close()

    def state(self, *, after_revision: int = -1, timeout: float = CALL_TIMEOUT) -> NodeState:
        """Everything at one moment.

        Args:
            after_revision: wait until the node has changed since that revision (at most `timeout` seconds, then the
                unchanged state comes back); -1 answers at once.
            timeout: seconds.
        """
        request = {"after_revision": after_revision, "seconds": timeout}
        answer = self._call(Method.STATE, request, timeout=timeout + CALL_TIMEOUT)
        return NodeState.from_json(answer)

    def node(self) -> NodeView:
        """The node: mode, capacity, allocatable, allocated, the ledger."""
        return self.state().node

    def pods(self) -> tuple[PodView, ...]:
        """All pods, oldest first."""
        return self.state().pods

    def jobs(self) -> tuple[JobView, ...]:
        """All Jobs, oldest first."""
        return self.state().jobs

    def wait(self, predicate: Callable[[NodeState], bool], timeout: float, *, what: str = "") -> NodeState:
        """Wait until a condition holds, without polling.

        Args:
            predicate: is asked at once and after every change of the node.
            timeout: seconds.
            what: the condition in words, for the error.

        Returns:
            The first state for which it held.

        Raises:
            WaitTimeoutError: it did not hold in time.
        """
        deadline = time.monotonic() + timeout
        state = self.state()
        while not predicate(state):
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(
                    f"{what or 'what was waited for'} did not happen within {timeout:g} s",
                    state=state,
                    remedy="`confcom playground get` shows the node's state, `... logs POD` a pod's log",
                )
            state = self.state(after_revision=state.revision, timeout=min(left, WATCH_SECONDS))
        return state

    def apply(self, text: str) -> ApplyResult:
        """Create the objects of a manifest: all of them or, if one is refused, none.

        Args:
            text: YAML (or JSON), one or more documents.

        Raises:
            ManifestError: the API server would refuse it.
            AlreadyExistsError: an object of that kind and name is there.
        """
        answer = self._call(Method.APPLY, {"text": text})
        return ApplyResult(tuple(answer["objects"]), tuple(answer["warnings"]))

    def logs(self, pod: str, *, container: str | None = None) -> str:
        """A container's log, or its last mebibyte if it is longer.

        Args:
            pod: the pod's name; it may have ended.
            container: needed if the pod has several.

        Raises:
            NotFoundError: no such pod or container.
        """
        return str(self._call(Method.LOGS, {"pod": pod, "container": container})["text"])

    def delete(
        self,
        kind: str,
        name: str,
        *,
        grace_period: float | None = None,
        waiting: Callable[[float], None] | None = None,
    ) -> None:
        """Delete a Job (with its pods) or a Pod, and return when its processes have ended and its devices are free.

        Args:
            kind: `job` or `pod`, as kubectl takes it (`jobs`, `job.batch`, `po`, ... too).
            name: the object's name.
            grace_period: seconds between SIGTERM and SIGKILL; None takes terminationGracePeriodSeconds (30).
            waiting: is called with the seconds so far after FIRST_NOTICE_SECONDS, then every NOTICE_SECONDS.

        Raises:
            NotFoundError: no such object.
        """
        request = {"kind": kind, "name": name, "grace_period": grace_period}
        self._call(Method.DELETE, request, timeout=None, waiting=waiting)

    def images(self) -> dict[str, tuple[str, ...]]:
        """The node's image table: name -> argv."""
        return {name: tuple(argv) for name, argv in self._call(Method.IMAGES, {}).items()}

    def restart_kubelet(self) -> None:
        """Do what a kubelet's restart does: every socket in its directory is unlinked, plugins must register again."""
        self._call(Method.RESTART_KUBELET, {})

    def _call(
        self,
        method: Method,
        request: Json,
        *,
        timeout: float | None = CALL_TIMEOUT,
        waiting: Callable[[float], None] | None = None,
    ) -> Json:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method_path(method))
        text = json.dumps(request).encode()
        try:
            body = _wait_for_outcome(self._calls.submit(lambda: call(text, timeout=timeout)), waiting)
        except grpc.RpcError as error:
            raise self._unavailable(error) from None
        answer: dict[str, Json] = json.loads(body)
        if "error" in answer:
            kind = BY_NAME.get(answer["error"]["kind"], ConfcomError)
            raise kind(answer["error"]["what"], why=answer["error"]["why"], remedy=answer["error"]["remedy"])
        return answer["result"]

    def _unavailable(self, error: grpc.RpcError) -> NodeUnavailableError:
        try:
            there = self._socket.exists()
        except OSError:  # who may not look gets the reason from gRPC
            there = True
        details = getattr(error, "details", error.__str__)()
        return NodeUnavailableError(
            f"the playground node at {self._socket.parent} does not answer",
            why=str(details) if there else f"there is no {self._socket.name} in that directory",
            remedy="start one: confcom playground node --dir DIR; or name the right directory with --dir",
        )


def _wait_for_outcome(outcome: SimpleQueue[Outcome], waiting: Callable[[float], None] | None) -> bytes:
    waited, notice = 0.0, FIRST_NOTICE_SECONDS
    while True:
        try:
            found = outcome.get(timeout=WAKE_SECONDS)
        except Empty:
            waited += WAKE_SECONDS
        else:
            if isinstance(found, BaseException):
                raise found
            return found
        if waiting is not None and waited >= notice:
            waiting(notice)
            notice += NOTICE_SECONDS
