"""What cases of admission ask of the API server: what it makes of a Pod, and what it says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2e.admission.pattern import Made, Manifest, Pattern, admitted
from e2e.tenants import Tenant

SPOKEN = "Validation failed for ValidatingAdmissionPolicy 'confcom-"
"""With which warnings of ours begin, after `Warning: `."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The object as it would be stored, empty if it is refused; and what was said: refusal and warnings."""

    made: Mapping[str, Any]
    said: str

    @property
    def warnings(self) -> list[str]:
        """Those of our policies."""
        return [line for line in self.said.splitlines() if SPOKEN in line]


def dry_run(tenant: Tenant, manifest: Manifest) -> Answer:
    """What would be stored, and is not."""
    done = tenant.create(manifest, "--dry-run=server", "--output=json", check=False)
    return Answer(json.loads(done.stdout) if done.returncode == 0 else {}, done.stderr)


def create(tenant: Tenant, manifest: Manifest) -> Answer:
    """What is stored."""
    done = tenant.create(manifest, "--output=json", check=False)
    return Answer(json.loads(done.stdout) if done.returncode == 0 else {}, done.stderr)


def apply(tenant: Tenant, manifest: Manifest, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `kubectl apply`."""
    return tenant.kubectl("apply", "--filename=-", *more, input=json.dumps(manifest), check=False)


def check(tenant: Tenant, pattern: Pattern) -> None:
    """Hold what the API server makes of a pattern to the table; whatever is not told there must be as it was."""
    answer = dry_run(tenant, pattern.pod)
    if pattern.refused:
        assert not answer.made
        assert pattern.refused in answer.said
        return
    assert answer.made, answer.said
    check_containers(answer.made, pattern.made)
    check_the_rest(pattern.pod, answer.made)


def check_containers(of: Mapping[str, Any], made: Mapping[str, Made]) -> None:
    """Hold limits, requests and variables of a Pod's containers to what is wanted, in their order."""
    found = admitted(of)
    assert found == dict(made)
    assert {name: list(one.env) for name, one in found.items()} == {name: list(one.env) for name, one in made.items()}
    for one in [*of["spec"].get("initContainers", []), *of["spec"]["containers"]]:
        assert one["resources"].get("requests", {}) == one["resources"].get("limits", {})


def check_the_rest(before: Manifest, after: Mapping[str, Any]) -> None:
    """Whatever is not limits, variables or annotations of ours is as somebody wrote it."""
    spec, made = before["spec"], after["spec"]

    def volumes(of: Mapping[str, Any]) -> list[tuple[str, str]]:
        listed = [(one["name"], one.get("hostPath", {}).get("path", "")) for one in of.get("volumes", [])]
        return [one for one in listed if not one[0].startswith("kube-api-access-")]

    assert volumes(made) == volumes(spec)
    assert all(one in made["tolerations"] for one in spec.get("tolerations", []))
    assert made.get("affinity") == spec.get("affinity")
    for one, two in zip(spec["containers"], made["containers"], strict=True):
        mounts = [(m["name"], m["mountPath"]) for m in one.get("volumeMounts", [])]
        assert [
            (m["name"], m["mountPath"]) for m in two.get("volumeMounts", []) if "serviceaccount" not in m["mountPath"]
        ] == mounts
        assert two.get("securityContext") == one.get("securityContext")
    annotations = before["metadata"].get("annotations", {})
    assert annotations.items() <= after["metadata"].get("annotations", {}).items() or "config.mirror" in str(
        annotations
    )
