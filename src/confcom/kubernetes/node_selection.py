"""The nodes that a Pod's spec allows, by the scheduler's rules: nodeSelector, required nodeAffinity, taints. Pure."""

from collections.abc import Mapping

from confcom.kubernetes.objects import KubernetesObject, labels_of, listing, mapping, name_of, text

_DAEMONS_TOLERATE = frozenset(
    f"node.kubernetes.io/{one}"
    for one in ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
)
"""Taints for which the DaemonSet controller adds tolerations to its Pods (Kubernetes: "Taints and tolerations")."""


def selects(pod_spec: KubernetesObject, node: KubernetesObject) -> bool:
    """Return whether nodeSelector and required nodeAffinity of a Pod's spec allow a node."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in mapping(pod_spec, "nodeSelector").items()):
        return False
    affinity = mapping(pod_spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = listing(affinity, "nodeSelectorTerms")
    return not affinity or any(_term_holds(term, labels, name_of(node)) for term in terms)


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


def untolerated(pod_spec: KubernetesObject, node: KubernetesObject) -> tuple[str, ...]:
    """Return the node's taints that a DaemonSet's Pod does not tolerate, in kubectl's form (`KEY=VALUE:EFFECT`)."""
    tolerations = listing(pod_spec, "tolerations")
    return tuple(
        f"{text(taint, 'key')}={text(taint, 'value')}:{text(taint, 'effect')}"
        for taint in listing(node, "spec", "taints")
        if text(taint, "effect") in {"NoSchedule", "NoExecute"}
        and text(taint, "key") not in _DAEMONS_TOLERATE
        and not any(_tolerates(one, taint) for one in tolerations)
    )


def _tolerates(toleration: KubernetesObject, taint: KubernetesObject) -> bool:
    if text(toleration, "effect") not in {"", text(taint, "effect")}:
        return False
    key = text(toleration, "key")
    if text(toleration, "operator") == "Exists":
        return key in {"", text(taint, "key")}
    return key == text(taint, "key") and text(toleration, "value") == text(taint, "value")
