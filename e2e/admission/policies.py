"""Policies beside those of the release: the chart's own with other values, and others' that inject."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping

from e2e import add_on
from e2e.cluster import Cluster

OPT_OUT = "confcom.internal/epc-names"
"""The label of a namespace whose names stay, with the value `unchanged`."""
TEMPLATES = ("epc-policy", "pod-policy", "template-policy")


@contextlib.contextmanager
def rendered(cluster: Cluster, *settings: str) -> Iterator[None]:
    """Have the chart's policies of these values beside the release's, under other names."""
    mutate = () if any(one.startswith("admission.mutate") for one in settings) else ("admission.mutate=on",)
    chosen = [f"--set={one}" for one in (*add_on.CONSENT, "image.registry=registry.example.com", *mutate, *settings)]
    # helm has no option to leave out what is empty with these values.
    shown = [f"--show-only=templates/{name}.yaml" for name in TEMPLATES if name != "epc-policy" or mutate]
    chart = str(add_on.ROOT / "charts" / "confcom")
    words = ["helm", "template", add_on.RELEASE, chart, f"--namespace={add_on.SYSTEM}", *chosen, *shown]
    text = cluster.run(words).stdout
    text = re.sub("confcom-(epc-names|pods|templates)", rf"confcom-case-{secrets.token_hex(4)}-\1", text)
    cluster.kubectl("create", "--filename=-", input=text)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--filename=-", input=text)


@contextlib.contextmanager
def injecting(
    cluster: Cluster, namespace: str, limits: Mapping[str, Mapping[str, str]]
) -> Iterator[Callable[[int], None]]:
    """Have a mutating policy for each of these containers, which adds limits to it.

    Yields what has the API server draw the order of its policies anew.
    """
    names = {one: f"case-{secrets.token_hex(4)}-{one}" for one in limits}
    for one, name in names.items():
        for made in _injector(name, namespace, one, limits[one]):
            cluster.kubectl("create", "--filename=-", input=json.dumps(made))

    def draw(number: int) -> None:
        for name in names.values():
            cluster.kubectl("annotate", "mutatingadmissionpolicybinding", name, f"draw={number}", "--overwrite")

    try:
        yield draw
    finally:
        for name in names.values():
            cluster.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", name)


def _injector(name: str, namespace: str, of: str, limits: Mapping[str, str]) -> tuple[dict[str, object], ...]:
    # Once: what it has added, the release's policy takes away.
    once = f'!("case/{of}" in object.metadata.?annotations.orValue({{}}))'
    added = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in limits.items())
    resources = f"Object.spec.containers.resources{{limits: {{{added}}}, requests: {{{added}}}}}"
    containers = (
        f'object.spec.containers.filter(c, c.name == "{of}")'
        f".map(c, Object.spec.containers{{name: c.name, resources: {resources}}})"
    )
    metadata = f'Object.metadata{{annotations: {{"case/{of}": "injected"}}}}'
    expression = f"Object{{metadata: {metadata}, spec: Object.spec{{containers: {containers}}}}}"
    condition = f'{once} && object.spec.containers.exists(c, c.name == "{of}")'
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": selector},
        "matchConditions": [{"name": "its-pod", "expression": condition}],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    }
    return (
        {**head, "kind": "MutatingAdmissionPolicy", "spec": spec},
        {**head, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}},
    )
