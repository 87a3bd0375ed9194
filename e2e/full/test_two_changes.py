"""A change that is interrupted or killed, and two changes at once, on the real cluster with the real helm."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from confcom.errors import ExitCode
from e2e.add_on import RELEASE, SYSTEM, daemons
from e2e.cluster.addresses import NODE_NAME
from e2e.command_results import JSON, changes, codes_of, document_of
from e2e.images_workshop import CHART_REGISTRY
from e2e.waiting import until

CHANGE_SECONDS = 240.0
"""For one command that changes the daemons, and waits for them."""
SLOW = ("update", "--set", "quoteHelper.image.tag=not-there", "--set", "quoteHelper.image.pullPolicy=Never")
"""Helm waits for its Job, whose image cannot be had, for a minute."""


def run(cluster, *arguments):
    return cluster.run([sys.executable, "-m", "confcom", *arguments], check=False, timeout=CHANGE_SECONDS)


def confcom(cluster, *arguments, code=ExitCode.OK):
    done = run(cluster, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def last_status(cluster):
    listed = cluster.helm("history", RELEASE, f"--namespace={SYSTEM}", "--output=json")
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
        result = beside.submit(cluster.run, noting, check=False, timeout=CHANGE_SECONDS)
        until(lambda: last_status(cluster) == "pending-upgrade", "helm has begun the update")
        yield result, pid.read_text().strip()


@pytest.mark.timeout(400, func_only=True)
@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_an_update_that_is_interrupted_says_what_helm_has_recorded(enabled, tmp_path, name):
    before = serving(enabled)
    with slow_update(enabled, tmp_path) as (result, pid):
        enabled.run(["kill", f"-{name}", pid])
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


@pytest.mark.timeout(400, func_only=True)
def test_the_second_of_two_changes_is_told_of_the_first(enabled, tmp_path):
    before = serving(enabled)
    with slow_update(enabled, tmp_path) as (result, _):
        for command in (("update", "--set", "logLevel=debug"), ("rollback",), ("disable", "--yes")):
            assert codes_of(confcom(enabled, *command, JSON, code=ExitCode.REFUSED)) >= {"change-running"}
        assert serving(enabled) == before
        assert result.result().returncode == ExitCode.FAILED
    confcom(enabled, "rollback")


@pytest.mark.timeout(400, func_only=True)
def test_two_updates_that_begin_together_are_one(enabled):
    levels = ("logLevel=debug", "logLevel=warning")
    with ThreadPoolExecutor(max_workers=2) as both:
        results = list(both.map(lambda level: run(enabled, "update", "--set", level, JSON), levels))
    codes = sorted(done.returncode for done in results)
    assert codes in ([ExitCode.OK, ExitCode.OK], [ExitCode.OK, ExitCode.REFUSED]), [one.stderr for one in results]
    assert last_status(enabled) == "deployed"
    for done in results:
        assert done.returncode == ExitCode.OK or codes_of(done) & {"change-running", "change-concurrent"}


@pytest.mark.timeout(400, func_only=True)
def test_of_a_change_that_died_with_its_helm_the_remedy_that_is_named_works(enabled, tmp_path):
    before = serving(enabled)
    with slow_update(enabled, tmp_path) as (result, pid):
        helm = enabled.run(["pgrep", "--parent", pid, "--exact", "helm"]).stdout.strip()
        enabled.run(["kill", "-KILL", pid, helm])
        result.result()
    assert last_status(enabled) == "pending-upgrade"
    done = confcom(enabled, "update", "--set", "logLevel=debug", JSON, code=ExitCode.REFUSED)
    assert codes_of(done) >= {"change-running"}  # it is seconds old, so helm might still be at work
    assert "`confcom rollback --interrupted`" in done.stdout
    assert "`confcom rollback --interrupted`" in confcom(enabled, "status", code=ExitCode.NOT_READY).stdout
    confcom(enabled, "rollback", "--interrupted")
    assert serving(enabled) == before
    confcom(enabled, "status")
