"""Decodes nodes and Pods of the API server, and skips what the controller does not need.

What a tenant can fill a Pod with is skipped by msgspec without making Python objects of it, which would take many
times the memory: among labels and amounts, too, only those that count are decoded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, field

from confcom.controller.api_server.errors import UnreadableError, error_of
from confcom.controller.limits_and_deadlines import DEEPEST
from confcom.kubernetes.objects import KubernetesObject

A = TypeVar("A")
"""Amounts by resource: a struct with the controller's resources."""
F = TypeVar("F")
"""The same of managed fields."""
Item = TypeVar("Item")
T = TypeVar("T")

_LABEL = "app.kubernetes.io"


class _Status(Struct):
    code: int = 0
    message: str = ""


class _Event(Struct):
    type: str
    object: Raw


class _ListMetadata(Struct, rename="camel"):
    resource_version: str = ""
    token: str = field(name="continue", default="")


class _List(Struct, Generic[Item]):
    items: list[Item] | None
    metadata: _ListMetadata


class _CapacityFields(Struct, Generic[F], gc=False):
    capacity: F | None = field(name="f:capacity", default=None)


class _Fields(Struct, Generic[F], gc=False):
    status: _CapacityFields[F] | None = field(name="f:status", default=None)


class _ManagedFields(Struct, Generic[F], rename={"fields": "fieldsV1"}, gc=False):
    manager: Any = UNSET
    fields: _Fields[F] | None = None


class _NodeMetadata(Struct, Generic[F], rename="camel", gc=False):
    name: Any = UNSET
    uid: Any = UNSET
    resource_version: Any = UNSET
    managed_fields: list[_ManagedFields[F]] | None = None


class _NodeStatus(Struct, Generic[A], gc=False):
    capacity: A | None = None
    allocatable: A | None = None


class _Node(Struct, Generic[A, F], gc=False):
    metadata: _NodeMetadata[F] | None = None
    status: _NodeStatus[A] | None = None


class _Labels(Struct, gc=False):
    name: Any = field(name=f"{_LABEL}/name", default=UNSET)
    instance: Any = field(name=f"{_LABEL}/instance", default=UNSET)
    component: Any = field(name=f"{_LABEL}/component", default=UNSET)


class _Owner(Struct, gc=False):
    kind: Any = UNSET
    controller: Any = UNSET


class _PodMetadata(Struct, rename="camel", gc=False):
    name: Any = UNSET
    namespace: Any = UNSET
    uid: Any = UNSET
    resource_version: Any = UNSET
    creation_timestamp: Any = UNSET
    labels: _Labels | None = None
    owner_references: list[_Owner] | None = None


class _Resources(Struct, Generic[A], gc=False):
    limits: A | None = None
    requests: A | None = None


class _Container(Struct, Generic[A], rename="camel", gc=False):
    resources: _Resources[A] | None = None
    restart_policy: Any = UNSET


class _PodSpec(Struct, Generic[A], rename="camel", gc=False):
    node_name: Any = UNSET
    overhead: A | None = None
    containers: list[_Container[A]] | None = None
    init_containers: list[_Container[A]] | None = None


class _ContainerStatus(Struct, rename={"container": "containerID"}, gc=False):
    container: Any = UNSET
    ready: Any = UNSET


class _PodStatus(
    Struct,
    rename={
        "pod_ip": "podIP",
        "start_time": "startTime",
        "container_statuses": "containerStatuses",
        "init_container_statuses": "initContainerStatuses",
    },
    gc=False,
):
    phase: Any = UNSET
    pod_ip: Any = UNSET
    start_time: Any = UNSET
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _Pod(Struct, Generic[A], gc=False):
    metadata: _PodMetadata | None = None
    spec: _PodSpec[A] | None = None
    status: _PodStatus | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of a list says beside its objects.

    Args:
        version: of the list, which a watch has to begin at.
        token: for the next page; empty in the last one.
        size: bytes of JSON.
    """

    version: str
    token: str
    size: int


class Kind:
    """Decodes objects of one kind.

    Args:
        item: the struct that has what is needed of one.
    """

    def __init__(self, item: Any) -> None:  # noqa: ANN401 # a struct for resources that are known at run time
        listed: Any = _List
        self._page: Any = msgspec.json.Decoder(listed[item])
        self._one: Any = msgspec.json.Decoder(item)

    def page(self, body: bytes | bytearray, take: Callable[[KubernetesObject], None]) -> Page:
        """Decode a page of a list, and pass on its objects one by one: each may be large."""
        found = _decoded(self._page.decode, body)
        for one in found.items or ():
            take(msgspec.to_builtins(one))
        return Page(found.metadata.resource_version, found.metadata.token, len(body))

    def one(self, body: bytes | bytearray | Raw) -> KubernetesObject:
        """Decode one object."""
        found: KubernetesObject = msgspec.to_builtins(_decoded(self._one.decode, body))
        return found

    def event(self, line: bytes | bytearray) -> tuple[str, KubernetesObject]:
        """Decode an event of a watch: ADDED, MODIFIED or DELETED, and the object.

        Raises:
            UnavailableError: the API server tells an error; ExpiredError for a version that is too old.
        """
        event = _decoded(_EVENT.decode, line)
        if event.type == "ERROR":
            status = _decoded(_STATUS.decode, event.object)
            raise error_of(status.code, status.message)
        return event.type, self.one(event.object)


def node_kind(resources: Sequence[str]) -> Kind:
    """Return what decodes nodes, with the amounts of these resources."""
    node: Any = _Node
    return Kind(node[_amounts(resources), _amounts([f"f:{resource}" for resource in resources])])


def pod_kind(resources: Sequence[str]) -> Kind:
    """Return what decodes Pods, with the amounts of these resources."""
    pod: Any = _Pod
    return Kind(pod[_amounts(resources)])


def message_of(body: bytes | bytearray) -> str:
    """Return what an error's body says; empty if it is not the API server's, but a proxy's."""
    try:
        return _decoded(_STATUS.decode, body).message
    except UnreadableError:
        return ""


def _amounts(names: Sequence[str]) -> type[Struct]:
    fields = [(f"amount_{number}", Any, field(name=name, default=UNSET)) for number, name in enumerate(names)]
    return msgspec.defstruct("Amounts", fields, gc=False)


def _decoded(decode: Callable[[Any], T], data: object) -> T:
    """Decode.

    Raises:
        UnreadableError: it is something else.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(DEEPEST)
    try:
        return decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableError("what the API server answered cannot be read", why=str(error)) from error
    finally:
        sys.setrecursionlimit(before)


_EVENT = msgspec.json.Decoder(_Event)
_STATUS = msgspec.json.Decoder(_Status)
