"""Finds workloads whose Pods the API server refuses to create."""

from __future__ import annotations

from collections.abc import Collection

from confcom.addon.cluster.installed_release import read_live
from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.workloads.refused_pods import API_VERSIONS, FAILED_CREATE, Controller, RefusalObservation, refusals
from confcom.kubernetes.objects import KubernetesObject, name_of, namespace_of, text

MOST_CONTROLLERS = 50
"""Maximum number of controllers in one call: kubectl sends one request to the API server for each."""


def look_at_refusals(api: KubeApi, policies: Collection[str]) -> RefusalObservation:
    """Return which controllers of all namespaces cannot create Pods; failed reads are stored in the result.

    Args:
        api: the cluster.
        policies: the names of the add-on's admission policies.
    """
    try:
        events = api.list_objects("events", "--all-namespaces", f"--field-selector=reason={FAILED_CREATE}")
    except ClusterAccessError as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        return RefusalObservation(doubt=f"whether Pods of workloads are refused: events of all namespaces: {why}")
    found = tuple(refusals(events, policies))
    known = [one for one in found if one[1] in API_VERSIONS]
    asked = [_named(one) for one in known[:MOST_CONTROLLERS]]
    unread = frozenset(found) - frozenset(known[:MOST_CONTROLLERS])
    if not asked:
        return RefusalObservation(events, (), unread)
    try:
        live = read_live(api, asked)
    except ClusterAccessError:
        return RefusalObservation(events, (), frozenset(found))
    refused = ((namespace_of(one), text(one, "kind"), name_of(one)) for one in live.refused)
    return RefusalObservation(events, live.objects, unread | frozenset(refused))


def _named(controller: Controller) -> KubernetesObject:
    namespace, kind, name = controller
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": {"name": name, "namespace": namespace}}
