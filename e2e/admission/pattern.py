"""Notation for one way to ask for EPC: the Pod, and its admitted containers or the refusal."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Manifest = dict[str, Any]

MIB: Final = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
BYTES: Final = "sgx.intel.com/epc"
ENCLAVE: Final = "sgx.intel.com/enclave"
PROVISION: Final = "sgx.intel.com/provision"
HELPER_EPC: Final = "confcom.internal/quote_helper_epc_mem_in_MiB"
SIMULATED_MIB: Final = "simulated.confcom.internal/sgx_epc_mem_in_MiB"
SIMULATED_ENCLAVE: Final = "simulated.confcom.internal/enclave"
BUDGET: Final = "CONFCOM_SGX_EPC_MIB"
AESM: Final = "SGX_AESM_ADDR"
PROVIDER: Final = "sgx.intel.com/quote-provider"
IMAGE: Final = "registry.example.com/enclave:1.0"


@dataclass(frozen=True, slots=True)
class Made:
    """A container as admitted; its requests equal its limits. In `env`, None means no literal value."""

    limits: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A way to ask for EPC: the containers as admitted, or a part of the refusal's text.

    A user who applies a template of the Pod is warned with the refusal's text or `warned`. `trusted`: the
    Pod's namespace may ask for the provision device. `used`: people or projects that have such manifests.
    """

    name: str
    pod: Manifest
    made: Mapping[str, Made] = field(default_factory=dict)
    refused: str = ""
    warned: str = ""
    trusted: bool = False
    used: str = ""

    def __str__(self) -> str:
        return re.sub("[^A-Za-z0-9]+", "-", self.name)


def container(name: str, limits: Mapping[str, object] | None = None, **more: object) -> Manifest:
    """A container with these limits and further fields; `env` maps names to values."""
    made: Manifest = {"name": name, "image": IMAGE}
    if limits:
        made["resources"] = {"limits": dict(limits)}
    env = more.pop("env", None)
    if isinstance(env, dict):
        made["env"] = [{"name": key, "value": value} for key, value in env.items()]
    return {**made, **more}


def pod(*containers: Manifest, annotations: Mapping[str, str] | None = None, **more: object) -> Manifest:
    metadata: Manifest = {"name": "probe"}
    if annotations:
        metadata["annotations"] = dict(annotations)
    spec = {"restartPolicy": "Never", **more, "containers": list(containers)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def app(limits: Mapping[str, object], **more: object) -> Manifest:
    return pod(container("app", limits, **more))


def epc(mib: int, **more: str | None) -> Made:
    """Admitted container with this much EPC, the enclave device and the budget; further variables follow."""
    return Made({MIB: quantity(mib), ENCLAVE: "1"}, {BUDGET: str(mib), **more})


def quantity(number: int) -> str:
    """A number in the notation in which the API server returns quantities."""
    return f"{number // 1000}k" if number and number % 1000 == 0 else str(number)


def template(kind: str, of: Manifest) -> Manifest:
    """A Job, CronJob, Deployment, StatefulSet, DaemonSet, ReplicaSet or ReplicationController of this Pod."""
    labels = {"app": "probe"}
    part = copy.deepcopy({"metadata": {**of["metadata"], "labels": labels}, "spec": of["spec"]})
    part["metadata"].pop("name", None)
    if kind not in {"Job", "CronJob"}:
        part["spec"].pop("restartPolicy", None)
    job = {"template": part}
    spec: Manifest = {"selector": {"matchLabels": labels}, "template": part}
    if kind == "Job":
        spec = job
    if kind == "CronJob":
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}
    if kind == "StatefulSet":
        spec["serviceName"] = "probe"
    if kind == "ReplicationController":
        spec["selector"] = labels
    version = {"Job": "batch/v1", "CronJob": "batch/v1", "ReplicationController": "v1"}.get(kind, "apps/v1")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "probe"}, "spec": spec}


def admitted(of: Mapping[str, Any]) -> dict[str, Made]:
    spec = of["spec"]
    return {
        one["name"]: Made(
            one.get("resources", {}).get("limits", {}), {e["name"]: e.get("value") for e in one.get("env", [])}
        )
        for one in [*spec.get("initContainers", []), *spec["containers"]]
    }
