"""What a person must be permitted before the add-on is changed, and how the API server is asked. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confcom.addon.objects import KubernetesObject, mapping

_CHANGE = ("get", "create", "patch", "delete")
"""What helm does to the objects of a release over its life."""
_REPLACE = "update"
"""What helm 3 needs beside, for its --force, where somebody has edited objects."""
STORING = ("get", "list", "create", "update", "delete")
"""What it does to Secrets, in which it keeps a release's revisions."""
_GRANTED = ("get", "create", "delete")
"""On ConfigMaps, to the Job of the hooks: RBAC lets nobody grant what they may not do. Secrets are among STORING."""
_WATCH = ("list", "watch")
"""What it does beside to those of hooks, of every kind, until they are done."""

_CLUSTER_WIDE = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "PriorityClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    }
)
"""Kinds that charts contain and that are in no namespace; every other one is."""


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One thing to be allowed."""

    verb: str
    resource: str
    """Plural, and with a subresource behind a slash, as in `nodes/status`."""
    group: str = ""
    namespace: str = ""
    """Empty: in the whole cluster."""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}{where}"

    def review(self) -> KubernetesObject:
        """The question to the API server."""
        resource, _, subresource = self.resource.partition("/")
        wanted = {"verb": self.verb, "resource": resource, "group": self.group, "namespace": self.namespace}
        attributes = {key: value for key, value in (wanted | {"subresource": subresource}).items() if value}
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }


def plural(kind: str) -> str:
    """A kind's resource, by the rule that every kind in charts follows."""
    word = kind.lower()
    if word.endswith(("s", "x", "ch")):
        return f"{word}es"
    if word.endswith("cy"):
        return f"{word[:-1]}ies"
    return f"{word}s"


def is_cluster_wide(kind: str) -> bool:
    """Whether objects of a kind are in no namespace."""
    return kind in _CLUSTER_WIDE


USUAL_KINDS = (
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
)
"""What the chart contains unless values say otherwise: asked about when it cannot be rendered, as by who may not look
up the release, so that whoever lacks permissions is told of all of them at once."""

USUAL_HOOK_KINDS = (
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("batch", "Job"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
)
"""Those of them that are hooks: the simulated root's."""

USUAL_LASTING_KINDS = (
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("apps", "DaemonSet"),
)
"""Those of them that are, or are also, in the release itself."""

READING = (
    Permission("list", "nodes"),
    Permission("list", "pods"),
    Permission("list", "daemonsets", "apps"),
    Permission("list", "jobs", "batch"),
)
"""What preflight and status look at."""

CLEANING = Permission("patch", "nodes/status")
"""To take the dead resources from the nodes when the add-on is disabled."""


def asking_helpers(namespace: str) -> Permission:
    """To ask quote helpers by which simulated root they quote. Without it nobody waits for them."""
    return Permission("get", "pods/proxy", namespace=namespace)


def probing(namespace: str) -> Permission:
    """To try whether admission takes the daemons' Pods. Enabling goes without it: they are made by a controller."""
    return Permission("create", "pods", namespace=namespace)


def needed(
    kinds: Iterable[tuple[str, str]],
    hooks: Sequence[tuple[str, str]],
    namespace: str,
    *,
    namespace_is_there: bool,
    labels_nodes: bool,
    replaced: Iterable[tuple[str, str]] = (),
) -> tuple[Permission, ...]:
    """Everything that enabling or updating does.

    Args:
        kinds: group and kind of what the chart contains.
        hooks: those of its hooks.
        namespace: of the release.
        namespace_is_there: if not, it is made.
        labels_nodes: whether nodes are labelled too.
        replaced: group and kind of what helm may replace, rather than patch.
    """
    found = [
        *READING,
        Permission("get", "namespaces", namespace=namespace),
        *(Permission(verb, "secrets", namespace=namespace) for verb in STORING),
        Permission("list", "events", namespace=namespace),
        Permission("list", "controllerrevisions", "apps", namespace),
    ]
    for verbs, some in ((_CHANGE, kinds), (_WATCH, hooks), ((_REPLACE,), replaced)):
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
    """Those that were not allowed; an answer that is missing allows nothing."""
    allowed = [mapping(answer, "status").get("allowed") is True for answer in answers]
    return tuple(one for one, yes in zip(asked, [*allowed, *([False] * len(asked))], strict=False) if not yes)
