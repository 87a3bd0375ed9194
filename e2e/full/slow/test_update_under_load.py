"""Updates of the add-on while eight clients in pods attest, which together hold every MiB of enclave memory."""

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from e2e import images
from e2e.add_on import SYSTEM
from e2e.confcom_command import HELPER, PLUGIN, AddOn, enabled, uids
from e2e.images_workshop import REGISTRY
from e2e.load.client import ENCLAVE
from e2e.load.outcome import Outcome, Trust
from e2e.load.pods import Load
from e2e.other_image import derive
from e2e.waiting import until
from testkit.replay.sequences import CLIENTS, ReplayedClient

CASE_SECONDS = 1200
"""For one of these cases: most of it is load."""
SMALLEST_NODE_MIB = 28
RATE = 10.0
"""Attestations per second of each client: 80 together, with about 100 quotes and 400 calls."""
AROUND_SECONDS = 10.0
"""For how long there is load before the first new pod, and after the last old one has gone."""
SERVED = 2_000
"""Quotes that each instance of the helper serves at least."""
SERVED_SECONDS = 300.0
NEW_QE = hashlib.sha256(b"confcom simulated quoting enclave, version 2").hexdigest(), 2
DEFAULT_QE = hashlib.sha256(b"confcom simulated quoting enclave, version 1").hexdigest(), 1
REPOSITORY = f"{REGISTRY}/confcom/"
SITE_PACKAGES = "/opt/confcom/lib/python3.11/site-packages/"
WRONG_QUOTES = b"""
from confcom.quote_provider.simulated import SimulatedQuoteProvider

right = SimulatedQuoteProvider.quote
def quote(self, report, info):
    made = right(self, report, info)
    report_data = bytes(byte ^ 255 for byte in made.quote[368:432])
    return type(made)(made.quote[:368] + report_data + made.quote[432:], made.qe_report_info)
SimulatedQuoteProvider.quote = quote
"""
"""Of a build whose quotes are about something else."""
ENDS_AT_ONCE = b"""
import os, sys

if "confcom.quote_helper" in sys.orig_argv:
    os._exit(3)
"""

pytestmark = pytest.mark.timeout(CASE_SECONDS, func_only=True)


@pytest.fixture
def add_on(cluster, nodes):
    with enabled(cluster, nodes[:2], epc_mib=SMALLEST_NODE_MIB) as made:
        yield made


@pytest.fixture
def load(add_on, namespace, tmp_path):
    (tmp_path / "load").mkdir()
    running = Load.start(
        add_on.cluster,
        namespace,
        add_on.nodes,
        offered_mib=add_on.offered_mib,
        rate=RATE,
        folder=tmp_path / "load",
    )
    assert sum(pod.epc_mib for pod in running.pods) == add_on.offered_mib * len(add_on.nodes)
    return running


@pytest.fixture(scope="module")
def other_images(cluster, tmp_path_factory):
    """Other images of both daemons on every node; their digests."""
    return {name: imported(cluster, tmp_path_factory, name) for name in (PLUGIN, HELPER)}


def imported(cluster, tmp_path_factory, name, **files):
    archive = tmp_path_factory.mktemp("images") / f"{name}.tar"
    digest = derive(images.build_all()[name], archive, REPOSITORY + name, revision=secrets.token_hex(4), **files)
    cluster.import_image(archive)
    archive.unlink()
    return digest


@pytest.fixture
def canary(add_on, other_images, tmp_path):
    """A helper of the new image with the cluster's platform, on a socket of its own: its path."""
    folder = tmp_path / "canary"
    folder.mkdir()
    folder.chmod(0o777)
    state, socket = "/etc/confcom/simulated-platform", "/canary/aesm.socket"
    container = {
        "name": "quote-helper",
        "image": f"{REPOSITORY}{HELPER}@{other_images[HELPER]}",
        "imagePullPolicy": "Never",
        "args": ["--simulated", f"--state-dir={state}", f"--socket={socket}", "--probe-address=:8080"],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "platform", "mountPath": state}, {"name": "canary", "mountPath": "/canary"}],
    }
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": add_on.nodes[0].name},
        "securityContext": {"fsGroup": 10001},
        "containers": [container],
        "volumes": [
            {"name": "platform", "secret": {"secretName": "confcom-simulated-platform", "defaultMode": 0o440}},
            {"name": "canary", "hostPath": {"path": str(folder), "type": "Directory"}},
        ],
    }
    here = f"--namespace={SYSTEM}"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "canary"}, "spec": spec}
    add_on.cluster.kubectl("create", here, "--filename=-", input=json.dumps(pod))
    add_on.cluster.kubectl("wait", here, "--for=condition=Ready", "pod/canary", "--timeout=90s")
    yield folder / "aesm.socket"
    add_on.cluster.kubectl("delete", here, "pod", "canary", "--now")


def replayed_on(path: Path, trust: Trust) -> int:
    """Every client that any service serves has its quotes from this one; how many."""
    quotes = []
    for sequence in CLIENTS:
        if sequence.served:
            client = ReplayedClient(sequence, path, enclave=ENCLAVE)
            for run in (client.run(), client.quote()):
                assert (run.failure, run.renewals) == ("", 0), sequence.name
                quotes += run.quotes
    assert trust.complaints(quotes) == []
    return len(quotes)


def served(add_on: AddOn, pods: dict, least: int = SERVED) -> dict[str, int]:
    """By node: what the helpers have served, once each has served so many quotes."""
    counts: dict[str, int] = {}

    def enough() -> bool:
        counts.update({node: add_on.quotes_by(pod) for node, pod in pods.items()})
        return all(count >= least for count in counts.values())

    until(enough, f"each helper has served {least} quotes", seconds=SERVED_SECONDS)
    return counts


def update(add_on: AddOn, load: Load, *arguments: str) -> tuple[float, float]:
    """From before the first new pod to after the last old one; returns both times, of CLOCK_MONOTONIC."""
    old = uids(add_on.pods(HELPER))
    began = time.monotonic()
    add_on.confcom("update", *arguments)
    until(lambda: not old & {pod["metadata"]["uid"] for pod in add_on.all_pods(HELPER)}, "the old helpers have gone")
    return began, time.monotonic()


def judge(load: Load, trust: Trust, tell) -> Outcome:
    outcome = Outcome.verified(load, trust, tell)
    assert outcome.not_offered(load.rate) == []
    return outcome


def unharmed(load: Load, before: dict) -> None:
    assert load.states() == before
    assert {phase for _, phase, _ in before.values()} == {"Running"}
    for namespace in (load.namespace, SYSTEM):
        chosen = ("get", "events", f"--namespace={namespace}", "--field-selector=reason=Preempted")
        assert load.cluster.kubectl_json(*chosen)["items"] == []


def test_no_attestation_fails_while_images_and_quoting_enclave_are_updated(  # noqa: PLR0917 # fixtures
    add_on, trust, canary, other_images, load, tell
) -> None:
    tell(f"against the new image: {replayed_on(canary, trust)} quotes of {len(CLIENTS) - 1} kinds of clients")
    tenants = load.states()
    first = add_on.pods(HELPER)
    counts = [served(add_on, first)]
    load.wait_past(time.monotonic() + AROUND_SECONDS)

    digests = [f"--image-digest={name}={digest}" for name, digest in other_images.items()]
    image_began, image_gone = update(add_on, load, *digests)
    second = add_on.pods(HELPER)
    for component, name in ((HELPER, HELPER), (PLUGIN, PLUGIN)):
        for pod in add_on.pods(component).values():
            assert pod["spec"]["containers"][0]["image"].endswith(f"@{other_images[name]}")
    counts.append(served(add_on, second))

    mr_enclave, isv_svn = NEW_QE
    values = (f"mrEnclave={mr_enclave}", f"isvSvn={isv_svn}")
    enclave_began, enclave_gone = update(add_on, load, *(f"--set=simulated.quotingEnclave.{value}" for value in values))
    third = add_on.pods(HELPER)
    counts.append(served(add_on, third))
    load.wait_past(max(enclave_gone, time.monotonic()) + AROUND_SECONDS)

    assert not (uids(first) & uids(second)) | (uids(second) & uids(third)) | (uids(first) & uids(third))
    unharmed(load, tenants)
    for node in add_on.nodes:
        allocated = [pod.epc_mib for pod in load.pods if pod.node == node.name]
        assert str(sum(allocated)) == add_on.offered(node)
    outcome = judge(load, trust, tell)
    for name, count in zip(("first", "other image", "other quoting enclave"), counts, strict=True):
        tell(f"helpers, {name}: at least {', '.join(f'{quotes} quotes on {node}' for node, quotes in count.items())}")
    tell(
        f"update of both images took {image_gone - image_began:.0f} s, of the quoting enclave "
        f"{enclave_gone - enclave_began:.0f} s, on {len(add_on.nodes)} nodes"
    )
    assert outcome.failures == []
    assert outcome.renewals
    assert min(outcome.renewals) > enclave_began
    assert {(mr_enclave.hex(), svn) for mr_enclave, svn in outcome.quoting_enclaves} == {DEFAULT_QE, NEW_QE}
    begun, ended = outcome.span
    assert begun <= image_began - AROUND_SECONDS
    assert ended >= enclave_gone + AROUND_SECONDS


@dataclass(frozen=True)
class Broken:
    """An image that cannot replace the present one, and how a person is told."""

    digest: str
    reason: str
    code: ExitCode = ExitCode.NOT_READY


@pytest.fixture(params=["that is not there", "whose helper ends at once", "whose quotes are wrong"])
def broken(request, cluster, tmp_path_factory) -> Broken:
    if request.param == "that is not there":  # helm's hook, which makes sure of the root, has the same image
        return Broken(f"sha256:{secrets.token_hex(32)}", "ErrImageNeverPull", ExitCode.FAILED)
    program = WRONG_QUOTES if request.param == "whose quotes are wrong" else ENDS_AT_ONCE
    files = {f"{SITE_PACKAGES}wrong.pth": b"import wrong\n", f"{SITE_PACKAGES}wrong.py": program}
    reason = "the quote of the self-test is wrong" if program is WRONG_QUOTES else "CrashLoopBackOff: exit code 3"
    return Broken(imported(cluster, tmp_path_factory, HELPER, files=files), reason)


def test_an_update_to_an_image_that_cannot_quote_stops_by_itself_and_is_undone(
    add_on, trust, load, broken, tell
) -> None:
    tenants, old = load.states(), add_on.pods(HELPER)
    before = served(add_on, old, least=1)
    began = time.monotonic()

    done = add_on.confcom(
        "update",
        *("--image-digest", f"quote-helper={broken.digest}"),
        *("--set", "quoteHelper.image.pullPolicy=Never"),
        "--timeout=60",
        code=broken.code,
    )
    took = time.monotonic() - began
    tell(f"after {took:.0f} s: {done.stderr[done.stderr.rfind('Error:') :].strip()}")

    assert broken.reason in done.stderr
    assert "confcom rollback" in done.stderr
    seen = {pod["metadata"]["uid"]: pod for pod in add_on.all_pods(HELPER)}
    assert uids(old) <= set(seen)
    if broken.code is ExitCode.NOT_READY:
        (new,) = set(seen) - uids(old)  # it stopped at its first node
        assert seen[new]["spec"]["containers"][0]["image"].endswith(broken.digest)
    problems = add_on.status()["problem_details"]
    if broken.code is ExitCode.NOT_READY:
        assert any(broken.reason in one["problem"] for one in problems), problems
    else:
        assert "hook-job-failed" in {one["code"] for one in problems}, problems
    load.wait_past(time.monotonic())
    meanwhile = {node: add_on.quotes_by(pod) for node, pod in old.items()}
    assert all(meanwhile[node] > before[node] for node in old)

    undoing = time.monotonic()
    add_on.confcom("rollback")
    undone = time.monotonic()
    assert uids(add_on.pods(HELPER)) == uids(old)
    found = add_on.status()
    assert found["ok"], found["problems"]
    load.wait_past(undone + AROUND_SECONDS)
    unharmed(load, tenants)
    outcome = judge(load, trust, tell)
    tell(f"rollback took {undone - undoing:.0f} s; the old helpers served {meanwhile} quotes before it")
    assert (outcome.failures, outcome.renewals) == ([], [])


def test_what_the_kill_of_a_helper_costs(add_on, trust, load, tell) -> None:
    tenants, before = load.states(), add_on.pods(HELPER)
    node = add_on.nodes[0]
    served(add_on, before, least=1)
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    (pid,) = node.run(["pgrep", "--full", "confcom.quote_helper"]).stdout.split()
    killed = time.monotonic()
    node.run(["kill", "-KILL", pid])

    def back() -> bool:
        pod = add_on.pods(HELPER)[node.name]
        return pod["status"]["containerStatuses"][0]["restartCount"] == 1

    until(back, "the helper is back")
    ready = time.monotonic()
    load.wait_past(ready + AROUND_SECONDS)
    assert uids(add_on.pods(HELPER)) == uids(before)
    unharmed(load, tenants)
    outcome = judge(load, trust, tell)
    lost = outcome.failures
    for line in sorted({line for _, line in lost}):
        tell(f"lost: {sum(each == line for _, each in lost)} times {line}")
    last = max((moment for moment, _ in lost), default=killed)
    tell(f"kill -9 of {node.name}'s helper: ready again after {ready - killed:.1f} s, as the API says")
    tell(f"{len(lost)} attestations lost, the last one {last - killed:.1f} s after the kill")
    mine = {pod.name for pod in load.pods if pod.node == node.name}
    assert {line.split()[0] for _, line in lost} <= mine
    assert all(killed - 15.0 < moment < ready for moment, _ in lost)
    assert outcome.renewals == []
