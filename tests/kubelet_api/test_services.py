"""What the contract of kubelets does not ask for: paths that are no clean URI, and the largest list."""

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
        given = [
            pb.ContainerAllocateResponse(envs={"N": str(len(one.devices_ids))}) for one in request.container_requests
        ]
        return pb.AllocateResponse(container_responses=given)


@pytest.fixture
async def path():
    folder = tempfile.mkdtemp(prefix="a b%20c#", dir="/tmp")
    socket, plugin, server = Path(folder) / "p.sock", Plugin(), grpc.aio.server()
    handler = services.device_plugin_handler(plugin.get_device_plugin_options, plugin.list_and_watch, plugin.allocate)
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(services.unix_target(str(socket)))
    await server.start()
    yield socket
    await server.stop(None)
    shutil.rmtree(folder)


async def test_device_plugin_over_a_real_socket(path):
    async with services.unix_channel(str(path)) as channel:
        assert path.is_socket()
        plugin = services.DevicePluginStub(channel)
        assert (await plugin.get_device_plugin_options(pb.Empty())).pre_start_required
        sizes = [len(answer.devices) async for answer in plugin.list_and_watch(pb.Empty())]
        assert sizes == [2, MAX_DEVICES]
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=["AAA", "AAB"])])
        assert (await plugin.allocate(request)).container_responses[0].envs["N"] == "2"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/v1beta1.DevicePlugin/Allocate")(b"\xff")  # bytes as they are
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
