"""Checks the wire format byte for byte, because Kubernetes fixes the field numbers for ever."""

import pytest
from google.protobuf.internal import api_implementation

from confcom.kubelet_api import deviceplugin_pb2 as pb


def test_the_c_implementation_of_protobuf_is_in_use():
    assert api_implementation.Type() == "upb"


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (
            pb.RegisterRequest(version="v1beta1", endpoint="a.sock", resource_name="b/c"),
            b"\x0a\x07v1beta1\x12\x06a.sock\x1a\x03b/c",
        ),
        (
            pb.ListAndWatchResponse(devices=[pb.Device(ID="AAA", health="Healthy")]),
            b"\x0a\x0e\x0a\x03AAA\x12\x07Healthy",
        ),
        (
            pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=["AAA", "AAB"])]),
            b"\x0a\x0a\x0a\x03AAA\x0a\x03AAB",
        ),
        (pb.ContainerAllocateResponse(envs={"a": "b"}), b"\x0a\x06\x0a\x01a\x12\x01b"),
        (
            pb.ContainerAllocateResponse(mounts=[pb.Mount(container_path="/a", host_path="/b", read_only=True)]),
            b"\x12\x0a\x0a\x02/a\x12\x02/b\x18\x01",
        ),
        (
            pb.ContainerAllocateResponse(
                devices=[pb.DeviceSpec(container_path="/a", host_path="/b", permissions="rw")]
            ),
            b"\x1a\x0c\x0a\x02/a\x12\x02/b\x1a\x02rw",
        ),
        (pb.AllocateResponse(container_responses=[pb.ContainerAllocateResponse()]), b"\x0a\x00"),
    ],
)
def test_wire_format(message, wire):
    assert message.SerializeToString(deterministic=True) == wire
    assert type(message).FromString(wire) == message
