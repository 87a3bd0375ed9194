"""A user of the add-on, with Pods in one namespace: their logs, and the reasons why they are pending."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from e2e.add_on import EPC, ROOT
from e2e.cluster import Cluster
from e2e.cluster.node import RunOptions
from e2e.images import reference
from e2e.waiting import until

IMAGE = reference("sample-workload")
MANIFESTS = Path(__file__).parent / "manifests"
BASELINE = "pod-security.kubernetes.io/enforce=baseline"
"""Label of a namespace for the Pod Security level that forbids host paths and much else."""
QUOTE_PREFIX = "quote: "
HOLD = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit()); signal.pause()"
"""Program that runs until SIGTERM."""
DONE_SECONDS = 120.0
"""Seconds for a Pod to start and end; usually 3 on an otherwise idle machine."""

CODE, CLIENT_RESULTS = "/code", "/results"
"""Folders in a client's Pod: its program, and its results."""

Manifest = dict[str, Any]


def example(name: str) -> str:
    return (ROOT / "examples" / name).read_text()


def manifest(name: str, image: str) -> str:
    """A manifest of `e2e/manifests`, unchanged except for the image."""
    text, replaced = re.subn(r"image: .*", f"image: {image}", (MANIFESTS / f"{name}.yaml").read_text())
    assert replaced == 1
    return text


def container(
    name: str,
    *,
    limits: Mapping[str, int | str] | None = None,
    program: str = "",
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    **more: object,
) -> Manifest:
    """A container of the sample workload's image, which runs the sample workload or given Python code."""
    python = {"command": ["python", "-c", program, *arguments]} if program else {"args": list(arguments)}
    variables = [{"name": key, "value": value} for key, value in (environment or {}).items()]
    made = {"name": name, "image": IMAGE, "imagePullPolicy": "Never", "resources": {"limits": dict(limits or {})}}
    return {**made, **python, "env": variables, **more}


def pod(name: str, *containers: Manifest, node: str = "", **more: object) -> Manifest:
    """A Pod that runs once, on `node` if it is given; the scheduler still decides whether the Pod fits."""
    spec = {"restartPolicy": "Never", "containers": list(containers), "terminationGracePeriodSeconds": 1, **more}
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def quoting_pod(name: str, challenge: str, limits: Mapping[str, int], *, node: str = "", **more: object) -> Manifest:
    """A Pod that prints a quote over a challenge (in hexadecimal digits), and ends."""
    environment = {"SGX_AESM_ADDR": "1", "CONFCOM_CHALLENGE": challenge}
    return pod(name, container("main", limits=limits, environment=environment), node=node, **more)


def client_pod(name: str, command: Sequence[str], package: str, results: Path, *, node: str, epc_mib: int) -> Manifest:
    """A Pod that runs a package of the checkout, mounted read-only because an image contains no tests.

    The Pod also has testkit and the AESM socket. Its results are in `CLIENT_RESULTS`, on both node and machine.
    """
    mounts = {
        "testkit": (ROOT / "testkit", f"{CODE}/testkit", True),
        package: (ROOT / package, f"{CODE}/{package}", True),
        "aesmd": (Path("/var/run/aesmd"), "/var/run/aesmd", True),
        "results": (results, CLIENT_RESULTS, False),
    }
    main = container(
        "client",
        limits={EPC: epc_mib},
        environment={"PYTHONPATH": CODE},
        command=["python", *command],
        volumeMounts=[
            {"name": key, "mountPath": path, "readOnly": read_only} for key, (_, path, read_only) in mounts.items()
        ],
    )
    volumes = [
        {"name": key, "hostPath": {"path": str(path), "type": "Directory"}} for key, (path, _, _) in mounts.items()
    ]
    return pod(name, main, node=node, volumes=volumes)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A user with all rights of an administrator in one namespace."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, **options: Unpack[RunOptions]) -> subprocess.CompletedProcess[str]:
        patient: RunOptions = {"timeout": DONE_SECONDS + 30, **options}
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, **patient)

    def create(self, manifest: Manifest | str, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.kubectl("create", "--filename=-", *more, input=text, check=check)

    def get(self, name: str) -> Manifest:
        return self.cluster.kubectl_json("get", f"--namespace={self.namespace}", "pod", name)

    def pod_of(self, job: str) -> Manifest:
        query = ("get", f"--namespace={self.namespace}", "pods", f"--selector=job-name={job}")
        listed: list[Manifest] = until(lambda: self.cluster.kubectl_json(*query)["items"], f"Job {job} has a Pod")
        (only,) = listed
        return only

    def delete(self, name: str) -> None:
        self.kubectl("delete", "pod", name, "--grace-period=1")

    def wait_for_phase(self, name: str, phase: str) -> None:
        condition = f"--for=jsonpath={{.status.phase}}={phase}"
        self.kubectl("wait", condition, f"pod/{name}", f"--timeout={DONE_SECONDS:.0f}s")

    def wait_for_job(self, name: str) -> None:
        self.kubectl("wait", "--for=condition=Complete", f"job/{name}", f"--timeout={DONE_SECONDS:.0f}s")

    def log(self, name: str) -> str:
        """Log of a Pod, or of `job/NAME`."""
        return self.kubectl("logs", name).stdout

    def wait_for_quote(self, name: str) -> None:
        """Wait until a Pod that continues to run, or the Pod of `job/NAME`, has printed its quote."""
        until(lambda: QUOTE_PREFIX in self.log(name), f"{name} has its quote")

    def quoted_on(self, node: str) -> tuple[bytes, str]:
        """Quote of a new Pod on a node, and the challenge that the Pod got."""
        name, challenge = f"asks-{secrets.token_hex(4)}", secrets.token_hex(32)
        self.create(quoting_pod(name, challenge, {EPC: 1}, node=node))
        self.wait_for_phase(name, "Succeeded")
        return self.quote(name), challenge

    def quote(self, name: str) -> bytes:
        (line,) = [line for line in self.log(name).splitlines() if line.startswith(QUOTE_PREFIX)]
        return base64.b64decode(line.removeprefix(QUOTE_PREFIX), validate=True)

    def why_pending(self, name: str) -> str:
        """The scheduler's reason for a pending Pod, once the scheduler has found no room for it."""

        def reason() -> str:
            conditions = self.get(name)["status"].get("conditions", [])
            return next((one["message"] for one in conditions if one.get("reason") == "Unschedulable"), "")

        message = until(reason, f"the scheduler has looked at {name}", seconds=DONE_SECONDS)
        assert self.get(name)["status"]["phase"] == "Pending"
        return message
