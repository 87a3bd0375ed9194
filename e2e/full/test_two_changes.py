"""One change at a time: a second command beside a running command, Ctrl-C and kill -9, with the real helm."""

import re
import sys
import time
from collections.abc import Iterator

import pytest

from confcom.addon.change import EXPIRES_SECONDS, HELM_QUIET_SECONDS
from confcom.errors import ExitCode
from e2e.add_on import HELPER, HERE, RELEASE, ROOT, daemons
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import COMMAND_SECONDS, JSON, changes, codes_of, confcom, document_of
from e2e.images import CHART_REGISTRY
from e2e.running_change import RunningChange, holder, in_background, last_status
from e2e.waiting import until

UNREADY = ("update", "--set=quoteHelper.image.repository=confcom/not-there")
"""An update that never gets ready; helm ends at once, but the command waits a minute for the nodes."""
UPDATE = ("update", "--set=logLevel=debug")
OTHERS = (("enable", "--set=logLevel=debug"), UPDATE, ("rollback",), ("disable", "--yes"))
SPARE_SECONDS = 15.0
"""Seconds for the commands themselves, on a busy machine."""

pytestmark = pytest.mark.timeout(500, func_only=True)


def serving(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["uid"] for pod in daemons(cluster)}


def are_refused(change: RunningChange) -> None:
    """Check that every other change is refused with the name of this change and the seconds left."""
    for command in OTHERS:
        done = confcom(change.cluster, *command, JSON, code=ExitCode.REFUSED)
        assert codes_of(done) == {"change-running"}
        error = document_of(done)["error"]
        assert re.search(rf"\bprocess {change.pid}\b", error["why"])
        (left,) = re.findall(r"expires in (\d+) s", error["do"])
        assert 0 < int(left) <= EXPIRES_SECONDS


def repeated_until_done(cluster: Cluster, *arguments: str) -> float:
    """Repeat a command until no other change causes its refusal; return the seconds that this took."""
    began, refused = time.monotonic(), 0.0
    while True:
        done = cluster.run([sys.executable, "-m", "confcom", *arguments, JSON], check=False, timeout=COMMAND_SECONDS)
        if done.returncode == ExitCode.OK:
            return refused
        assert (done.returncode, codes_of(done)) == (ExitCode.REFUSED, {"change-running"}), done.stderr
        refused = time.monotonic() - began
        time.sleep(1)


@pytest.fixture
def enabled(bare: Cluster) -> Iterator[Cluster]:
    confcom(bare, "enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY)
    confcom(bare, "status", "--wait")
    yield bare
    repeated_until_done(bare, "disable", "--yes", "--no-wait")


def test_a_second_change_is_refused_from_start_to_end(enabled, tmp_path):
    before = serving(enabled)
    with in_background(enabled, tmp_path, *UNREADY) as first:
        helm = first.stop_helm()
        are_refused(first)
        first.signal("CONT", helm)
        until(lambda: last_status(enabled) == "deployed", "helm has ended")
        are_refused(first)
        confcom(enabled, "update", "--set=logLevel=debug", "--dry-run")  # a dry run changes nothing
        first.signal("INT")
        done = first.result.result()
    assert (done.returncode, codes_of(done)) == (ExitCode.INTERRUPTED, {"interrupted"})
    assert holder(enabled) == ""
    assert changes(confcom(enabled, "rollback", JSON))
    until(lambda: serving(enabled) == before, "the daemons are those from before")


def test_a_plain_helm_upgrade_is_not_refused(enabled, tmp_path):
    with in_background(enabled, tmp_path, *UNREADY) as first:
        first.signal("CONT", first.stop_helm())  # helm has begun, but the earlier revision is still deployed
        until(lambda: last_status(enabled) == "deployed", "helm has ended")
        chart = str(ROOT / "charts" / "confcom")
        mended = ["--reuse-values", "--set=quoteHelper.image.repository=confcom/quote-helper"]
        enabled.helm("upgrade", RELEASE, chart, HERE, "--force-conflicts", *mended)
        assert first.runs(first.pid)
        assert first.result.result().returncode == ExitCode.OK
    confcom(enabled, "status", "--wait")  # the kubelet reports a plugin's change in 10 s


def test_ctrl_c_lets_helm_end(enabled, tmp_path):
    with in_background(enabled, tmp_path, *UPDATE) as first:
        helm = first.stop_helm()
        first.signal("INT")
        time.sleep(1)
        assert first.runs(first.pid)
        assert holder(enabled)
        first.signal("CONT", helm)
        done = first.result.result()
    assert (done.returncode, codes_of(done)) == (ExitCode.INTERRUPTED, {"interrupted"})
    assert last_status(enabled) == "deployed"
    assert holder(enabled) == ""
    confcom(enabled, *UPDATE)
    confcom(enabled, "status", "--wait")  # the kubelet reports a plugin's change in 10 s


@pytest.mark.parametrize("helm_too", [False, True], ids=["the command", "the command and helm"])
def test_after_a_kill_the_same_command_completes_the_change(enabled, tmp_path, *, helm_too):
    with in_background(enabled, tmp_path, *UPDATE) as first:
        helm, proxy = first.stop_helm(), first.child("kubectl")
        first.signal("KILL", first.pid, *([helm] if helm_too else []))
        first.result.result()
    until(lambda: not first.runs(proxy), "kubectl proxy has ended")
    assert f"process {first.pid}" in holder(enabled)
    if helm_too:
        assert last_status(enabled) == "pending-upgrade"
        assert "change-unfinished" in codes_of(confcom(enabled, "status", JSON, code=ExitCode.NOT_READY))
    else:
        first.signal("CONT", helm)
        until(lambda: last_status(enabled) == "deployed", "helm has ended by itself")
    assert codes_of(confcom(enabled, *UPDATE, JSON, code=ExitCode.REFUSED)) == {"change-running"}
    refused = repeated_until_done(enabled, *UPDATE)
    assert refused < (HELM_QUIET_SECONDS if helm_too else EXPIRES_SECONDS) + SPARE_SECONDS
    (pod,) = daemons(enabled, HELPER)
    assert "--log-level=debug" in pod["spec"]["containers"][0]["args"]
    confcom(enabled, "status", "--wait")  # the kubelet reports a plugin's change in 10 s
