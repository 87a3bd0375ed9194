"""The nodes that a DaemonSet's pods may run on, by the scheduler's rules. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confcom.kubernetes.objects import KubernetesObject, labels_of, listing, mapping, name_of, text

_DAEMONS_TOLERATE = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/pid-pressure",
        "node.kubernetes.io/unschedulable",
    }
)
"""Taints for which the DaemonSet controller adds tolerations to its pods (Kubernetes: "Taints and tolerations").
It adds network-unavailable only for pods on the host's network, which ours are not."""


def selects(pod_spec: KubernetesObject, node: KubernetesObject) -> bool:
    """Return whether nodeSelector and required nodeAffinity of a pod's spec allow a node."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in mapping(pod_spec, "nodeSelector").items()):
        return False
    affinity = mapping(pod_spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = listing(affinity, "nodeSelectorTerms")
    return not affinity or any(_term_holds(term, labels, name_of(node)) for term in terms)


def untolerated(pod_spec: KubernetesObject, node: KubernetesObject) -> tuple[str, ...]:
    """Return the node's taints that a DaemonSet's pod does not tolerate, in kubectl's form (`KEY=VALUE:EFFECT`)."""
    return tuple(taint for taint in taints_against(pod_spec, node) if taint.partition("=")[0] not in _DAEMONS_TOLERATE)


def taints_against(pod_spec: KubernetesObject, node: KubernetesObject) -> tuple[str, ...]:
    """Return the node's taints that any other pod does not tolerate, in the same form."""
    tolerations = listing(pod_spec, "tolerations")
    return tuple(
        f"{text(taint, 'key')}={text(taint, 'value')}:{text(taint, 'effect')}"
        for taint in listing(node, "spec", "taints")
        if text(taint, "effect") in {"NoSchedule", "NoExecute"}
        and not any(_tolerates(one, taint) for one in tolerations)
    )


def tolerating(pod_specs: Sequence[KubernetesObject], taints: Sequence[str]) -> str:
    """Return the options of `confcom enable` and `update` that add tolerations to the daemons.

    Args:
        pod_specs: pod specs of the daemons, as they are or would be.
        taints: as `untolerated` returns them.
    """
    # Helm replaces the element at an index: start behind the existing tolerations, which would be lost otherwise.
    first = min(len(listing(one, "tolerations")) for one in pod_specs)
    keys = dict.fromkeys(taint.partition("=")[0] for taint in taints)
    return " ".join(
        f"--set tolerations[{index}].key={key} --set tolerations[{index}].operator=Exists"
        for index, key in enumerate(keys, first)
    )


def with_label(node: KubernetesObject, key: str, value: str) -> KubernetesObject:
    """Return a copy of the node with one more label."""
    metadata = mapping(node, "metadata")
    return {**node, "metadata": {**metadata, "labels": {**labels_of(node), key: value}}}


def _term_holds(term: KubernetesObject, labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = listing(term, "matchExpressions"), listing(term, "matchFields")
    if not expressions and not fields:
        return False
    return all(_holds(one, labels) for one in expressions) and all(
        _holds(one, {"metadata.name": name}) for one in fields
    )


def _holds(expression: KubernetesObject, labels: Mapping[str, str]) -> bool:
    found = labels.get(text(expression, "key"))
    values = expression.get("values")
    wanted = [str(value) for value in values] if isinstance(values, list) else []
    operator = text(expression, "operator")
    if operator in {"Exists", "DoesNotExist"}:
        return (found is not None) is (operator == "Exists")
    if operator in {"In", "NotIn"}:
        return (found in wanted) is (operator == "In")
    try:
        ours, theirs = int(found or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return {"Gt": ours > theirs, "Lt": ours < theirs}.get(operator, False)


def _tolerates(toleration: KubernetesObject, taint: KubernetesObject) -> bool:
    if text(toleration, "effect") not in {"", text(taint, "effect")}:
        return False
    key = text(toleration, "key")
    if text(toleration, "operator") == "Exists":
        return key in {"", text(taint, "key")}
    return key == text(taint, "key") and text(toleration, "value") == text(taint, "value")
