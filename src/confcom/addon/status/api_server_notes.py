"""What an API server without MutatingAdmissionPolicy cannot do, and what an upgraded one could do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from confcom.addon.daemons.hardware_helpers import Note
from confcom.addon.model.chart_objects import SUPPORT_FLAG, VERSION_FLAG, flag_of
from confcom.addon.model.resources import INTEL_EPC, REAL
from confcom.addon.preflight.epc_names import FIRST_KUBERNETES
from confcom.addon.preflight.versions import major_minor
from confcom.kubernetes.objects import KubernetesObject

TOO_OLD = "api-server"
"""The value of SUPPORT_FLAG if the version in VERSION_FLAG is too old."""


def installed_for_older(daemons: Iterable[KubernetesObject]) -> str:
    """Return the version of the API server for which the add-on was installed, if it is too old; else an empty text."""
    return next((flag_of(one, VERSION_FLAG) for one in daemons if flag_of(one, SUPPORT_FLAG) == TOO_OLD), "")


def api_server_notes(daemons: Iterable[KubernetesObject], api_server: str) -> Iterator[Note]:
    """Yield what must be known where the add-on was installed for an API server that is too old.

    Args:
        daemons: our DaemonSets.
        api_server: the API server's version; empty if it was not read.
    """
    before = installed_for_older(daemons)
    now = major_minor(api_server)
    if not before:
        return
    if now is not None and now >= FIRST_KUBERNETES:
        yield Note(
            f"the API server is {'.'.join(map(str, now))}, and the add-on was installed for {before}: `confcom update` "
            f"has {INTEL_EPC} (in bytes) counted as {REAL.epc} (in MiB), and lets nodes count EPC as capacity",
            code="api-server-upgraded",
        )
    else:
        yield Note(
            f"Kubernetes {before} cannot count {INTEL_EPC} (in bytes) as {REAL.epc} (in MiB): for 10Mi of the former, "
            "Pods have to request 10 of the latter",
            code="epc-names-not-replaced",
        )
