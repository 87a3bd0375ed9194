"""All nodes and pods are read in pages, and only what is needed of them is kept."""

import copy
import gc
import json
from subprocess import CompletedProcess
from urllib.parse import parse_qs, urlsplit

import pytest

from confcom.addon.cluster.kubectl import Cluster, KubeApi
from confcom.addon.cluster.large_lists import PAGE, list_nodes_and_pods, list_own_pods
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.daemons.daemon_pods import daemon_pods
from confcom.addon.status.node_status import node_status
from confcom.kubernetes.objects import name_of, requests_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC, SYSTEM

HOST = {"name": "host", "hostPath": {"path": "/var/run/aesmd"}}


class Server:
    """Answers pages of two objects, whatever is asked for, and counts them."""

    def __init__(self, *objects):
        self.objects, self.asked = objects, []

    def __call__(self, arguments, **_):
        (raw,) = [one.removeprefix("--raw=") for one in arguments if one.startswith("--raw=")]
        parts = urlsplit(raw)
        self.asked.append(raw)
        path, query = parts.path.removeprefix("/api/v1/").split("/"), parse_qs(parts.query)
        where, plural = path[1:2] if len(path) > 1 else [], path[-1]
        found = [one for one in self.objects if f"{one['kind'].lower()}s" == plural]
        found = [one for one in found if where in ([], [one["metadata"].get("namespace")])]
        start = int(query.get("continue", ["0"])[0])
        items = [{key: value for key, value in one.items() if key != "kind"} for one in found[start : start + 2]]
        token = {"continue": str(start + 2)} if start + 2 < len(found) else {}
        document = {"kind": "List", "metadata": token, "items": items}
        return CompletedProcess(arguments, 0, json.dumps(document).encode(), b"")


def api(server):
    return KubeApi(Cluster(SYSTEM), server)


def large(pod):
    """The pod, with what nobody needs."""
    made = copy.deepcopy(pod)
    made["metadata"] |= {"managedFields": [{"manager": "x" * 999}], "annotations": {"a": "x" * 999}}
    for one in made["spec"]["containers"]:
        one |= {"env": [{"name": "x" * 999}], "volumeMounts": [{"name": "token"}, {"name": "host"}]}
    for one in made["status"].get("containerStatuses", []):
        one["allocatedResourcesStatus"] = [{"name": EPC, "resources": [{"resourceID": str(i)} for i in range(99)]}]
    return made


def names(objects):
    return [one["metadata"]["name"] for one in objects]


def test_all_pages_are_read():
    nodes, pods = [make.node(f"n{i}", {"k": "value"}) for i in range(5)], [make.pod(f"p{i}", on="n0") for i in range(3)]
    server = Server(*nodes, *pods, make.pod("h", namespace=SYSTEM))
    found_nodes, found_pods = list_nodes_and_pods(api(server))
    assert names(found_nodes) == [f"n{i}" for i in range(5)]
    assert names(found_pods) == [*(f"p{i}" for i in range(3)), "h"]
    assert {one["kind"] for one in (*found_nodes, *found_pods)} == {"Node", "Pod"}
    assert len(server.asked) == 3 + 2
    assert all(f"limit={PAGE}" in one for one in server.asked)
    first, second = (one["metadata"]["labels"]["k"] for one in found_nodes[:2])
    assert first is second  # equal texts are one object
    assert names(list_own_pods(api(server))) == ["h"]


def test_what_decides_is_kept_and_the_rest_is_not():
    tenant, helper, holder, other = (
        large(make.pod("tenant", on="n", limits={EPC: 10})),
        large(make.pod("h", namespace=SYSTEM, on="n", labels=make.labels("quote-helper"))),
        large(make.pod("holder", on="n")),
        large(make.pod("other", on="n", owner=("ReplicaSet", "web"))),
    )
    holder["spec"]["volumes"] = [HOST, {"name": "token", "projected": {}}]
    tenant["spec"]["overhead"] = {EPC: "2"}  # of a runtime class
    node = make.node("n", make.SIMULATED, resources={EPC: 100})
    node["status"]["images"] = [{"names": ["x" * 999]}]
    (found_node,), found = list_nodes_and_pods(api(Server(node, tenant, helper, holder, other)))
    text = json.dumps([found_node, *found])
    assert "x" * 999 not in text
    assert "resourceID" not in text
    kept = {one["metadata"]["name"]: one for one in found}
    assert kept["holder"]["spec"]["volumes"] == [HOST]
    assert kept["holder"]["spec"]["containers"][0]["volumeMounts"] == [{"name": "host"}]
    assert requests_of(kept["tenant"], EPC) == 12
    assert "spec" not in kept["other"]
    assert kept["other"]["metadata"]["ownerReferences"] == other["metadata"]["ownerReferences"]
    before = node_status(node, daemon_pods([helper]), [tenant, helper, holder, other], [], namespace=SYSTEM)
    assert node_status(found_node, daemon_pods([kept["h"]]), found, [], namespace=SYSTEM) == before


BROKEN = [
    b'{"metadata": {}}',
    b'{"metadata": {}, "items": [1]}',
    b'{"metadata": {}, "items": [{"spec": 1}]}',
]


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{", b"\xff", b"[" * 100_000, *BROKEN])
def test_what_is_no_list_is_shown(answer):
    with pytest.raises(ClusterAccessError) as caught:
        list_own_pods(api(lambda arguments, **_: CompletedProcess(arguments, 0, answer, b"")))
    assert caught.value.error_code == "output-not-readable"


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ({"metadata": {"continue": ""}, "items": [{}, make.pod("p", namespace=SYSTEM)]}, ["", "p"]),
        ({"metadata": {}, "items": [{"metadata": None, "spec": None, "status": None}]}, [""]),
        ({"metadata": {"resourceVersion": "1"}, "items": None}, []),  # Go writes a nil slice as null
    ],
)
def test_what_is_missing_reads_as_empty(answer, names):
    data = json.dumps(answer).encode()
    found = list_own_pods(api(lambda arguments, **_: CompletedProcess(arguments, 0, data, b"")))
    assert [name_of(one) for one in found] == names


def test_the_garbage_collector_is_as_it_was():
    for enabled in (False, True):
        (gc.enable if enabled else gc.disable)()
        list_own_pods(api(Server(make.pod("p"))))
        assert gc.isenabled() is enabled
