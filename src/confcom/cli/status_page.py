"""The HTML page of `confcom status --html`: the rows of the text output, and each node's EPC as a bar.

The page has no script and loads nothing; its policy forbids both. Every text is escaped, since names of Pods and nodes,
and messages about them, may come from anyone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Final

from confcom.addon.epc import NodeEpc
from confcom.addon.status import AddOnStatus
from confcom.cli.status_table import NODE_COLUMNS, WORKLOAD_COLUMNS, group_line, node_row, workload_row
from confcom.daemon.quote_counts import QuoteCounts
from confcom.errors import printable

_HEAD: Final = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>confcom status</title>
<style>
:root { --used: #1d5fa8; --free: #a9cdea; --held: #c9c9c9; --line: #d4d4d4; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --used: #6db3f2; --free: #24476b; --held: #5a5a5a; --line: #444; --bad: #ff8a80; }
}
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
ul { margin: 0; padding-left: 1.2rem; } li { margin: .3rem 0; overflow-wrap: anywhere; }
div { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } .bad { color: var(--bad); font-weight: 600; }
i { display: inline-block; width: 9rem; height: .9rem; border-radius: 2px; background: linear-gradient(to right,
  var(--used) 0 var(--u), var(--free) 0 var(--f), var(--held) 0); }
.key i { width: .9rem; height: .8rem; margin: 0 .3rem 0 .9rem; }
</style>
"""
_KEY: Final = '<p class="key">EPC:' + "".join(
    f'<i style="--u:{used}%;--f:{free}%"></i>{what}'
    for what, used, free in (("requested", 100, 100), ("free", 0, 100), ("held back, or not allocatable", 0, 0))
)


def status_page(status: AddOnStatus, made: datetime, counts: Mapping[str, QuoteCounts]) -> Iterator[str]:
    """Yield the page's lines: all nodes and workloads, and problems in groups.

    `made` has a time zone. `counts` is keyed by node; the nodes whose quote helper was not asked are missing.
    """
    kind = "a SIMULATED platform: its quotes prove nothing about hardware" if status.simulated else "SGX hardware"
    yield f"{_HEAD}<h1>confcom {_text(status.version or 'is not enabled')} in {_text(status.namespace)}</h1>"
    yield f"<p>On {kind}. Made at {made:%Y-%m-%d %H:%M:%S %Z}.{' An update is in progress.' * status.updating}</p>"
    if status.ok:
        rest = ", as far as it was compared" if status.not_compared else ""
        yield f"<p>The add-on is well{rest}.</p>"
    yield from _list("Wrong", map(group_line, status.problem_groups))
    yield from _list("Notes", (note.text for note in status.notes))
    yield from _list("Not compared", map(str, status.not_compared))
    workloads = status.workloads
    troubles = (
        f"{one.kind} {one.namespace}/{one.name}: {one.trouble}: {one.cause}; do: {one.remedy}"
        for one in workloads
        if one.trouble
    )
    yield from _list("Workloads that do not run", troubles)
    yield f"<h2>Nodes</h2>{_KEY}"
    yield from _table(
        ("EPC", *NODE_COLUMNS, "QUOTES", "ERRORS"),
        (
            (_bar(node.epc), (*node_row(node), *_counts(counts.get(node.name))), not node.healthy)
            for node in status.nodes
        ),
    )
    if status.other_nodes:
        yield f"<p>{status.other_nodes} more without SGX.</p>"
    if workloads:
        yield "<h2>Workloads with EPC</h2>"
        yield from _table(WORKLOAD_COLUMNS, (("", workload_row(one), bool(one.trouble)) for one in workloads))


def _text(text: str) -> str:
    return escape(printable(text))


def _list(title: str, texts: Iterable[str]) -> Iterator[str]:
    items = [f"<li>{_text(text)}" for text in texts]
    if items:
        yield from (f"<h2>{title}</h2><ul>", *items, "</ul>")


def _table(header: Sequence[str], rows: Iterable[tuple[str, Sequence[str], bool]]) -> Iterator[str]:
    """Yield a table. A row has a first cell in HTML, which may be missing, other cells, and whether it is marked."""
    yield "<div><table><tr>" + "".join(f"<th>{_text(title)}" for title in header)
    for first, (name, *cells), bad in rows:
        marked = f'<td class="bad">{_text(name)}' if bad else f"<td>{_text(name)}"
        yield f"<tr>{first}{marked}" + "".join(f"<td>{_text(cell)}" for cell in cells)
    yield "</table></div>"


def _counts(counts: QuoteCounts | None) -> tuple[str, str]:
    if counts is None:
        return "?", "?"
    return str(counts.made), ", ".join(f"{number} {error}" for error, number in sorted(counts.errors.items())) or "0"


def _bar(epc: NodeEpc) -> str:
    """Return a cell with a bar of the EPC that was found: requested, free, and neither."""
    found = max(epc.plugin.epc.mib or 0 if epc.plugin else 0, epc.capacity, epc.used or 0)
    if not found:
        return "<td>"
    used = 100 * (epc.used or 0) // found
    return f'<td><i style="--u:{used}%;--f:{used + 100 * (epc.free or 0) // found}%"></i>'
