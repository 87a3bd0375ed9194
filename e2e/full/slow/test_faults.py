"""What breaks on a node: clients in pods go on attesting, `confcom status` says what is wrong, it all comes back."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from e2e import images
from e2e.add_on import EPC
from e2e.cluster import Node
from e2e.confcom_command import HELPER, PLUGIN, AddOn, enabled, uids
from e2e.daemon_processes import kill, processes_of
from e2e.kubelet_log import KubeletLog
from e2e.load.client import ENCLAVE
from e2e.load.outcome import Outcome, Trust
from e2e.load.pods import Load
from e2e.plugins import waiting_container
from e2e.waiting import until
from testkit.replay.sequences import CLIENTS, ReplayedClient

CASE_SECONDS = 600
"""On a busy machine; a quiet one takes under two minutes for each."""
EPC_MIB = 168
HELD_MIB = 80
"""By the clients of a node; the rest is for what else a case runs."""
RATE = 4.0
"""Attestations per second of each of eight clients."""
AWAY_SECONDS = 30.0
NOTICE_SECONDS = 150.0
"""For `status` to name what is wrong: the API server calls a node lost after 50 s."""
SOCKET = Path("/run/aesmd/aesm.socket")
FILLING = """
import os, time

print(os.getpid(), flush=True)
filler = os.open("/run/filler", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while True:
    try:
        os.write(filler, bytes(4096))
    except OSError:
        time.sleep(0.005)
"""
"""A program without others that could outlive it; it takes whatever page becomes free."""
SEVERAL = 6
"""Kills until the kubelet waits with the next start long enough for anybody to see it: two are usual."""

pytestmark = pytest.mark.timeout(CASE_SECONDS, func_only=True)


@pytest.fixture(scope="module")
def enabled_once(cluster):
    with enabled(cluster, cluster.nodes[:2], epc_mib=EPC_MIB) as made:
        yield made


@pytest.fixture
def add_on(enabled_once, nodes):
    """All is well: before the case, and after whatever it broke."""
    until(lambda: enabled_once.status()["ok"], "all is well before", seconds=NOTICE_SECONDS)
    yield enabled_once
    enabled_once.cluster.mend()
    enabled_once.replace_restarted()
    until(lambda: enabled_once.status()["ok"], "all is well again", seconds=NOTICE_SECONDS)


@pytest.fixture
def load(add_on, namespace, tmp_path):
    (tmp_path / "load").mkdir()
    return Load.start(
        add_on.cluster, namespace, add_on.nodes, offered_mib=HELD_MIB, rate=RATE, folder=tmp_path / "load"
    )


NO_SPACE = "no space left on device"
"""Of the kernel (ENOSPC), as containerd passes it on."""


def problem_of(add_on: AddOn, node: Node, code: str, cause: str) -> str:
    """The problem of a node that has this code, and the cause in its words; empty if there is none."""
    found = [one for one in add_on.status()["problem_details"] if (one["node"], one["code"]) == (node.name, code)]
    return next((one["problem"] for one in found if cause in one["problem"]), "")


def wrong(add_on: AddOn, node: Node, code: str, cause: str = "") -> str:
    """What `status` says is wrong with a node, once it does."""
    return until(lambda: problem_of(add_on, node, code, cause), f"status has {code}", seconds=NOTICE_SECONDS)


def offers_again(add_on: AddOn, since: float, tell) -> None:
    add_on.wait_for_epc()
    until(lambda: add_on.status()["ok"], "all is well again", seconds=NOTICE_SECONDS)
    tell(f"allocatable and status are well again {time.monotonic() - since:.1f} s later")


def judge(load: Load, trust: Trust, tenants: dict, tell) -> Outcome:
    """No client's pod was harmed, and every quote that came verifies."""
    load.wait_past(time.monotonic())
    assert load.states() == tenants
    assert {phase for _, phase, _ in tenants.values()} == {"Running"}
    outcome = Outcome.verified(load, trust, tell)
    assert outcome.not_offered(load.rate) == []
    return outcome


def kill_until_told(add_on: AddOn, node, component: str) -> str:
    """Kill a daemon whenever it is there again, until `status` names it."""
    for _ in range(SEVERAL):
        until(lambda: processes_of(node, component), f"{component} runs")
        kill(node, component)
        if told := problem_of(add_on, node, "daemon-not-ready", component.replace("-", " ")):
            return told
    pytest.fail(f"status did not name the {component}")


def test_the_kubelet_killed(add_on, trust, load, tell) -> None:
    node, tenants = add_on.nodes[0], load.states()
    node.kill("kubelet")
    killed = time.monotonic()
    told = wrong(add_on, node, "node-not-ready")
    tell(f"after {time.monotonic() - killed:.0f} s: {told}")
    load.wait_past(time.monotonic())
    started = time.monotonic()
    node.start("kubelet")
    offers_again(add_on, started, tell)
    assert judge(load, trust, tenants, tell).failures == []


def test_the_device_plugin_killed(add_on, trust, load, tell) -> None:
    node, tenants, before = add_on.nodes[0], load.states(), add_on.pods(PLUGIN)
    tell(kill_until_told(add_on, node, PLUGIN))
    offers_again(add_on, time.monotonic(), tell)
    assert uids(add_on.pods(PLUGIN)) == uids(before)
    assert judge(load, trust, tenants, tell).failures == []


def test_the_quote_helper_killed(add_on, trust, load, tell) -> None:
    node, tenants, before = add_on.nodes[0], load.states(), add_on.pods(HELPER)
    began = time.monotonic()
    tell(kill_until_told(add_on, node, HELPER))
    offers_again(add_on, time.monotonic(), tell)
    ended = time.monotonic()
    assert uids(add_on.pods(HELPER)) == uids(before)
    load.wait_past(ended)
    assert judge(load, trust, tenants, tell).failed_only_on(node.name, (began, ended))


def test_containerd_killed_and_started(add_on, trust, load, tell) -> None:
    node, tenants, before = add_on.nodes[0], load.states(), uids(add_on.pods(HELPER)) | uids(add_on.pods(PLUGIN))
    node.kill("containerd")
    tell(wrong(add_on, node, "node-not-ready"))
    load.wait_past(time.monotonic())
    started = time.monotonic()
    node.start("containerd")
    offers_again(add_on, started, tell)
    assert uids(add_on.pods(HELPER)) | uids(add_on.pods(PLUGIN)) == before
    assert judge(load, trust, tenants, tell).failures == []


def test_the_api_server_away_for_30_seconds(add_on, trust, load, tell) -> None:
    tenants = load.states()
    add_on.cluster.stop("apiserver")
    stopped = time.monotonic()
    told = add_on.confcom("status", code=ExitCode.UNAVAILABLE).stderr
    tell(" ".join(told[told.rfind("Error:") :].split()))
    load.wait_past(stopped + AWAY_SECONDS)
    started = time.monotonic()
    add_on.cluster.start("apiserver")
    # A node that was taken for lost is Ready again when its kubelet watches again, which it tries less and less often.
    until(add_on.cluster.ready, "the nodes are Ready", seconds=NOTICE_SECONDS)
    offers_again(add_on, started, tell)
    assert judge(load, trust, tenants, tell).failures == []


@pytest.fixture
def no_room_in_run(add_on):
    """/run of the first node is full."""
    node = add_on.nodes[0]
    used = node.run(["df", "--output=used", "--block-size=1K", "/run"]).stdout.split()[-1]
    node.run(["mount", "-o", f"remount,size={int(used) + 4}k", "/run"])
    node.run(["sh", "-c", "cat /dev/zero > /run/filler"], check=False)
    yield node
    make_room(node)


@dataclass(frozen=True)
class FullNode:
    """A node whose /run is kept full by a process, of which this is the number there."""

    node: Node
    pid: str

    def make_room(self) -> None:
        self.node.run(["kill", "-KILL", self.pid])
        make_room(self.node)


def make_room(node) -> None:
    node.run(["sh", "-c", "rm -f /run/filler* && mount -o remount,size=50% /run"])


def test_no_room_in_run(add_on, trust, load, no_room_in_run, tell) -> None:
    node, tenants, before = no_room_in_run, load.states(), add_on.pods(HELPER)
    assert "No space left" in node.run(["sh", "-c", "cat /proc/version > /run/filler-too"], check=False).stderr
    filled = time.monotonic()
    load.wait_past(filled + AWAY_SECONDS)
    kill(node, HELPER)
    killed = time.monotonic()

    (earlier,) = before[node.name]["status"]["containerStatuses"]  # other cases may have killed it before

    def back() -> bool:
        (seen,) = add_on.pods(HELPER)[node.name]["status"]["containerStatuses"]
        return seen["restartCount"] > earlier["restartCount"] and seen["ready"]

    until(back, "the helper has started again in the room that its predecessor left")
    tell(f"killed with no room left, the helper is back after {time.monotonic() - killed:.1f} s")
    freed = time.monotonic()
    make_room(node)
    offers_again(add_on, freed, tell)
    assert uids(add_on.pods(HELPER)) == uids(before)
    ended = time.monotonic()
    load.wait_past(ended)
    assert judge(load, trust, tenants, tell).failed_only_on(node.name, (killed, ended))


@pytest.fixture
def never_any_room(no_room_in_run):
    """What becomes free in /run of the first node is taken at once."""
    node = no_room_in_run
    command = node.entering([sys.executable, "-c", FILLING])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        pid = process.stdout.readline().strip()
        yield FullNode(node, pid)
        node.run(["kill", "-KILL", pid], check=False)


def test_a_helper_killed_while_there_is_never_any_room_in_run(add_on, trust, load, never_any_room, tell) -> None:
    node, tenants, before = never_any_room.node, load.states(), add_on.pods(HELPER)
    load.wait_past(time.monotonic())
    kill(node, HELPER)
    killed = time.monotonic()
    told = wrong(add_on, node, "daemon-not-ready", NO_SPACE)
    tell(f"after {time.monotonic() - killed:.0f} s: {told}")
    load.wait_past(killed + AWAY_SECONDS)
    tell(f"after {AWAY_SECONDS:.0f} s: {wrong(add_on, node, 'daemon-not-ready', NO_SPACE)}")
    assert load.states() == tenants
    assert not processes_of(node, HELPER)

    freed = time.monotonic()
    never_any_room.make_room()
    offers_again(add_on, freed, tell)
    ended = time.monotonic()
    assert uids(add_on.pods(HELPER)) == uids(before)
    load.wait_past(ended)
    outcome = judge(load, trust, tenants, tell)
    assert outcome.failed_only_on(node.name, (killed, ended))
    assert outcome.failures


def workloads(node) -> str:
    """Whatever makes pods again, and what does not; each holds EPC on this node."""
    container = waiting_container(EPC, 2)
    spec = {
        "containers": [container],
        "nodeSelector": {"kubernetes.io/hostname": node.name},
        "terminationGracePeriodSeconds": 1,
    }
    labels = {"app": "again"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    selector = {"matchLabels": labels}
    job = {"backoffLimit": 0, "template": {"spec": {**spec, "restartPolicy": "Never"}}}
    items = [
        ("apps/v1", "Deployment", {"replicas": 3, "selector": selector, "template": template}),
        ("apps/v1", "DaemonSet", {"selector": selector, "template": template}),
        ("v1", "Pod", spec),
        ("batch/v1", "Job", job),
    ]
    made = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": kind.lower()}, "spec": body}
        for version, kind, body in items
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": made})


def running_since(cluster, namespace: str, moment: datetime) -> int:
    """Pods of controllers that make them again, whose containers have started since."""
    pods = cluster.kubectl_json("get", "pods", f"--namespace={namespace}", "--selector=app=again")["items"]
    states = [one["state"].get("running", {}) for pod in pods for one in pod["status"].get("containerStatuses", [])]
    return sum(datetime.fromisoformat(state["startedAt"]) >= moment for state in states if state)


@pytest.mark.parametrize("late", [False, True], ids=["the plugin at once", "the plugin 30 s late"])
def test_a_node_rebooted(add_on, trust, namespace, late, tell) -> None:
    cluster, node, again = add_on.cluster, add_on.nodes[1], 4
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=workloads(node))
    ready = ("wait", f"--namespace={namespace}", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
    until(lambda: cluster.kubectl(*ready, check=False).returncode == 0, "all workloads run")
    until(lambda: running_since(cluster, namespace, datetime.min.replace(tzinfo=UTC)) == again, "all run")
    log = KubeletLog(node.kubelet_log)
    if late:  # as where the registry is slow
        names = node.run(["ctr", "images", "list", "--quiet"]).stdout.split()
        node.run(["ctr", "images", "remove", *(name for name in names if PLUGIN in name)])

    node.power_off()
    log.mark()
    moment = datetime.now(UTC).replace(microsecond=0)
    on = time.monotonic()
    node.power_on()
    if late:
        until(lambda: time.monotonic() > on + AWAY_SECONDS, "30 s have passed")
        assert not log.lists(EPC)
        tell(f"meanwhile: {wrong(add_on, node, 'daemon-not-ready', 'device plugin')}")
        node.import_image(images.build_all()[PLUGIN])
    until(lambda: log.lists(EPC), "the plugin is registered", seconds=120)
    registered = time.monotonic()
    until(lambda: running_since(cluster, namespace, moment) == again, "Deployment and DaemonSet run", seconds=180)
    run = time.monotonic()
    tell(f"plugin registered {registered - on:.1f} s after power on")
    tell(f"Deployment and DaemonSet run {run - registered:.1f} s after that")

    def listed() -> dict[str, dict]:
        ours = [one for one in add_on.status()["workloads"] if one["namespace"] == namespace]
        return {one["kind"]: one for one in ours}

    until(lambda: set(listed()) == {"Pod", "Job"}, "status lists what nothing makes again")
    for one in listed().values():
        assert (one["trouble"], one["name"]) == ("rejected", one["kind"].lower())
        assert one["cause"].startswith("UnexpectedAdmissionError")
        tell(f"{one['kind']}: {one['cause']}; do: {one['remedy']}")
    add_on.pods(HELPER)
    quotes = []
    for sequence in (one for one in CLIENTS if one.served):
        attested = ReplayedClient(sequence, node.inside(SOCKET), enclave=ENCLAVE).run()
        assert attested.failure == "", sequence.name
        quotes += attested.quotes
    assert trust.complaints(quotes) == []
