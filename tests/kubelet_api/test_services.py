import contextlib
import shutil
import tempfile
from pathlib import Path

import grpc.aio
import pytest

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services
from confcom.kubelet_api.device_list import MAX_DEVICES, encode_device_list


class Plugin:
    async def get_device_plugin_options(self, request, context):
        return pb.DevicePluginOptions(pre_start_required=True)

    async def list_and_watch(self, request, context):
        yield encode_device_list(2)
        yield encode_device_list(MAX_DEVICES)

    async def allocate(self, request, context):
        return pb.AllocateResponse(
            container_responses=[
                pb.ContainerAllocateResponse(envs={"N": str(len(container.devices_ids))})
                for container in request.container_requests
            ]
        )


async def register(request, context):
    if request.version != "v1beta1":
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no version {request.version}")
    return pb.Empty()


@pytest.fixture
def folder():
    path = tempfile.mkdtemp(prefix="a b%20c#", dir="/tmp")  # a path that is no clean URI
    yield Path(path)
    shutil.rmtree(path)


def plugin_handler(plugin):
    return services.device_plugin_handler(plugin.get_device_plugin_options, plugin.list_and_watch, plugin.allocate)


@contextlib.asynccontextmanager
async def serving(handler, path):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(services.unix_target(str(path)))
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


async def test_device_plugin_over_a_real_socket(folder):
    path = folder / "p.sock"
    async with serving(plugin_handler(Plugin()), path), services.unix_channel(str(path)) as channel:
        assert path.is_socket()
        plugin = services.DevicePluginStub(channel)
        assert (await plugin.get_device_plugin_options(pb.Empty())).pre_start_required
        sizes = [len(answer.devices) async for answer in plugin.list_and_watch(pb.Empty())]
        assert sizes == [2, MAX_DEVICES]
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=["AAA", "AAB"])])
        assert (await plugin.allocate(request)).container_responses[0].envs["N"] == "2"


async def test_bytes_that_are_no_allocate_request_are_refused(folder):
    path = folder / "p.sock"
    async with serving(plugin_handler(Plugin()), path), services.unix_channel(str(path)) as channel:
        allocate = channel.unary_unary("/v1beta1.DevicePlugin/Allocate")  # bytes as they are
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await allocate(b"\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_registration_over_a_real_socket(folder):
    path = folder / services.KUBELET_SOCKET_NAME
    async with serving(services.registration_handler(register), path), services.unix_channel(str(path)) as channel:
        kubelet = services.RegistrationStub(channel)
        assert await kubelet.register(pb.RegisterRequest(version=services.API_VERSION)) == pb.Empty()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kubelet.register(pb.RegisterRequest(version="v1"))
        assert caught.value.details() == "no version v1"


async def test_what_is_larger_than_the_kubelets_limit_does_not_arrive(folder):
    class TooLong(Plugin):
        async def list_and_watch(self, request, context):
            yield encode_device_list(MAX_DEVICES) + encode_device_list(1)

    path = folder / "p.sock"
    async with serving(plugin_handler(TooLong()), path), services.unix_channel(str(path)) as channel:
        stream = services.DevicePluginStub(channel).list_and_watch(pb.Empty())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
