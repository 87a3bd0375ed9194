"""What was measured on a cluster, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from bench.cluster.daemons import MODULES
from bench.cluster.enclaves import KIB, QUOTING_ENCLAVES, in_process_bytes, in_process_mib
from bench.cluster.measure import SGX_NODES, Results
from bench.cluster.quoting import HELPER, NODE, PLUGIN, PODS, Round
from bench.summary import Spread

_TITLE, _VALUE = 62, 30
_OUT_OF_PROCESS = "out of process (requested; simulated enclaves take none)"


def as_json(results: Results) -> dict[str, object]:
    """All of it, with every single value; quotes and their latencies left out."""
    return {
        "plan": asdict(results.plan),
        "machine": results.machine,
        "load_average": results.load_average,
        "idle": [asdict(one) for one in results.idle],
        "quotes": [{**asdict(one), "quotes_per_second": one.rate} for one in results.quoted.rounds],
        "resident_bytes_after_quotes": results.resident,
        "verified": results.verified,
        "pod_start_seconds": asdict(results.starts),
        "epc_mib_out_of_process": [asdict(one) for one in results.held],
        "epc_in_process": {
            "computed": True,
            "enclaves": [{**asdict(one), "least_bytes": one.least} for one in QUOTING_ENCLAVES],
            "applications": {
                str(one.applications): {
                    "least_bytes": in_process_bytes(one.applications),
                    "least_mib": in_process_mib(one.applications),
                }
                for one in results.held
            },
        },
        "kubelet_restarts": [asdict(one) for one in results.restarts],
        "updates": [asdict(one) for one in results.updates],
    }


def as_table(results: Results) -> str:
    """For people."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Results) -> Iterator[str]:
    machine = results.machine
    yield f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}"
    yield (
        f"Kubernetes {machine['kubernetes']}, {machine['container_runtime']}; "
        f"{machine['nodes']} nodes on this machine, {SGX_NODES} of them with simulated SGX"
    )
    yield f"load average {results.load_average[0]:.2f} before, {results.load_average[1]:.2f} after"
    yield ""
    yield f"{'':{_TITLE + 2}}{'n':>5}  {'p50 (lowest to highest)':>{_VALUE}}"
    yield from _quotes(results)
    yield ""
    yield from _starts(results)
    yield ""
    yield from _changes(results)
    yield ""
    yield from _footprint(results)
    yield ""
    yield from _epc(results)


def _quotes(results: Results) -> Iterator[str]:
    plan = results.plan
    pods, node = (results.quoted.of(origin) for origin in (PODS, NODE))
    yield f"Quotes: {plan.processes} pods with {plan.clients} clients each; a connection and a fresh report for a quote"
    yield f"  rounds of {plan.processes * plan.quotes} quotes take turns with those of as many processes on the node;"
    yield "  a signature is a bare P-256 one; near 1, the helper is what bounds the rate"
    yield _row("quotes per second, from pods", [one.rate for one in pods])
    yield _row("quotes per second, from the node itself", [one.rate for one in node])
    yield _row("from pods, in those from the node in the same round", _ratios(pods, node), "x", digits=2)
    for place, rounds in (("from pods", pods), ("from the node itself", node)):
        yield _row(f"{place}: p50 of a round's latencies", [one.latency.p50 * 1e3 for one in rounds], " ms", digits=1)
        yield _row(f"{place}: p99 of a round's latencies", [one.latency.p99 * 1e3 for one in rounds], " ms", digits=1)
        yield _row(f"{place}: helper's CPU for a quote, in signatures", [one.cost for one in rounds], "x", digits=2)
        yield _row(f"{place}: time in which the helper ran or waited", [one.helper_share for one in rounds], digits=2)
    yield f"  {results.verified} quotes were verified in full; all carry the report that was sent, and verify."


def _ratios(pods: Sequence[Round], node: Sequence[Round]) -> list[float]:
    return [mine.rate / other.rate for mine, other in zip(pods, node, strict=True)]


def _starts(results: Results) -> Iterator[str]:
    without, with_epc = results.starts.without, results.starts.with_epc
    ratios = [mine / other for mine, other in zip(with_epc, without, strict=True)]
    yield "Pod start: one image on one node, in turn, from the pod's creation until it is Ready"
    yield _row("without EPC", without, " s", digits=2)
    yield _row("with EPC", with_epc, " s", digits=2)
    yield _row("with, in without of the same pair", ratios, "x", digits=2)


def _changes(results: Results) -> Iterator[str]:
    seen = [one.by_api for one in results.restarts if one.by_api is not None]
    yield "Kubelet restart until its node's EPC is allocatable again"
    yield _row("by the kubelet's log, from before it listens", [one.by_log * 1e3 for one in results.restarts], " ms")
    yield _row("by the API, from the order to restart", seen, " s", digits=1)
    if len(seen) < len(results.restarts):
        yield f"  In {len(results.restarts) - len(seen)} of {len(results.restarts)} restarts the API never showed less."
    yield ""
    yield "Update by `helm upgrade`, on each node: from the first new pod until the last old one is gone"
    for component in MODULES:
        for node in sorted({one.node for one in results.updates if one.component == component}):
            seconds = [one.seconds for one in results.updates if (one.component, one.node) == (component, node)]
            yield _row(f"{component} on {node}", seconds, " s", digits=1)


def _footprint(results: Results) -> Iterator[str]:
    yield f"What a daemon uses, idle for {results.plan.idle_seconds:g} s, and for 1,000 quotes from pods"
    for component in MODULES:
        idle = [one for one in results.idle if one.component == component]
        yield _row(f"{component}: resident memory, idle", [one.resident / 1e6 for one in idle], " MB", digits=1)
        yield _row(
            f"{component}: resident memory after all quotes", [results.resident[component] / 1e6], " MB", digits=1
        )
        yield _row(
            f"{component}: CPU, idle", [one.cpu_seconds / one.seconds * 100 for one in idle], " % of a core", digits=2
        )
    pods = results.quoted.of(PODS)
    for component, used in ((HELPER, [one.helper_cpu for one in pods]), (PLUGIN, [one.plugin_cpu for one in pods])):
        each = [seconds / one.quotes * 1e6 for seconds, one in zip(used, pods, strict=True)]
        yield _row(f"{component}: CPU for 1,000 quotes", each, " ms", digits=1)


def _epc(results: Results) -> Iterator[str]:
    held, loaded = ([one for one in QUOTING_ENCLAVES if one.held is wanted] for wanted in (True, False))
    yield "EPC of a node that quoting holds, in MiB, beside the applications' own enclaves"
    out_of, in_process = _OUT_OF_PROCESS, "in process (computed, at least)"
    yield f"  {'applications':>12}  {out_of}  {in_process:>36}"
    for one in results.held:
        least = f"{in_process_mib(one.applications)} ({in_process_bytes(one.applications) / KIB:.0f} KiB)"
        yield f"  {one.applications:>12}  {one.helpers:>{len(out_of)}}  {least:>36}"
    yield "  Out of process, the device plugin sets aside twice as much, for updates."
    yield (
        "  In process, each application loads "
        + " and ".join(f"{one.name} ({one.least / KIB:.0f} KiB)" for one in held)
        + f", and for a moment {loaded[0].name} ({loaded[0].least / KIB:.0f} KiB):"
    )
    yield "  stack, heap and control pages by Intel's configuration, without code and data, which it does not tell:"
    for enclave in QUOTING_ENCLAVES:
        yield f"    {enclave.name}: {enclave.source}"


def _row(title: str, values: Sequence[float], unit: str = "", *, digits: int = 0) -> str:
    return f"  {title:{_TITLE}}{len(values):>5}  {_spread(values, unit, digits):>{_VALUE}}"


def _spread(values: Sequence[float], unit: str, digits: int) -> str:
    if not values:
        return "none"
    spread = Spread.of(values)
    return f"{spread.median:.{digits}f} ({spread.lowest:.{digits}f} to {spread.highest:.{digits}f}){unit}"
