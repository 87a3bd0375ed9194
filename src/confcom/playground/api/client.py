"""The client of the node's control API, used by the CLI and the demo."""

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
from confcom.playground.api.control import CHANNEL_OPTIONS, Json, Method, method_path
from confcom.playground.api.errors import BY_NAME, NodeUnavailableError, WaitTimeoutError
from confcom.playground.api.views import ApplyResult, NodeState, NodeView
from confcom.playground.layout import Layout

CALL_TIMEOUT = 10.0
"""Seconds for a call that the node answers at once: none of its work takes longer than a directory listing."""

WATCH_SECONDS = 5.0
"""How long one watch call may wait in the node before the client sends the next, so that it notices a lost node."""

FIRST_NOTICE_SECONDS, NOTICE_SECONDS = 2.0, 10.0
"""When a slow deletion is reported: first after 2 s, when a user begins to wonder, then every 10 s."""

WAKE_SECONDS = 0.1
"""How often a waiting main thread checks for signals: a signal that arrives just before the wait does not end it."""


Outcome = bytes | BaseException


class _CallThread:
    """Makes calls, one after the other, in a thread where no signal handler runs.

    Ctrl-C raises KeyboardInterrupt between any two instructions of the main thread. Inside gRPC this can leave a call
    unfinished, and closing its channel then blocks for ever (measured with grpcio 1.85: 1 in 80 interrupted demos).
    The main thread therefore waits on a SimpleQueue, which is one instruction. Waiting on a Future's condition takes
    several, and an interrupt between two of them causes an error about its lock.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], bytes], SimpleQueue[Outcome]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="node-client", daemon=True).start()

    def submit(self, call: Callable[[], bytes]) -> SimpleQueue[Outcome]:
        """Queue a call, and return the queue that receives its result or error."""
        outcome: SimpleQueue[Outcome] = SimpleQueue()
        self._calls.put((call, outcome))
        return outcome

    def close(self) -> None:
        """End the thread after the calls that are queued."""
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, outcome = item
            try:
                outcome.put(call())
            except BaseException as error:  # noqa: BLE001 - every error is raised again in the waiting thread
                outcome.put(error)


class NodeClient:
    """Client of one node: synchronous, with one channel. Close it, or use it in a `with` statement."""

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
        """Close the channel, which ends a running call."""
        self._channel.close()
        self._calls.close()

    def state(self, *, after_revision: int = -1, timeout: float = CALL_TIMEOUT) -> NodeState:
        """Return the node's state.

        Args:
            after_revision: wait until the node has changed since that revision; after `timeout` seconds, return the
                unchanged state. -1 returns at once.
            timeout: seconds.
        """
        request = {"after_revision": after_revision, "seconds": timeout}
        answer = self._call(Method.STATE, request, timeout=timeout + CALL_TIMEOUT)
        return NodeState.from_json(answer)

    def node(self) -> NodeView:
        """Return the node: mode, capacity, allocatable, allocated, the ledger."""
        return self.state().node

    def wait(self, predicate: Callable[[NodeState], bool], timeout: float, *, what: str = "") -> NodeState:
        """Wait until a condition holds, without polling.

        Args:
            predicate: the condition; evaluated at once and after every change of the node.
            timeout: seconds.
            what: the condition in words, for the error.

        Returns:
            The first state for which the condition held.

        Raises:
            WaitTimeoutError: the condition did not hold in time.
        """
        deadline = time.monotonic() + timeout
        state = self.state()
        while not predicate(state):
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(
                    f"{what or 'the awaited condition'} did not happen within {timeout:g} s",
                    state=state,
                    remedy="`confcom playground get` shows the node's state, `... logs POD` a pod's log",
                )
            state = self.state(after_revision=state.revision, timeout=min(left, WATCH_SECONDS))
        return state

    def apply(self, text: str) -> ApplyResult:
        """Create the objects of a manifest: all of them or, if one is refused, none.

        Raises:
            ManifestError: the API server would refuse the manifest.
            AlreadyExistsError: an object of that kind and name exists.
        """
        answer = self._call(Method.APPLY, {"text": text})
        return ApplyResult(tuple(answer["objects"]), tuple(answer["warnings"]))

    def logs(self, pod: str, *, container: str | None = None) -> str:
        """Return a container's log, or its last mebibyte if it is longer.

        Args:
            pod: the pod's name; the pod may have ended.
            container: required if the pod has several.

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
            kind: `job` or `pod`, in any form that kubectl accepts (`jobs`, `job.batch`, `po`, ...).
            name: the object's name.
            grace_period: seconds between SIGTERM and SIGKILL; None means terminationGracePeriodSeconds (30).
            waiting: called with the seconds so far, first after FIRST_NOTICE_SECONDS, then every NOTICE_SECONDS.

        Raises:
            NotFoundError: no such object.
        """
        request = {"kind": kind, "name": name, "grace_period": grace_period}
        self._call(Method.DELETE, request, timeout=None, waiting=waiting)

    def images(self) -> dict[str, tuple[str, ...]]:
        """Return the node's image table: name -> argv."""
        return {name: tuple(argv) for name, argv in self._call(Method.IMAGES, {}).items()}

    def restart_kubelet(self) -> None:
        """Simulate a restart of the kubelet: it unlinks every socket in its directory, and plugins must re-register."""
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
            kind = BY_NAME.get(answer["error"].pop("kind"), ConfcomError)
            raise kind(**answer["error"])
        return answer["result"]

    def _unavailable(self, error: grpc.RpcError) -> NodeUnavailableError:
        try:
            there = self._socket.exists()
        except OSError:  # this user may not look there; gRPC's error has the reason
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
