"""A change that is interrupted or killed, and a second change at once, on the real cluster with the real helm."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from confcom.errors import ExitCode
from e2e.add_on import RELEASE, SYSTEM, daemons
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import COMMAND_SECONDS, JSON, changes, codes_of, confcom, document_of
from e2e.images_workshop import CHART_REGISTRY
from e2e.waiting import until

SLOW = ("update", "--set", "quoteHelper.image.tag=not-there", "--set", "quoteHelper.image.pullPolicy=Never")
"""Helm waits for its Job, whose image cannot be had, for a minute."""

pytestmark = pytest.mark.timeout(400, func_only=True)


def last_status(cluster):
    listed = cluster.helm("history", RELEASE, f"--namespace={SYSTEM}", JSON)
    return json.loads(listed.stdout)[-1]["status"]


def serving(cluster):
    return {pod["metadata"]["uid"] for pod in daemons(cluster)}


@pytest.fixture
def enabled(bare):
    confcom(bare, "enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY)
    yield bare
    confcom(bare, "disable", "--yes", "--no-wait")  # also what a failed hook has left, which `helm uninstall` does not


@contextmanager
def slow_update(cluster, folder):
    """One that has begun, in the background; gives its result to be, and its process ID on the node."""
    pid = folder / "pid"
    noting = ["sh", "-c", f'echo $$ >{pid}; exec "$@"', "sh", sys.executable, "-m", "confcom", *SLOW, JSON]
    with ThreadPoolExecutor(max_workers=1) as beside:
        result = beside.submit(cluster.run, noting, check=False, timeout=COMMAND_SECONDS)
        until(lambda: last_status(cluster) == "pending-upgrade", "helm has begun the update")
        yield result, pid.read_text().strip()


def test_an_interrupted_update_says_what_helm_has_recorded(enabled, tmp_path):
    before = serving(enabled)
    with slow_update(enabled, tmp_path) as (result, pid):
        enabled.run(["kill", "-INT", pid])
        done = result.result()
    assert done.returncode == ExitCode.INTERRUPTED, done.stderr
    assert codes_of(done) == {"interrupted-during-helm"}
    do = document_of(done)["error"]["do"]
    undo = ("rollback",)
    if "`confcom rollback --interrupted`" in do:
        # On a machine that is short of CPU helm can end before it has recorded that it was interrupted.
        assert last_status(enabled) == "pending-upgrade"
        undo = ("rollback", "--interrupted")
    else:
        # It can also need more than the seconds that the command gives it.
        assert ("`confcom rollback`" in do and last_status(enabled) == "failed") or "`confcom status`" in do, do
        until(lambda: last_status(enabled) == "failed", "helm has recorded that it was interrupted")
    assert changes(confcom(enabled, *undo, JSON))
    assert serving(enabled) == before


def test_a_second_change_is_refused_and_a_killed_one_mended(enabled, tmp_path):
    before = serving(enabled)
    with slow_update(enabled, tmp_path) as (result, pid):
        for command in (("update", "--set", "logLevel=debug"), ("rollback",), ("disable", "--yes")):
            assert "change-running" in codes_of(confcom(enabled, *command, JSON, code=ExitCode.REFUSED))
        assert serving(enabled) == before
        helm = enabled.run(["pgrep", "--parent", pid, "--exact", "helm"]).stdout.strip()
        enabled.run(["kill", "-KILL", pid, helm])
        result.result()
    assert last_status(enabled) == "pending-upgrade"
    # The record is seconds old, so helm might still be at work.
    done = confcom(enabled, "update", "--set", "logLevel=debug", JSON, code=ExitCode.REFUSED)
    assert "change-running" in codes_of(done)
    assert "`confcom rollback --interrupted`" in done.stdout
    assert "`confcom rollback --interrupted`" in confcom(enabled, "status", code=ExitCode.NOT_READY).stdout
    confcom(enabled, "rollback", "--interrupted")
    assert serving(enabled) == before
    confcom(enabled, "status")
