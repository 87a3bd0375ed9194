"""Dry runs and checks of Pods in admission cases: the Pod as the API server admits it, and its messages."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2e.admission.pattern import Made, Manifest, Pattern, admitted
from e2e.tenants import Tenant

SPOKEN = "Validation failed for ValidatingAdmissionPolicy 'confcom-"
"""Beginning of the add-on's own warnings, after `Warning: `."""


@dataclass(frozen=True, slots=True)
class Answer:
    """API server's answer: the object as stored (empty if refused), and the text of refusal and warnings."""

    made: Mapping[str, Any]
    said: str

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.said.splitlines() if SPOKEN in line]


def dry_run(tenant: Tenant, manifest: Manifest) -> Answer:
    """The answer to a dry run, which stores nothing."""
    return create(tenant, manifest, "--dry-run=server")


def create(tenant: Tenant, manifest: Manifest, *more: str) -> Answer:
    done = tenant.create(manifest, "--output=json", *more, check=False)
    return Answer(json.loads(done.stdout) if done.returncode == 0 else {}, done.stderr)


def apply(tenant: Tenant, manifest: Manifest, *more: str) -> subprocess.CompletedProcess[str]:
    return tenant.kubectl("apply", "--filename=-", *more, input=json.dumps(manifest), check=False)


def check(tenant: Tenant, pattern: Pattern) -> Mapping[str, Any]:
    """Let the API server dry-run a pattern's Pod, and compare the result with the table; return the Pod."""
    answer = dry_run(tenant, pattern.pod)
    if pattern.refused:
        assert not answer.made
        assert pattern.refused in answer.said
        return answer.made
    assert answer.made, answer.said
    check_containers(answer.made, pattern.made)
    check_the_rest(pattern.pod, answer.made)
    return answer.made


def check_containers(of: Mapping[str, Any], made: Mapping[str, Made]) -> None:
    """Check that limits, requests and variables of a Pod's containers are as wanted, in the same order."""
    found = admitted(of)
    assert found == dict(made)
    assert {name: list(one.env) for name, one in found.items()} == {name: list(one.env) for name, one in made.items()}
    for one in [*of["spec"].get("initContainers", []), *of["spec"]["containers"]]:
        assert one["resources"].get("requests", {}) == one["resources"].get("limits", {})


def check_the_rest(before: Manifest, after: Mapping[str, Any]) -> None:
    """Check that everything except resources, variables and our annotations is as in the manifest."""
    spec = copy.deepcopy(before["spec"])
    for one in [*spec.get("initContainers", []), *spec["containers"]]:
        one.pop("resources", None)
        one.pop("env", None)
    assert _keeps(after["spec"], spec)
    names = [one["name"] for one in after["spec"].get("volumes", [])]
    assert [one for one in names if not one.startswith("kube-api-access-")] == [
        one["name"] for one in spec.get("volumes", [])
    ]
    wanted = {key: value for key, value in before["metadata"].get("annotations", {}).items() if "mirror" not in key}
    assert wanted.items() <= after["metadata"].get("annotations", {}).items()


def _keeps(after: object, before: object) -> bool:
    if isinstance(before, dict):
        return isinstance(after, dict) and all(key in after and _keeps(after[key], before[key]) for key in before)
    if isinstance(before, list):
        return isinstance(after, list) and all(any(_keeps(there, one) for there in after) for one in before)
    return after == before
