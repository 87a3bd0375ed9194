"""The versions of this program, of its tools, and of the add-on that a cluster runs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import confcom
from confcom.addon.daemon_pods import GONE
from confcom.addon.login import Cluster
from confcom.addon.snapshot import read_daemons
from confcom.kubernetes.names import VERSION_LABEL, Component


@dataclass(frozen=True, slots=True)
class AddOnVersions:
    """The versions of this program, which contains a chart of the same version, and of a cluster's add-on."""

    program: str
    charts: tuple[str, ...]
    """Versions of the chart that installed the daemons; several while an update runs, none without the add-on."""
    daemons: Mapping[Component, Mapping[str, int]]
    """For each component, the number of Pods of each version: the image's tag, or the start of its digest."""

    @property
    def differ(self) -> bool:
        return not {*self.charts} <= {self.program} or any(len(counts) > 1 for counts in self.daemons.values())

    def to_json(self) -> dict[str, object]:
        daemons = {kind.value.replace("-", "_"): dict(counts) for kind, counts in self.daemons.items()}
        return {"program": self.program, "charts": list(self.charts), "daemons": daemons, "differ": self.differ}


def add_on_versions(cluster: Cluster) -> AddOnVersions:
    found, daemons = read_daemons(cluster), dict[Component, Counter[str]]()
    for pod in found.pods:
        if pod.component and pod.state not in GONE:
            daemons.setdefault(pod.component, Counter())[pod.version] += 1
    charts = {one.labels.get(VERSION_LABEL, "") for one in (*found.daemon_sets, *found.deployments.values())}
    return AddOnVersions(confcom.__version__, tuple(sorted(charts)), dict(sorted(daemons.items())))
