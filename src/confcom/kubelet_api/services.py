"""The device plugin API's service paths and constants, and its handlers and stubs for grpc.aio.

Generic handlers replace generated servicers, so that a device list is assembled once and sent as bytes, without
a serializer. A stream of 262,144 devices takes 5 ms of CPU time; with message objects, it would take 177 ms.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias
from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from confcom.kubelet_api import deviceplugin_pb2 as pb

API_VERSION = "v1beta1"
"""The only version string that the kubelet accepts."""
KUBELET_SOCKET_NAME = "kubelet.sock"
"""The name of the kubelet's registration socket in the device plugin directory."""
HEALTHY = "Healthy"

REGISTRATION_SERVICE = "v1beta1.Registration"
DEVICE_PLUGIN_SERVICE = "v1beta1.DevicePlugin"
REGISTER = f"/{REGISTRATION_SERVICE}/Register"
GET_DEVICE_PLUGIN_OPTIONS = f"/{DEVICE_PLUGIN_SERVICE}/GetDevicePluginOptions"
LIST_AND_WATCH = f"/{DEVICE_PLUGIN_SERVICE}/ListAndWatch"
ALLOCATE = f"/{DEVICE_PLUGIN_SERVICE}/Allocate"

RECEIVE_LIMIT = 4_194_304
"""Maximum bytes of a message to the kubelet. This is grpc-go's default, which the kubelet does not raise
(kubernetes#109304)."""

RegisterContext: TypeAlias = "grpc.aio.ServicerContext[pb.RegisterRequest, pb.Empty]"
OptionsContext: TypeAlias = "grpc.aio.ServicerContext[pb.Empty, pb.DevicePluginOptions]"
ListContext: TypeAlias = "grpc.aio.ServicerContext[pb.Empty, bytes]"
AllocateContext: TypeAlias = "grpc.aio.ServicerContext[bytes, pb.AllocateResponse]"


def registration_handler(
    register: Callable[[pb.RegisterRequest, RegisterContext], Awaitable[pb.Empty]],
) -> grpc.GenericRpcHandler:
    """Return a handler for Registration, the kubelet's service, to pass to grpc.aio.Server.add_generic_rpc_handlers."""
    method = grpc.unary_unary_rpc_method_handler(register, pb.RegisterRequest.FromString, pb.Empty.SerializeToString)
    return grpc.method_handlers_generic_handler(REGISTRATION_SERVICE, {"Register": method})


def device_plugin_handler(
    options: Callable[[pb.Empty, OptionsContext], Awaitable[pb.DevicePluginOptions]],
    list_and_watch: Callable[[pb.Empty, ListContext], AsyncIterator[bytes]],  # encoded ListAndWatchResponses
    allocate: Callable[[pb.AllocateRequest, AllocateContext], Awaitable[pb.AllocateResponse]],
) -> grpc.GenericRpcHandler:
    """Return a handler for DevicePlugin, the plugin's service, to pass to add_generic_rpc_handlers.

    GetPreferredAllocation and PreStartContainer are not implemented: the kubelet calls them only if the
    plugin's options request the calls. GetPreferredAllocation would receive every free ID with each call.

    Allocate requests are decoded here, one at a time. gRPC would keep each decoded request until its answer
    is sent, and a decoded request takes several times the memory of an encoded one.
    """

    async def decode_and_allocate(request: bytes, context: AllocateContext) -> pb.AllocateResponse:
        try:
            decoded = pb.AllocateRequest.FromString(request)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is no AllocateRequest")
        calling = allocate(decoded, context)
        del decoded
        return await calling

    return grpc.method_handlers_generic_handler(
        DEVICE_PLUGIN_SERVICE,
        {
            "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(
                options, pb.Empty.FromString, pb.DevicePluginOptions.SerializeToString
            ),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(list_and_watch, pb.Empty.FromString),
            "Allocate": grpc.unary_unary_rpc_method_handler(
                decode_and_allocate, response_serializer=pb.AllocateResponse.SerializeToString
            ),
        },
    )


class RegistrationStub:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.register: grpc.aio.UnaryUnaryMultiCallable[pb.RegisterRequest, pb.Empty] = channel.unary_unary(
            REGISTER, pb.RegisterRequest.SerializeToString, pb.Empty.FromString
        )


class DevicePluginStub:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.get_device_plugin_options: grpc.aio.UnaryUnaryMultiCallable[pb.Empty, pb.DevicePluginOptions] = (
            channel.unary_unary(
                GET_DEVICE_PLUGIN_OPTIONS, pb.Empty.SerializeToString, pb.DevicePluginOptions.FromString
            )
        )
        self.list_and_watch: grpc.aio.UnaryStreamMultiCallable[pb.Empty, pb.ListAndWatchResponse] = (
            channel.unary_stream(LIST_AND_WATCH, pb.Empty.SerializeToString, pb.ListAndWatchResponse.FromString)
        )
        self.allocate: grpc.aio.UnaryUnaryMultiCallable[pb.AllocateRequest, pb.AllocateResponse] = channel.unary_unary(
            ALLOCATE, pb.AllocateRequest.SerializeToString, pb.AllocateResponse.FromString
        )


def unix_target(path: str) -> str:
    """Return a unix socket's gRPC address, which is a URI: the path's special characters are escaped."""
    return "unix:" + quote(os.fsencode(path))


def unix_channel(path: str) -> grpc.aio.Channel:
    """Return a channel, with its own connection and the kubelet's receive limit, to a unix socket.

    By default, all channels of a process to the same path share one connection and its backoff after
    failures. Calls to a socket that was just recreated would then fail without an attempt to connect.
    """
    return grpc.aio.insecure_channel(
        unix_target(path),
        options=(
            ("grpc.max_receive_message_length", RECEIVE_LIMIT),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ),
    )
