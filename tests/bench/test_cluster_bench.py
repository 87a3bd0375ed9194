"""The pure parts of `make bench-e2e`, and its client against a helper that runs here."""

import json
import threading
from dataclasses import replace

import pytest

from bench.cluster import client, daemons, enclaves, measure, quoting, table, timeline
from bench.cluster.changes import Restart, Update
from bench.cluster.client import Answered, Turns
from bench.cluster.daemons import Idle
from bench.cluster.main import main
from bench.cluster.pods import Held, Starts
from bench.cluster.quoting import NODE, PODS, Load, Quoted, Round
from bench.cluster.watch import Change, Watch
from bench.load import WrongAnswerError
from bench.machine import Cores
from bench.serving import Bench
from bench.summary import Latency
from confcom.errors import UnavailableError

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"


def pod(uid, *, node="", ready=False, component="quote-helper", name=""):
    conditions = [{"type": "Ready", "status": str(ready)}]
    labels = {timeline.COMPONENT: component} if component else {}
    return {
        "metadata": {"uid": uid, "name": name or uid, "labels": labels},
        "spec": {"nodeName": node} if node else {},
        "status": {"conditions": conditions},
    }


UPDATE = [
    Change(1, "ADDED", pod("old-a", node="a", ready=True)),
    Change(1, "ADDED", pod("old-b", node="b", ready=True)),
    Change(1, "ADDED", pod("plugin", node="a", ready=True, component="device-plugin")),
    Change(10, "ADDED", pod("new-a")),
    Change(11, "MODIFIED", pod("new-a", node="a")),
    Change(14, "MODIFIED", pod("new-a", node="a", ready=True)),
    Change(17, "DELETED", pod("old-a", node="a")),
    Change(18, "ADDED", pod("new-b", node="b")),
    Change(20, "MODIFIED", pod("new-b", node="b", ready=True)),
    Change(30, "DELETED", pod("old-b", node="b")),
]


def test_an_update_is_timed_on_each_node_of_its_own():
    assert timeline.updated(UPDATE, "quote-helper", since=5) == {"a": 7, "b": 12}


@pytest.mark.parametrize("told", range(1, len(UPDATE)))
def test_an_update_is_not_over_before_the_last_old_pod_is_gone(told):
    assert timeline.updated(UPDATE[:told], "quote-helper", since=5) is None


def test_the_next_update_does_not_count_the_pods_of_the_last():
    again = [
        *UPDATE,
        Change(50, "ADDED", pod("newer-a", node="a", ready=True)),
        Change(53, "DELETED", pod("new-a", node="a")),
        Change(54, "ADDED", pod("newer-b", node="b", ready=True)),
    ]
    assert timeline.updated(again, "quote-helper", since=40) is None
    assert timeline.updated([*again, Change(59, "DELETED", pod("new-b", node="b"))], "quote-helper", since=40) == {
        "a": 3,
        "b": 5,
    }


def test_an_update_begins_when_the_watch_has_told_of_all_pods():
    assert timeline.told_of(UPDATE[:2], frozenset({"old-a", "plugin"})) is None
    assert timeline.told_of(UPDATE[:3], frozenset({"old-a", "plugin"}))


def test_a_start_is_from_the_first_word_of_a_pod_until_it_is_first_ready():
    changes = [
        Change(2.0, "ADDED", pod("u", name="one")),
        Change(3.0, "MODIFIED", pod("u", name="one", node="a")),
        Change(4.5, "MODIFIED", pod("u", name="one", node="a", ready=True)),
        Change(6.0, "MODIFIED", pod("u", name="one", node="a", ready=True)),
    ]
    assert timeline.started(changes[:2], "one") is None
    assert timeline.started(changes, "one") == 2.5
    assert timeline.started(changes, "another") is None
    assert timeline.gone(changes, "one") is None
    assert timeline.gone([*changes, Change(7.0, "DELETED", pod("u", name="one"))], "one")


def node_offers(at, amount):
    return Change(at, "MODIFIED", {"status": {"allocatable": {EPC: amount} if amount is not None else {}}})


def test_epc_is_back_only_after_it_was_less():
    full, none, zero = node_offers(1, "162"), node_offers(2, None), node_offers(3, "0")
    assert timeline.offered_again([full, node_offers(2, "162")], EPC, "162", since=0) is None
    assert timeline.offered_again([full, none, zero], EPC, "162", since=0) is None
    assert timeline.offered_again([none, zero, node_offers(9, "162"), node_offers(11, "162")], EPC, "162", since=0) == 9
    assert timeline.offered_again([none, node_offers(4, "162"), node_offers(5, "0")], EPC, "162", since=0) is None
    assert timeline.offered_again([none, node_offers(4, "162")], EPC, "162", since=3) is None


def test_allocated_is_what_pods_hold_that_have_not_ended():
    def holding(node, phase, *amounts):
        containers = [{"resources": {"limits": {EPC: amount}}} for amount in amounts]
        return {"spec": {"nodeName": node, "containers": containers}, "status": {"phase": phase}}

    pods = [
        holding("a", "Running", "3", "2"),
        holding("a", "Pending", 1),
        holding("a", "Succeeded", 100),
        holding("b", "Running", 50),
        {"spec": {"containers": [{}]}, "status": {}},
    ]
    assert timeline.allocated(pods, "a", EPC) == 6
    assert timeline.allocated(pods, "a", "example.com/other") == 0


def test_a_daemons_process_is_found_by_its_pod_and_its_module(tmp_path):
    for pid, uid, command in (
        (10, "aaa", b"/pause\0"),
        (11, "aaa", b"python\0-m\0confcom.quote_helper\0"),
        (12, "bbb", b"python\0-m\0confcom.quote_helper\0"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::/some/node/kubepods/burstable/pod{uid}/c0ffee\n")
        (tmp_path / str(pid) / "cmdline").write_bytes(command)
    (tmp_path / "13").mkdir()  # it has just ended
    assert daemons.process_of(tmp_path, "aaa", b"confcom.quote_helper") == 11
    with pytest.raises(UnavailableError, match="device_plugin"):
        daemons.process_of(tmp_path, "aaa", b"confcom.device_plugin")


def test_a_watch_waits_for_what_it_is_told_and_tells_of_its_end():
    watch = Watch()
    teller = threading.Thread(target=watch.tell, args=(Change(1, "ADDED", pod("u", ready=True, name="one")),))
    teller.start()
    assert watch.wait(lambda changes: len(changes) or None, "a change", seconds=30) == 1
    teller.join()
    with pytest.raises(UnavailableError, match="another: not within 0 s"):
        watch.wait(lambda changes: True if len(changes) > 1 else None, "another", seconds=0)
    watch.end("the connection was lost")
    with pytest.raises(UnavailableError, match="the watch ended") as ended:
        watch.wait(lambda changes: True if len(changes) > 1 else None, "another", seconds=30)
    assert ended.value.why == "the connection was lost"


def test_in_process_every_application_has_copies_of_its_own():
    qe3, pce, ide = enclaves.QUOTING_ENCLAVES
    pages = 4 * 4096
    assert (qe3.least, pce.least, ide.least) == (0x60000 + pages, 0xA000 + pages, 0x3000 + pages)
    assert enclaves.in_process_bytes(1) == qe3.least + pce.least
    assert enclaves.in_process_bytes(20) == 20 * (qe3.least + pce.least)
    assert (enclaves.in_process_mib(1), enclaves.in_process_mib(20)) == (1, 20)


def test_a_round_lasts_from_the_first_begin_to_the_last_end():
    one = Answered(10.0, 12.0, (0.1, 0.2), (), "")
    assert quoting.together([one, Answered(11.0, 15.0, (0.3,), (), "")]) == (5.0, [0.1, 0.2, 0.3])
    with pytest.raises(WrongAnswerError, match="no quote"):
        quoting.together([one, replace(one, failure="no quote: error code 18")])


def test_the_client_gets_quotes_of_a_real_helper_and_leaves_what_it_was_given(tmp_path, short_dir, monkeypatch):
    turns = Turns(tmp_path)
    with Bench.create(short_dir, Cores.choose().server).helper("clients") as helper:
        monkeypatch.setattr(client, "SOCKET", helper.socket)
        process = threading.Thread(target=client.main, args=([str(tmp_path), "2", "100", "4"],))
        process.start()
        for turn in range(2):
            turns.go(turn).touch()
        process.join()
    for turn in range(2):
        answered = Answered.parse(turns.answered(turn).read_text())
        assert not answered.failure
        assert len(answered.latencies) == 100
        assert answered.ended - answered.began > max(answered.latencies)
        ((quote, report_data),) = answered.sample
        assert report_data in quote
    assert Answered.parse(answered.to_json()) == answered


def test_a_pod_of_the_load_has_its_program_read_only_and_its_own_results(tmp_path):
    made = quoting.pod(tmp_path / "client-0", "node-1", Load(processes=2, clients=3, quotes=50, rounds=4))
    (container,) = made["spec"]["containers"]
    assert container["command"] == ["python", "-m", "bench.cluster.client", "/results", "4", "50", "3"]
    assert [one["mountPath"] for one in container["volumeMounts"] if not one["readOnly"]] == ["/results"]
    assert made["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}
    assert container["resources"]["limits"] == {EPC: 1}


def round_of(origin, seconds):
    latency = Latency(4000, 0.010, 0.050, 0.1)
    return Round(origin, 4000, seconds, latency, helper_cpu=0.8, helper_share=0.97, plugin_cpu=0.004, signature=5e-5)


RESULTS = measure.Results(
    plan=measure.Plan(),
    machine={
        "cpu": "Some CPU",
        "cores": 2,
        "kernel": "6.18",
        "kubernetes": "v1.36.3",
        "container_runtime": "containerd://2.4.2",
        "nodes": 3,
    },
    load_average=(1.0, 2.0),
    idle=[Idle(name, "a", 60.0, 0.3, 500, 44_000_000) for name in daemons.MODULES],
    quoted=Quoted((round_of(PODS, 2.0), round_of(NODE, 1.6), round_of(NODE, 2.0), round_of(PODS, 1.0)), ()),
    resident=dict.fromkeys(daemons.MODULES, 46_000_000),
    verified=160,
    starts=Starts(without=(1.0, 2.0, 4.0), with_epc=(1.5, 2.2, 4.0)),
    held=[Held(1, 3, 1), Held(20, 3, 20)],
    restarts=[Restart(0.3, 8.0), Restart(0.5, None)],
    updates=[Update("quote-helper", "a", 7.0), Update("quote-helper", "b", 9.0), Update("device-plugin", "a", 12.0)],
)


def rows(text):
    return {line[2:64].strip(): line[64:].split(maxsplit=1) for line in text.splitlines() if line.startswith("  ")}


def test_the_table_shows_how_many_the_median_and_the_range():
    found = rows(table.as_table(RESULTS))
    assert found["quotes per second, from pods"] == ["2", "3000 (2000 to 4000)"]
    assert found["quotes per second, from the node itself"] == ["2", "2250 (2000 to 2500)"]
    assert found["from pods, in those from the node in the same round"] == ["2", "1.40 (0.80 to 2.00)x"]
    assert found["from pods: helper's CPU for a quote, in signatures"] == ["2", "4.00 (4.00 to 4.00)x"]
    assert found["from the node itself: time in which the helper ran or waited"] == ["2", "0.97 (0.97 to 0.97)"]
    assert found["with, in without of the same pair"] == ["3", "1.10 (1.00 to 1.50)x"]
    assert found["by the kubelet's log, from before it listens"] == ["2", "400 (300 to 500) ms"]
    assert found["by the API, from the order to restart"] == ["1", "8.0 (8.0 to 8.0) s"]
    assert found["quote-helper on a"] == ["1", "7.0 (7.0 to 7.0) s"]
    assert found["quote-helper on b"] == ["1", "9.0 (9.0 to 9.0) s"]
    assert found["quote-helper: CPU, idle"] == ["1", "0.50 (0.50 to 0.50) % of a core"]
    assert found["quote-helper: CPU for 1,000 quotes"] == ["2", "200.0 (200.0 to 200.0) ms"]
    assert found["device-plugin: CPU for 1,000 quotes"] == ["2", "1.0 (1.0 to 1.0) ms"]


def test_the_table_says_what_is_computed_and_from_what():
    text = table.as_table(RESULTS)
    (twenty,) = [line for line in text.splitlines() if line.split()[:2] == ["20", "3"]]
    assert twenty.split()[2] == "20"
    assert "computed, at least" in text
    assert "requested; simulated enclaves take none" in text
    assert all(enclave.source in text for enclave in enclaves.QUOTING_ENCLAVES)
    assert "In 1 of 2 restarts the API never showed less." in text


def test_the_json_has_every_value_and_no_quote():
    kept = json.loads(json.dumps(table.as_json(RESULTS)))
    assert [one["quotes_per_second"] for one in kept["quotes"]] == [2000, 2500, 2000, 4000]
    assert kept["pod_start_seconds"]["with_epc"] == [1.5, 2.2, 4.0]
    assert kept["epc_in_process"]["applications"]["20"]["least_mib"] == 20
    assert kept["kubelet_restarts"][1] == {"by_log": 0.5, "by_api": None}


def test_help_tells_the_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "starts of pods with EPC, and as many without (default: 20)" in shown
    assert "examples:" in shown
