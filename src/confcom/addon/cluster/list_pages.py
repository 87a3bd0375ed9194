"""Decodes pages of nodes and pods, and skips the fields that no decision needs.

Most of an object is skipped: its managed fields, images, variables. msgspec makes no Python objects of it, and takes a
tenth of the time of the json module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from confcom.addon.cluster.unexpected_output import not_readable
from confcom.kubernetes.objects import KubernetesObject


class _Metadata(Struct, gc=False):
    name: Any = UNSET
    namespace: Any = UNSET
    uid: Any = UNSET
    labels: Any = UNSET
    creationTimestamp: Any = UNSET  # noqa: N815  (Kubernetes' name, as all of these)
    deletionTimestamp: Any = UNSET  # noqa: N815
    ownerReferences: Any = UNSET  # noqa: N815


class _NodeMetadata(_Metadata, gc=False):
    annotations: Any = UNSET


class _NodeSpec(Struct, gc=False):
    taints: Any = UNSET
    unschedulable: Any = UNSET


class _NodeStatus(Struct, gc=False):
    capacity: Any = UNSET
    allocatable: Any = UNSET
    conditions: Any = UNSET


class _Node(Struct, gc=False):
    metadata: _NodeMetadata | None = None
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


class _Container(Struct, gc=False):
    name: Any = UNSET
    image: Any = UNSET
    args: Any = UNSET
    resources: Any = UNSET
    restartPolicy: Any = UNSET  # noqa: N815
    volumeMounts: Any = UNSET  # noqa: N815


class _PodSpec(Struct, gc=False):
    nodeName: Any = UNSET  # noqa: N815
    nodeSelector: Any = UNSET  # noqa: N815
    affinity: Any = UNSET
    tolerations: Any = UNSET
    overhead: Any = UNSET
    volumes: Any = UNSET
    containers: list[_Container] | None = None
    initContainers: list[_Container] | None = None  # noqa: N815


class _ContainerStatus(Struct, gc=False):
    name: Any = UNSET
    state: Any = UNSET
    lastState: Any = UNSET  # noqa: N815
    ready: Any = UNSET
    restartCount: Any = UNSET  # noqa: N815


class _PodStatus(Struct, gc=False):
    phase: Any = UNSET
    reason: Any = UNSET
    message: Any = UNSET
    conditions: Any = UNSET
    containerStatuses: list[_ContainerStatus] | None = None  # noqa: N815
    initContainerStatuses: list[_ContainerStatus] | None = None  # noqa: N815


class _Pod(Struct, gc=False):
    metadata: _Metadata | None = None
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _ListMetadata(Struct, rename={"token": "continue"}):
    token: str = ""


class _NodeList(Struct):
    items: list[_Node] | None
    metadata: _ListMetadata | None = None


class _PodList(Struct):
    items: list[_Pod] | None
    metadata: _ListMetadata | None = None


_KINDS = {"nodes": _NodeList, "pods": _PodList}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list."""

    items: Sequence[KubernetesObject]
    token: str
    """For the next page; empty in the last one."""


def decode_page(done: CompletedProcess[bytes], plural: str, failure: str) -> Page:
    """Decode what the API server answered.

    Args:
        done: kubectl, which printed it.
        plural: `nodes` or `pods`.
        failure: the error's text if it is something else.

    Raises:
        ClusterAccessError: it is something else, which the error shows.
    """
    try:
        found = msgspec.json.decode(done.stdout, type=_KINDS[plural])
        return Page(msgspec.to_builtins(found.items) or (), found.metadata.token if found.metadata else "")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise not_readable(done, failure, "a list of Kubernetes objects", error) from error
