"""A kubelet that measures: it takes registrations, follows lists and asks for devices, and notes when what happened.

Over blocking gRPC: a call then takes about 0.1 ms of CPU at this end, which is in every latency, whoever is measured.
It decodes nothing while it measures.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import grpc

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import (
    ALLOCATE,
    GET_DEVICE_PLUGIN_OPTIONS,
    KUBELET_SOCKET_NAME,
    LIST_AND_WATCH,
    REGISTER,
    unix_target,
)

RECEIVE_LIMIT = 64 * 1024 * 1024
"""Bytes: whether a list fits a real kubelet's 4 MiB is not what is measured here."""
DIAL_BACK_SECONDS = 10.0
"""As the kubelet's, while it answers Register."""
WAIT_SECONDS = 30.0
"""After which something that did not happen never will."""
THREADS = 8
"""More than the resources that register at once."""
_EMPTY = pb.Empty().SerializeToString()


class _Stream(Protocol):
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def cancel(self) -> bool: ...


class MissingError(Exception):
    """What was waited for did not happen."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One plugin's registration of one resource; times are time.perf_counter()'s, in seconds.

    Args:
        resource: its name.
        asked: when Register arrived.
        answered: when it was answered, after the dial-back.
        listed: when the first list had been received whole.
        encoded_list: the list, as it was received.
        channel: to the plugin.
    """

    resource: str
    asked: float
    answered: float
    listed: float
    encoded_list: bytes
    channel: grpc.Channel

    def open_stream(self) -> bytes:
        """Open one more ListAndWatch, take its list, and end it."""
        stream = _stream(self.channel)
        encoded = next(stream)
        stream.cancel()
        return encoded

    @property
    def allocate(self) -> Callable[[bytes], bytes]:
        """Allocate, from encoded request to encoded response."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(ALLOCATE)
        return call


class MeasuringKubelet:
    """Listens on kubelet.sock in a directory for as long as it is entered."""

    def __init__(self, directory: Path) -> None:
        self._server = grpc.server(ThreadPoolExecutor(THREADS))
        register: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._register)
        service, method = REGISTER.strip("/").split("/")
        handler = grpc.method_handlers_generic_handler(service, {method: register})
        self._server.add_generic_rpc_handlers((handler,))
        self._directory = directory
        self._changed = threading.Condition()
        self._newest: dict[str, Registration] = {}
        self._channels: list[grpc.Channel] = []
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._server.add_insecure_port(unix_target(str(self._directory / KUBELET_SOCKET_NAME)))
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for channel in self._channels:
            channel.close()
        self._server.stop(None).wait()

    @property
    def counts(self) -> dict[str, int]:
        """How often each resource was registered."""
        with self._changed:
            return dict(self._counts)

    def registered(self, resources: Collection[str], *, since: float = 0.0) -> dict[str, Registration]:
        """Wait until each of these was registered after this time, and its list is here."""

        def fresh() -> dict[str, Registration]:
            return {
                name: self._newest[name]
                for name in resources
                if name in self._newest and self._newest[name].asked >= since
            }

        with self._changed:
            if not self._changed.wait_for(lambda: len(fresh()) == len(resources), WAIT_SECONDS):
                raise MissingError(f"not registered within {WAIT_SECONDS:g} s: {sorted(set(resources) - set(fresh()))}")
            return fresh()

    def seconds_to_reregister(self, resource: str) -> float:
        """Disconnect from the resource's plugin, as a kubelet up to 1.36 does, until its next Register is answered."""
        channel = self._newest[resource].channel
        lost = time.perf_counter()
        channel.close()
        return self.registered([resource], since=lost)[resource].answered - lost

    def _register(self, encoded: bytes, context: grpc.ServicerContext) -> bytes:
        asked = time.perf_counter()
        request = pb.RegisterRequest.FromString(encoded)
        channel = grpc.insecure_channel(
            unix_target(str(self._directory / request.endpoint)),
            options=(
                ("grpc.max_receive_message_length", RECEIVE_LIMIT),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
            ),
        )
        with self._changed:
            self._channels.append(channel)
            self._counts[request.resource_name] += 1
        options: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_DEVICE_PLUGIN_OPTIONS)
        try:
            options(_EMPTY, timeout=DIAL_BACK_SECONDS)
        except grpc.RpcError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"failed to dial the device plugin: {error}")
        answered = time.perf_counter()
        name = request.resource_name
        threading.Thread(target=self._follow, args=(name, asked, answered, channel), daemon=True).start()
        return _EMPTY

    def _follow(self, name: str, asked: float, answered: float, channel: grpc.Channel) -> None:
        try:
            stream = _stream(channel)
            encoded_list = next(stream)
            listed = time.perf_counter()
            with self._changed:
                self._newest[name] = Registration(name, asked, answered, listed, encoded_list, channel)
                self._changed.notify_all()
            for _ in stream:  # a plugin that sends its list again is followed, as a kubelet would
                pass
        except (grpc.RpcError, ValueError):  # its end; ValueError: the channel was closed before the call
            return


def _stream(channel: grpc.Channel) -> _Stream:
    call: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(LIST_AND_WATCH)
    return call(_EMPTY)
