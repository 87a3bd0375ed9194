"""One run of `confcom tcb`: the nodes of a cluster, or the machines of quotes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from confcom.addon.command import AddOn
from confcom.addon.snapshot import read_daemons
from confcom.collateral import INTEL_PCS, Source
from confcom.sgx.pck.platform_page import SgxKind
from confcom.tcb.groups import judge_machines
from confcom.tcb.judgement import Machine
from confcom.tcb.nodes import quote_helpers, read_machines, release_trust
from confcom.tcb.quotes import read_machine
from confcom.tcb.report import Report
from confcom.tcb.sets import FileSets, ServedSets, Trust
from confcom.verify import INTEL, read_root
from confcom.verify.trust import intel_root


@dataclass(frozen=True, slots=True)
class Request:
    trust: Trust
    now: datetime
    early: bool
    fail_within: timedelta


def given_trust(root: str, source: Source | Sequence[Path]) -> Trust:
    """Return the trust in a root (a file, or `intel`), with sets of a service or of files."""
    sets = ServedSets(source) if isinstance(source, Source) else FileSets(source)
    return Trust(sets, intel_root() if root == INTEL.value else read_root(root))


def judge_quotes(quotes: Sequence[Path], request: Request, say: Callable[[str], None]) -> Report:
    machines = [read_machine(path, request.trust, request.now) for path in quotes]
    return _report(machines, {request.trust.sgx: request.trust}, request, say)


def judge_cluster(add_on: AddOn, request: Request) -> Report:
    """Judge a cluster's nodes; a simulated root in the request is for simulated nodes, another for hardware."""
    cluster, say = add_on.cluster, add_on.reporter.say
    found = read_daemons(cluster)
    helpers = quote_helpers(found)
    trusts = {SgxKind.HARDWARE: Trust(ServedSets(INTEL_PCS), intel_root()), request.trust.sgx: request.trust}
    simulated = [one for one in helpers if one.simulates]
    if simulated and SgxKind.SIMULATED not in trusts:
        trusts[SgxKind.SIMULATED] = release_trust(cluster, simulated, request.now)
    machines = read_machines(cluster.api, found, helpers, say)
    return _report(machines, trusts, request, say)


def _report(
    machines: Sequence[Machine], trusts: Mapping[SgxKind, Trust], request: Request, say: Callable[[str], None]
) -> Report:
    groups, failed = judge_machines(machines, trusts, request.now, need_early=request.early, say=say)
    return Report(groups, failed, request.now, request.early, request.fail_within)
