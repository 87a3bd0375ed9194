"""A measuring kubelet: it accepts registrations, follows lists, asks for devices, and records the times.

This kubelet uses blocking gRPC: a call costs it about 0.1 ms of CPU, the same for every plugin. The kubelet
decodes no message while it measures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.load import WrongAnswerError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import (
    ALLOCATE,
    GET_DEVICE_PLUGIN_OPTIONS,
    KUBELET_SOCKET_NAME,
    LIST_AND_WATCH,
    REGISTER,
    unix_target,
)

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
"""Largest message in bytes; a kubelet takes up to 4 MiB. The benchmark does not test whether lists fit."""
DIAL_BACK_SECONDS = 10.0
"""Seconds for the connection to the plugin, which a real kubelet makes while it answers Register."""
WAIT_SECONDS = 30.0
"""Seconds after which an awaited event counts as missing."""
THREADS = 8
"""Number of the server's threads; it exceeds the number of resources that register at once."""
_EMPTY = pb.Empty().SerializeToString()


@dataclass(frozen=True, slots=True)
class Registration:
    """One registration of one resource; times are time.perf_counter()'s, in seconds."""

    asked: float
    answered: float
    """Time after the dial-back."""
    listed: float
    """Time at which the kubelet had received the whole first list of devices."""
    encoded_list: bytes
    channel: grpc.Channel

    @property
    def allocate(self) -> Callable[[bytes], bytes]:
        """Duration of Allocate, from encoded request to encoded response."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(ALLOCATE)
        return call


class MeasuringKubelet:
    """A server on kubelet.sock in a directory (`serving`)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changed = threading.Condition()
        self._newest: dict[str, Registration] = {}
        self._channels: list[grpc.Channel] = []

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Listen for as long as the block runs."""
        server = grpc.server(ThreadPoolExecutor(THREADS))
        service, method = REGISTER.strip("/").split("/")
        register: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._register)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: register}),))
        server.add_insecure_port(unix_target(str(self._directory / KUBELET_SOCKET_NAME)))
        server.start()
        try:
            yield
        finally:
            for channel in self._channels:
                channel.close()
            server.stop(None).wait()

    def registered(self, resources: Collection[str], *, since: float = 0.0) -> dict[str, Registration]:
        """Wait until each of these resources was registered after this time, and its devices are known."""

        def fresh() -> dict[str, Registration]:
            known = {name: self._newest[name] for name in resources if name in self._newest}
            return {name: registration for name, registration in known.items() if registration.asked >= since}

        with self._changed:
            if not self._changed.wait_for(lambda: len(fresh()) == len(resources), WAIT_SECONDS):
                missing = sorted(set(resources) - set(fresh()))
                raise WrongAnswerError(f"not registered within {WAIT_SECONDS:g} s: {missing}")
            return fresh()

    def seconds_to_reregister(self, resource: str) -> float:
        """Disconnect a resource's plugin, as kubelets up to 1.36 do; time how soon its new Register is answered."""
        lost = time.perf_counter()
        self._newest[resource].channel.close()
        return self.registered([resource], since=lost)[resource].answered - lost

    def _register(self, encoded: bytes, context: grpc.ServicerContext) -> bytes:
        asked = time.perf_counter()
        request = pb.RegisterRequest.FromString(encoded)
        channel = grpc.insecure_channel(unix_target(str(self._directory / request.endpoint)), options=CHANNEL_OPTIONS)
        self._channels.append(channel)
        options: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_DEVICE_PLUGIN_OPTIONS)
        try:
            options(_EMPTY, timeout=DIAL_BACK_SECONDS)
        except grpc.RpcError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"failed to dial the device plugin: {error}")
        answered = time.perf_counter()
        follow = (request.resource_name, asked, answered, channel)
        threading.Thread(target=self._follow, args=follow, daemon=True).start()
        return _EMPTY

    def _follow(self, name: str, asked: float, answered: float, channel: grpc.Channel) -> None:
        list_and_watch: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(LIST_AND_WATCH)
        try:
            stream = list_and_watch(_EMPTY)
            encoded_list = next(stream)
            listed = time.perf_counter()
            with self._changed:
                self._newest[name] = Registration(asked, answered, listed, encoded_list, channel)
                self._changed.notify_all()
            for _ in stream:  # as a kubelet does, accept further lists from a plugin
                pass
        except (grpc.RpcError, ValueError):  # the plugin ended; ValueError if the channel was closed before
            return
