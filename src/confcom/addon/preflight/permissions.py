"""The permissions that a change of the add-on needs, and the access reviews that ask for them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confcom.kubernetes.objects import KubernetesObject, mapping

_CHANGE = ("get", "create", "patch", "delete")
"""Verbs that helm needs on the objects of a release over its life."""
STORING = ("get", "list", "create", "update", "delete")
"""Verbs that helm needs on Secrets, in which it stores a release's revisions."""
_GRANTED = ("get", "create", "delete")
"""Verbs on ConfigMaps that the hooks' Role grants to their Job. RBAC requires that whoever grants a permission has it.
The Role's verbs on Secrets are among STORING."""
_WATCH = ("list", "watch")
"""Verbs that helm also needs on the objects of hooks, of every kind, until they are done."""

_CLUSTER_WIDE = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "PriorityClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    }
)
"""Cluster-scoped kinds that charts contain; all other kinds are namespaced."""


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One verb on one resource."""

    verb: str
    resource: str
    """The plural, with a subresource after a slash, as in `nodes/status`."""
    group: str = ""
    namespace: str = ""
    """Empty for the whole cluster."""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}{where}"

    def review(self) -> KubernetesObject:
        """Return the SelfSubjectAccessReview that asks the API server."""
        resource, _, subresource = self.resource.partition("/")
        wanted = {"verb": self.verb, "resource": resource, "group": self.group, "namespace": self.namespace}
        attributes = {key: value for key, value in (wanted | {"subresource": subresource}).items() if value}
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }


def plural(kind: str) -> str:
    """Return a kind's resource name, by the rule that every kind in charts follows."""
    word = kind.lower()
    if word.endswith(("s", "x", "ch")):
        return f"{word}es"
    if word.endswith("cy"):
        return f"{word[:-1]}ies"
    return f"{word}s"


def is_cluster_wide(kind: str) -> bool:
    """Return whether a kind is cluster-scoped."""
    return kind in _CLUSTER_WIDE


USUAL_HOOK_KINDS = (
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("batch", "Job"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
)
"""Group and kind of the hooks, which make the simulated root, unless values say otherwise. The usual kinds are checked
if the chart cannot be rendered, as without permission to read the release, so that all missing permissions are
reported at once."""
USUAL_KINDS = (*USUAL_HOOK_KINDS, ("", "ConfigMap"), ("apps", "DaemonSet"))
"""The same of all objects."""

READING = (
    Permission("list", "nodes"),
    Permission("list", "pods"),
    Permission("list", "daemonsets", "apps"),
    Permission("list", "jobs", "batch"),
)
"""Permissions that preflight and status need."""

CLEANING = Permission("patch", "nodes/status")
"""The permission to remove dead resources from the nodes when the add-on is disabled."""


def asking_helpers(namespace: str) -> Permission:
    """Return the permission to ask quote helpers which simulated root they use.

    Without it, no command waits for them.
    """
    return Permission("get", "pods/proxy", namespace=namespace)


def probing(namespace: str) -> Permission:
    """Return the permission for the dry run that checks whether admission accepts the daemons' Pods.

    Enabling works without it: a controller creates the Pods.
    """
    return Permission("create", "pods", namespace=namespace)


def needed(
    kinds: Iterable[tuple[str, str]],
    hooks: Sequence[tuple[str, str]],
    namespace: str,
    *,
    namespace_is_there: bool,
    labels_nodes: bool,
) -> tuple[Permission, ...]:
    """Return all permissions that enabling or updating needs.

    Args:
        kinds: group and kind of the chart's objects.
        hooks: group and kind of its hooks.
        namespace: the release's namespace.
        namespace_is_there: if not, the namespace is created.
        labels_nodes: whether nodes are labelled too.
    """
    found = [
        *READING,
        Permission("get", "namespaces", namespace=namespace),
        *(Permission(verb, "secrets", namespace=namespace) for verb in STORING),
        Permission("list", "events", namespace=namespace),
        Permission("list", "controllerrevisions", "apps", namespace),
        Permission("list", "deployments", "apps", namespace),
    ]
    for verbs, some in ((_CHANGE, kinds), (_WATCH, hooks)):
        for group, kind in some:
            where = "" if is_cluster_wide(kind) else namespace
            found += [Permission(verb, plural(kind), group, where) for verb in verbs]
    if ("rbac.authorization.k8s.io", "Role") in hooks:
        found += [Permission(verb, "configmaps", namespace=namespace) for verb in _GRANTED]
    if not namespace_is_there:
        found.append(Permission("create", "namespaces"))
    if labels_nodes:
        found.append(Permission("patch", "nodes"))
    everywhere = set(found)
    return tuple(
        one
        for one in dict.fromkeys(found)
        if not one.namespace or dataclasses.replace(one, namespace="") not in everywhere
    )


def denied(asked: Sequence[Permission], answers: Sequence[KubernetesObject]) -> tuple[Permission, ...]:
    """Return the permissions that were not allowed; a missing answer counts as not allowed."""
    allowed = [mapping(answer, "status").get("allowed") is True for answer in answers]
    return tuple(one for one, yes in zip(asked, [*allowed, *([False] * len(asked))], strict=False) if not yes)
