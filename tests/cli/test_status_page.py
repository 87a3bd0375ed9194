from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from confcom.addon.daemon_pods import daemon_pod
from confcom.addon.problems import Problem
from confcom.addon.snapshot import Snapshot
from confcom.addon.status import add_on_status
from confcom.addon.tenants import tenant_pod
from confcom.cli.status_page import status_page
from confcom.daemon.quote_counts import QuoteCounts
from confcom.errors import ExitCode
from confcom.kubernetes.node import Node
from confcom.kubernetes.workload import Workload
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC, SYSTEM

PARTS = ("device-plugin", "quote-helper")
MAX_BYTES = 3_000_000
HOSTILE = "<script>alert(1)</script>"
NAME = "aks-sgxpool-21477835-vmss{:06}.internal.cloudapp.example"


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def page(names, *, tenants=(), broken=(), plugin=None, counts=None, **more):
    nodes = [make.node(name, make.SIMULATED, resources={EPC: 162}) for name in names]
    pods = [make.daemon(part, name) for name in names for part in PARTS]
    for at, status in enumerate(broken):
        pods[at]["status"] = status
    facts = {
        "nodes": tuple(map(Node.parse, nodes)),
        "daemon_sets": tuple(Workload.parse(make.daemon_set(part)) for part in PARTS),
        "templates": {f"confcom-{part}": "1" for part in PARTS},
        "pods": tuple(map(daemon_pod, pods)),
        "epc_pods": tuple(map(tenant_pod, tenants)),
        "inventories": dict.fromkeys(names, plugin or make.inventory()),
    }
    status = add_on_status(Snapshot(SYSTEM, **facts | more))
    return "\n".join(status_page(status, datetime(2026, 12, 2, 6, tzinfo=UTC), counts or {}))


def test_hostile_names_are_shown_and_not_run():
    tenants = [make.pod(f"{HOSTILE}t", limits={EPC: 1}, status=make.unschedulable(f'"{HOSTILE}'))]
    made = page(
        [f"{HOSTILE}n", '"><img src=x onerror=a>'],
        tenants=tenants,
        broken=[make.waiting("ErrImagePull", f"\x1b[2J{HOSTILE}m")],
        not_read=(Problem(f"{HOSTILE}p", code="not-read"),),
    )
    found, plain = Page(made), Page(page(["n", "m"]))
    assert {*found.elements} <= {*plain.elements, "ul", "li"}
    assert {*found.attributes} <= {*plain.attributes, ("class", "bad")} | {("style", value) for value in styles(found)}
    assert all(any(f"{HOSTILE}{what}" in text for text in found.texts) for what in "ntmp")
    assert "\x1b" not in made


def styles(found):
    return [value for name, value in found.attributes if name == "style" and set(value) <= set("-uf:;%0123456789")]


def test_nothing_is_run_or_loaded():
    found = Page(page(["n"]))
    assert not {*found.elements} & {"script", "img", "link", "iframe", "a", "form"}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes


@pytest.mark.parametrize(("requested", "bar"), [(0, (0, 96)), (81, (48, 96)), (162, (96, 96))])
def test_the_bar_shows_what_was_found(requested, bar):
    """Of 168 MiB, a plugin offers 162 and holds back 6."""
    made = page(["n"], tenants=[make.pod("x", on="n", limits={EPC: requested})] if requested else [])
    assert f'style="--u:{bar[0]}%;--f:{bar[1]}%"' in made


def test_quotes_and_errors_of_the_nodes_that_were_asked():
    rows = page(["n", "m", "o"], counts={"n": QuoteCounts(47, {"busy": 2, "lost": 1}), "o": QuoteCounts(0, {})})
    ends = [row.split("<td>")[-2:] for row in rows.splitlines() if row.startswith("<tr><td><i")]
    assert ends == [["47", "2 busy, 1 lost"], ["?", "?"], ["0", "0"]]


def test_5000_nodes_fit_into_a_ticket():
    names = list(map(NAME.format, range(5000)))
    made = page(names, broken=[make.waiting("ErrImagePull", "no image")] * 2000)
    assert len(made.encode()) <= MAX_BYTES
    assert all(name in made for name in names[::100])


def test_status_writes_the_page_and_asks_quote_helpers(confcom, enabled, tmp_path):
    (helper,) = (
        one["metadata"]["name"] for one in enabled.api.find("Pod") if "quote-helper" in one["metadata"]["name"]
    )
    made = 'confcom_quote_helper_request_seconds_count{request="GetQuoteEx",result="success"} 47.0\n'
    enabled.api.pages[helper, "metrics"] = enabled.api.pages.get((helper, "metrics"), "") + made
    confcom("status", "--html", tmp_path / "status.html")
    assert "<td>47<td>0" in (tmp_path / "status.html").read_text()
    confcom.error(ExitCode.FAILED, "page-not-written", "status", "--html", tmp_path / "missing" / "status.html")
