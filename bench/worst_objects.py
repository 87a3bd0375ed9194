"""Objects that cost admission policies most: as large as an API server reads them, whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from e2e.admission.pattern import AESM, BYTES, ENCLAVE, MIB, PROVIDER, PROVISION, Manifest, container, pod, template

LARGEST = 3 << 20
"""Bytes of a request that an API server reads."""
MANY = 1000
"""Of one kind, where another kind fills the object."""
TEMPLATES = {"Deployment": "apps/v1", "CronJob": "batch/v1"}


@dataclass(frozen=True, slots=True)
class Worst:
    """A kind of object.

    Args:
        name: for people.
        made: the object, from a number of entries.
    """

    name: str
    made: Callable[[int], Manifest]

    def body(self, size: int) -> bytes:
        """The object as JSON, just below a size in bytes."""
        low, high = 1, size
        while high - low > max(1, low // 200):
            middle = (low + high) // 2
            low, high = (middle, high) if len(_json(self.made(middle))) <= size else (low, middle)
        return _json(self.made(low))


def _json(made: Manifest) -> bytes:
    return json.dumps(made, separators=(",", ":")).encode()


def _names(count: int) -> str:
    return ",".join(f"n{number}" for number in range(count))


def _annotated(key: str, of: Callable[[int], str], limits: dict[str, object]) -> Callable[[int], Manifest]:
    return lambda count: pod(container("app", limits), annotations={key: of(count)})


def _variables(count: int) -> list[Manifest]:
    return [{"name": f"V{number}"} for number in range(count)]


def _containers(count: int, **more: Any) -> list[Manifest]:
    return [{"name": f"c{number}", **more} for number in range(count)]


def _spec(**more: Any) -> Manifest:
    return {**pod(container("app"))["spec"], **more}


def _pod(**more: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": _spec(**more)}


EPC = {BYTES: "1Mi"}
LIMITED = {"resources": {"limits": EPC}}
ALL = {"resources": {"limits": {BYTES: "1Mi", MIB: "2", ENCLAVE: "1", PROVISION: "1"}}}
NOTES = ("confcom.internal/both-epc-names", "confcom.internal/epc-budgets")
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "probe"}}
RANGE = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "probe"}}


def _worst() -> Iterator[Worst]:
    one = container("app", EPC)
    for note in NOTES:
        yield Worst(f"annotation {note}, without EPC", _annotated(note, _names, {}))
        yield Worst(f"annotation {note}, with EPC", _annotated(note, _names, EPC))
    yield Worst(
        "both annotations, with EPC",
        lambda count: pod(one, annotations=dict.fromkeys(NOTES, _names(count))),
    )
    yield Worst("annotation of commas", _annotated(NOTES[0], lambda count: "," * count, EPC))
    yield Worst(
        "many annotations", lambda count: pod(one, annotations={f"a{number}": "" for number in range(count)})
    )
    yield Worst("annotation of the provider", _annotated(PROVIDER, lambda count: "x" * count, EPC))
    yield Worst("variables", lambda count: pod(one | {"env": _variables(count)}))
    yield Worst("empty variables", lambda count: pod(one | {"env": [{}] * count}))
    yield Worst("variables without EPC", lambda count: pod(container("app") | {"env": _variables(count)}))
    yield Worst(
        "a thousand containers with EPC and variables",
        lambda count: _pod(containers=_containers(MANY, **LIMITED, env=_variables(count // MANY + 1))),
    )
    yield Worst("containers", lambda count: _pod(containers=_containers(count)))
    yield Worst("empty containers", lambda count: _pod(containers=[{}] * count))
    yield Worst("containers with EPC", lambda count: _pod(containers=_containers(count, **LIMITED)))
    yield Worst("containers with every name", lambda count: _pod(containers=_containers(count, **ALL)))
    yield Worst("init containers with EPC", lambda count: _pod(initContainers=_containers(count, **LIMITED)))
    yield Worst("empty init containers", lambda count: _pod(initContainers=[{}] * count))
    yield Worst(
        "a thousand containers with EPC and long names",
        lambda count: _pod(containers=[{"name": "x" * (count // MANY), **LIMITED}] * MANY),
    )
    yield Worst("ephemeral containers", lambda count: _pod(ephemeralContainers=_containers(count, **LIMITED)))
    yield Worst(
        "limits", lambda count: pod(container("app", EPC | {f"r/{number}": 1 for number in range(count)}))
    )
    yield Worst("a long amount", lambda count: pod(container("app", {MIB: "1" * count})))
    yield Worst("a long amount of bytes", lambda count: pod(container("app", {BYTES: "1" * count})))
    yield Worst("a long container name", lambda count: pod(container("x" * count, {MIB: "10Mi"})))
    yield Worst("volumes", lambda count: _pod(volumes=[{"name": f"v{number}"} for number in range(count)]))
    yield Worst("empty volumes", lambda count: _pod(volumes=[{}] * count))
    yield Worst(
        "volumes of long paths",
        lambda count: _pod(volumes=[{"name": "v", "hostPath": {"path": "/aesm.socket" * (count // MANY)}}] * MANY),
    )
    yield Worst("mounts", lambda count: pod(one | {"volumeMounts": [{"subPath": "x"}] * count}))
    yield Worst("empty mounts", lambda count: pod(one | {"volumeMounts": [{}] * count}))
    yield Worst(
        "owners", lambda count: pod(one) | {"metadata": {"name": "probe", "ownerReferences": [{}] * count}}
    )
    for kind in TEMPLATES:
        yield Worst(
            f"{kind}: annotation {NOTES[0]}", lambda count, kind=kind: template(kind, _annotated(NOTES[0], _names, {})(count))
        )
        yield Worst(
            f"{kind}: empty containers", lambda count, kind=kind: template(kind, _pod(containers=[{}] * count))
        )
        yield Worst(
            f"{kind}: containers with EPC",
            lambda count, kind=kind: template(kind, _pod(containers=_containers(count, **LIMITED))),
        )
    yield Worst(
        "ResourceQuota", lambda count: QUOTA | {"spec": {"hard": {f"r/{number}": 1 for number in range(count)}}}
    )
    yield Worst("LimitRange", lambda count: RANGE | {"spec": {"limits": [{}] * count}})


WORST = tuple(_worst())
