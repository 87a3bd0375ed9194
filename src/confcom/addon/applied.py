"""Whether a release is as it is wished for, and all of it is in the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from confcom.addon.add_on import AddOn
from confcom.addon.objects import KubernetesObject, name_of, text
from confcom.addon.plan import is_hook
from confcom.addon.programs import ForbiddenError
from confcom.addon.root_record import RECORD_NAME, SECRET_NAME
from confcom.addon.survey import Survey

_ROOT = (
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET_NAME}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": RECORD_NAME}},
)
"""No manifest has them: the hook's Job makes them, and only helm runs that."""


def is_applied(add_on: AddOn, seen: Survey) -> bool:
    """Whether an upgrade would change nothing; tells what is gone that should be there."""
    if not seen.history or seen.history[-1].status != "deployed" or seen.rendering is None:
        return False
    if seen.values.stored != seen.rendering.config:
        return False
    if sorted(map(repr, add_on.helm.installed())) != sorted(map(repr, seen.rendering.manifests)):
        return False
    try:
        gone = add_on.api.missing(expected(seen.rendering.manifests, seen.rendering.hooks))
    except ForbiddenError as error:
        # Whoever may not look has no use for an upgrade either, in which helm looks at each of them.
        add_on.teller.say(f"Whether all of the release is there cannot be seen: {error.why}")
        return True
    if gone:
        names = ", ".join(f"{text(one, 'kind')} {name_of(one)}" for one in gone)
        add_on.teller.say(f"Gone from the cluster, to be made again: {names}.")
    return not gone


def expected(manifests: Sequence[KubernetesObject], hooks: Sequence[KubernetesObject]) -> tuple[KubernetesObject, ...]:
    """What is in a cluster where a release with these is installed."""
    return (*manifests, *(_ROOT if any(map(is_hook, hooks)) else ()))
