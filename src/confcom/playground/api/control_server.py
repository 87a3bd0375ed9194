"""The server of the node's control API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import grpc
import grpc.aio

from confcom.errors import ConfcomError, MalformedError, UnavailableError
from confcom.kubelet_api.services import unix_target
from confcom.playground.api.control import CHANNEL_OPTIONS, SERVICE, Json, Method
from confcom.playground.node import Node

MAX_WATCH_SECONDS = 60.0
"""Limit for one watch call; a client that waits longer calls again. The call of a lost client ends after this time."""


class ControlServer:
    """Serves one node's control API on a unix socket.

    Args:
        node: the node.
        socket: its path; an existing socket is replaced, since the node's lock ensures that no other node uses it.
    """

    def __init__(self, node: Node, socket: Path) -> None:
        self._node = node
        self._socket = socket
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Start serving."""
        server = grpc.aio.server(options=CHANNEL_OPTIONS)
        rpcs: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            str(method): grpc.unary_unary_rpc_method_handler(self._handler(method)) for method in Method
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, rpcs),))
        self._socket.unlink(missing_ok=True)
        try:
            server.add_insecure_port(unix_target(str(self._socket)))
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot listen at {self._socket}", error_code="cannot-listen", why=str(error)
            ) from None
        # Containers run as the node's user, so only that user may start them.
        self._socket.chmod(0o600)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Stop serving, and end waiting calls."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None
        self._socket.unlink(missing_ok=True)

    def _handler(self, method: Method) -> Callable[[bytes, object], Awaitable[bytes]]:
        async def handle(body: bytes, context: object) -> bytes:
            del context
            try:
                answer: Json = {"result": await self._result(method, _decode(body))}
            except ConfcomError as error:
                answer = _error(error)
            except (KeyError, TypeError, ValueError) as error:
                malformed = MalformedError(
                    "the request cannot be read", error_code="request-malformed", why=repr(error)
                )
                answer = _error(malformed)
            return json.dumps(answer).encode()

        return handle

    async def _result(self, method: Method, request: Json) -> Json:
        node, result = self._node, {}
        match method:
            case Method.STATE:
                seconds = min(max(float(request["seconds"]), 0.0), MAX_WATCH_SECONDS)
                result = (await node.changed_since(int(request["after_revision"]), seconds)).to_json()
            case Method.APPLY:
                result = asdict(node.apply(str(request["text"])))
            case Method.LOGS:
                result = {"text": node.logs(str(request["pod"]), request["container"])}
            case Method.DELETE:
                grace = request["grace_period"]
                await node.delete(str(request["kind"]), str(request["name"]), None if grace is None else float(grace))
            case Method.IMAGES:
                result = dict(node.images())
            case Method.RESTART_KUBELET:
                await node.restart_kubelet()
        return result


def _decode(body: bytes) -> Json:
    request = json.loads(body)
    if not isinstance(request, dict):
        raise TypeError("not an object")
    return request


def _error(error: ConfcomError) -> Json:
    parts = {"what": error.what, "error_code": error.error_code, "why": error.why, "remedy": error.remedy}
    return {"error": {"kind": type(error).__name__, **parts}}
