"""Objects on which admission policies cost most: as large as an API server accepts, with any content."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e.admission.pattern import BUDGET, BYTES, ENCLAVE, MIB, PROVIDER, PROVISION, Manifest, container, pod, template

LARGEST = 3 << 20
"""Size in bytes of the largest request that an API server reads."""
CONTAINERS, ASKING, PARTS = 1000, 50, 10000
"""Limits on what policies inspect: confcom.mostContainers, mostAsking and mostParts of the chart."""
EPC: Manifest = {"resources": {"limits": {BYTES: "1Mi"}}}
EVERY: Manifest = {"resources": {"limits": {BYTES: "1Mi", MIB: "2", ENCLAVE: "1"}}}
REFUSED: Manifest = {"resources": {"limits": {MIB: "10Mi", ENCLAVE: "9", PROVISION: "1"}}}
MOUNT = {"name": "v", "mountPath": "/v", "subPath": "aesm.socke"}


@dataclass(frozen=True, slots=True)
class Worst:
    name: str
    made: Callable[[int], Manifest]
    """Function that makes the object with a given number of entries."""
    most: int = 0
    """Number of entries; 0 means as many as fit. Otherwise an argument pads the object to its size."""

    def body(self, size: int) -> bytes:
        """The object as JSON, a little shorter than `size` bytes."""
        if self.most:
            made = self.made(self.most * size // LARGEST)
            _spec_of(made)["containers"][0]["args"] = ["x" * (size - len(_json(made)) - 20)]
            return _json(made)
        low, high = 1, size
        while high - low > max(1, low // 100):
            middle = (low + high) // 2
            low, high = (middle, high) if len(_json(self.made(middle))) <= size else (low, middle)
        return _json(self.made(low))


def _json(made: Manifest) -> bytes:
    return json.dumps(made, separators=(",", ":")).encode()


def _spec_of(made: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = made["spec"]
    spec = spec["jobTemplate"]["spec"] if made["kind"] == "CronJob" else spec
    return spec if made["kind"] == "Pod" else spec["template"]["spec"]


def _variables(count: int) -> list[Manifest]:
    return [{"name": f"V{number}"} for number in range(count)]


def _annotated(made: Callable[[int], dict[str, str]]) -> Callable[[int], Manifest]:
    return lambda count: pod(container("app", {BYTES: "1Mi"}), annotations=made(count))


def _one(**more: Callable[[int], object]) -> Callable[[int], Manifest]:
    """Makes a Pod of one container with EPC; each field in `more` gets the given number of entries."""
    return lambda count: pod(container("app", {BYTES: "1Mi"}) | {name: made(count) for name, made in more.items()})


def _many(field: str = "containers", /, **more: object) -> Callable[[int], Manifest]:
    """A Pod of this many containers."""
    return _listed(field, lambda number: {"name": f"c{number}", "image": "x", **more})


def _listed(field: str, entry: Callable[[int], Manifest]) -> Callable[[int], Manifest]:
    """A Pod with EPC whose spec has a list of this many entries."""

    def made(count: int) -> Manifest:
        whole = pod(container("app", {BYTES: "1Mi"}))
        whole["spec"][field] = [entry(number) for number in range(count)]
        return whole

    return made


def _owned(count: int) -> Manifest:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}
    return pod(container("app")) | {"metadata": {"name": "probe", "ownerReferences": [owner] * count}}


def _of(kind: str, made: Callable[[int], Manifest]) -> Callable[[int], Manifest]:
    return lambda count: template(kind, made(count))


def _object(kind: str, spec: Callable[[int], Manifest]) -> Callable[[int], Manifest]:
    return lambda count: {"apiVersion": "v1", "kind": kind, "metadata": {"name": "probe"}, "spec": spec(count)}


PROVIDED = _annotated(lambda count: {PROVIDER: "x," * count})
WORST = (
    Worst("annotation of the provider", PROVIDED),
    Worst("annotations", _annotated(lambda count: {f"a{number}": "" for number in range(count)})),
    Worst("variables without EPC", lambda count: pod(container("app") | {"env": _variables(count)})),
    Worst("variables", _one(env=_variables)),
    Worst("variables that are looked at", _one(env=_variables), PARTS),
    Worst("variables of the policy's name", _one(env=lambda count: [{"name": BUDGET, "value": "1"}] * count), PARTS),
    Worst("containers with variables that are looked at", _many(**EPC, env=_variables(200)), ASKING),
    Worst("containers with variables", _many(**EPC, env=_variables(1800)), ASKING),
    Worst("containers", _many()),
    Worst("containers that are looked at", _many(resources={"limits": {"cpu": "1"}}), CONTAINERS),
    Worst("containers with EPC", _many(**EPC)),
    Worst("containers with EPC that are looked at", _many(**EVERY), ASKING),
    Worst("containers that are refused", _many(**REFUSED), ASKING),
    Worst("init containers with EPC", _many("initContainers", **EPC)),
    Worst("init containers that are looked at", _many("initContainers", **EPC), ASKING),
    Worst("ephemeral containers", _many("ephemeralContainers", **EPC)),
    Worst("limits", lambda count: pod(container("app", {BYTES: "1Mi"} | {f"r/{n}": 1 for n in range(count)}))),
    Worst("a long amount", lambda count: pod(container("app", {MIB: "1" * count}))),
    Worst("a long amount of bytes", lambda count: pod(container("app", {BYTES: "1" * count}))),
    Worst("a long name", lambda count: pod(container("x" * count, {MIB: "10Mi"}))),
    Worst("volumes", _listed("volumes", lambda number: {"name": f"v{number}", "emptyDir": {}})),
    Worst("mounts", _one(volumeMounts=lambda count: [MOUNT | {"mountPath": f"/{n}"} for n in range(count)])),
    Worst("tolerations", _listed("tolerations", lambda _: {"operator": "Exists"})),
    Worst("arguments", _one(args=lambda count: ["x"] * count)),
    Worst("owners", _owned),
    Worst("Deployment: annotation of the provider", _of("Deployment", PROVIDED)),
    Worst("Deployment: a long amount", _of("Deployment", lambda count: pod(container("app", {MIB: "1" * count})))),
    Worst("Deployment: variables", _of("Deployment", _one(env=_variables))),
    Worst("Deployment: containers with EPC", _of("Deployment", _many(**EPC))),
    Worst("Deployment: containers that are refused", _of("Deployment", _many(**REFUSED)), ASKING),
    Worst("Deployment: mounts that are looked at", _of("Deployment", _many(volumeMounts=[MOUNT] * 9)), CONTAINERS),
    Worst("CronJob: containers with EPC that are looked at", _of("CronJob", _many(**EVERY)), ASKING),
    Worst("ResourceQuota", _object("ResourceQuota", lambda count: {"hard": {f"r/{n}": 1 for n in range(count)}})),
    Worst("ResourceQuota: a long amount", _object("ResourceQuota", lambda n: {"hard": {f"requests.{BYTES}": "1" * n}})),
    Worst("LimitRange", _object("LimitRange", lambda count: {"limits": [{"type": f"t/{n}"} for n in range(count)]})),
)
