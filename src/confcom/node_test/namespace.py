"""The namespace of a run: made before the Pods, removed at the end, and what a killed run has left."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime

from confcom.addon.api import NAMESPACE, POD, SECRET, Api
from confcom.kubernetes.objects import KubernetesObject, labels_of, listing, name_of, text
from confcom.node_test.pod import NAMESPACE_PREFIX, TEST_LABEL, expired, namespace_manifest
from confcom.node_test.selection import Target


def new_name() -> str:
    return NAMESPACE_PREFIX + secrets.token_hex(4)


def remove_left_over(api: Api, namespace: str, now: datetime) -> None:
    """Remove what killed runs have left: namespaces, or Pods in a `namespace` that a person gave."""
    if namespace:
        for one in expired(api.list(POD, namespace), now):
            api.delete(POD, name_of(one), namespace)
        return
    for one in expired(api.list(NAMESPACE), now):
        if name_of(one).startswith(NAMESPACE_PREFIX):
            api.delete(NAMESPACE, name_of(one))


@contextlib.contextmanager
def own_namespace(api: Api, name: str, source: str, chosen: Sequence[Target], seconds: int) -> Iterator[None]:
    """Make a namespace with copies of the pull secrets in the namespace `source`; remove it at the end."""
    try:
        host_paths = any(not target.mounts_aesmd for target in chosen)
        api.create(namespace_manifest(name, seconds, host_paths=host_paths))
        for secret in sorted({text(one, "name") for target in chosen for one in pull_secrets(target)}):
            if found := api.get(SECRET, secret, source):
                api.create({**found, "metadata": {"name": secret, "namespace": name}})
        yield
    finally:
        api.delete(NAMESPACE, name)


@contextlib.contextmanager
def given_namespace(api: Api, name: str, run: str) -> Iterator[None]:
    """Use a person's namespace; at the end, remove the Pods whose names begin with `run`."""
    try:
        yield
    finally:
        for one in api.list(POD, name):
            if TEST_LABEL in labels_of(one) and name_of(one).startswith(run):
                api.delete(POD, name_of(one), name)


def pull_secrets(target: Target) -> Sequence[KubernetesObject]:
    return listing(target.template, "imagePullSecrets")
