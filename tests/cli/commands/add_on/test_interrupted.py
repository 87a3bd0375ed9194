"""Ctrl-C and SIGTERM while a cluster in memory is changed: the last words say what was changed, and what to do."""

import json
import os
import re
import signal

import click
import pytest

from confcom.errors import ExitCode
from testkit.cli_output import commands_in, error_of
from testkit.fake_cluster.objects import SYSTEM


def interrupt(*_):
    raise KeyboardInterrupt


def when_called(cluster, matches):
    """Interrupts when the command first runs such a program, before that does anything."""
    run = cluster.run

    def watched(arguments, /, **more):
        if matches(arguments):
            cluster.run = run
            interrupt()
        return run(arguments, **more)

    cluster.run = watched


@pytest.fixture
def told(confcom):
    """The error that a command is interrupted with, which is its last words on stderr too."""

    def call(code, *command):
        done = confcom(*command, "-o", "json")
        assert done.exit_code == ExitCode.INTERRUPTED, done.output
        error = error_of(done)
        assert error["code"] == code
        last = [f"Error: {error['what']}", error["why"] and f"  why: {error['why']}", f"  do:  {error['do']}"]
        assert done.stderr.endswith("".join(f"{line}\n" for line in filter(None, last)))
        return error

    return call


def facts(error):
    """The release's revision that an error names, the namespace if it was made, and the commands that it proposes."""
    revisions = [int(number) for number in re.findall(r"(?<![\w.-])\d+(?![\w.-])", error["why"])]
    return revisions, re.findall(SYSTEM, error["why"]), commands_in(error["do"])


@pytest.mark.parametrize("command", [["enable", "--simulated"], ["update"], ["disable"], ["rollback"]])
@pytest.mark.parametrize("at", ["nodes", "current-context"])
def test_before_helm_nothing_was_changed(confcom, enabled, command, at, told):
    confcom("update", "--set", "logLevel=debug")
    before = json.dumps(enabled.revisions)
    when_called(enabled, lambda arguments: any(at in word for word in arguments))
    assert told("interrupted-before-change", *command)["why"] == ""
    assert json.dumps(enabled.revisions) == before


def test_what_was_done_before_helm_is_told(confcom, cluster, told):
    trying = {"--dry-run=server", "--output=json"}
    when_called(cluster, lambda arguments: arguments[1] == "create" and not trying & set(arguments))
    error = told("interrupted-before-helm", "enable", "--simulated-node", "b")
    node, namespace = error["why"].split("; ")[-2:]
    assert " b " in node
    assert "confcom.internal/simulated-sgx=true" in node
    assert namespace.startswith("perhaps ")
    assert SYSTEM in namespace
    assert not cluster.revisions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_helm_upgrades_it_is_told_what_helm_has_recorded(confcom, enabled, number, told):
    enabled.on_tick = lambda _: os.kill(os.getpid(), number)
    before = signal.getsignal(signal.SIGTERM)
    error = told("interrupted-during-helm", "update", "--set", "logLevel=debug")
    assert signal.getsignal(signal.SIGTERM) is before
    assert [one["status"] for one in enabled.revisions] == ["deployed", "failed"]
    assert facts(error) == ([2], [], ["confcom enable", "confcom rollback"])
    assert 'Upgrade "confcom" failed: context canceled' in error["why"]
    enabled.on_tick = None
    assert enabled.find("Job")
    confcom.ok("rollback")
    assert not enabled.find("Job")  # it would fail later, and `status` would name it


def test_helm_that_ended_in_time_has_made_the_change(confcom, enabled, told):
    confcom("update", "--set", "logLevel=debug")
    enabled.replace("rollback", lambda change: (change(), interrupt()))
    error = told("interrupted-during-helm", "rollback")
    assert "deployed" in error["why"]
    assert facts(error) == ([3], [], ["confcom status"])  # another rollback would go further back


def test_what_cannot_be_looked_up_is_said_not_to_be_known(enabled, told):
    def leave(fake):
        fake.away = True
        interrupt()

    enabled.on_tick = leave
    error = told("interrupted-during-helm", "update", "--set", "logLevel=debug")
    assert facts(error) == ([], [], ["confcom status"])


def wait_for_daemons(cluster):
    """Interrupts at the first look at the rollout."""
    when_called(
        cluster, lambda arguments: "daemonsets.apps,deployments.apps,pods,controllerrevisions.apps,events" in arguments
    )


def test_while_the_daemons_are_waited_for_the_change_is_made(enabled, told):
    wait_for_daemons(enabled)
    error = told("interrupted-during-wait", "update", "--set", "logLevel=debug")
    assert facts(error) == ([2], [], ["confcom status", "confcom rollback"])
    assert enabled.revisions[-1]["values"]["logLevel"] == "debug"


def test_an_interrupted_disable_goes_on_with_the_same_command(confcom, enabled, told):
    uninstall = enabled._helm_uninstall

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return 1, "", "Error: it was away"

    enabled._helm_uninstall = interrupted
    error = told("interrupted-during-helm", "disable")
    assert facts(error)[::2] == ([1], ["confcom disable", "confcom enable"])
    assert re.search(
        r"ValidatingAdmissionPolicyBinding [a-z, -]*\bconfcom-provision, confcom-simulated-root\.", error["why"]
    )

    enabled._helm_uninstall = uninstall
    wait_for_daemons(enabled)
    error = told("interrupted-during-removal", "disable")
    assert error["why"]
    assert facts(error) == ([], [], ["confcom disable"])
    confcom.ok("disable")


def abort():
    raise click.Abort


def test_ctrl_c_at_the_question_changes_nothing(enabled, asked, told):
    asked(abort)
    told("interrupted-before-change", "disable")
    assert enabled.find("DaemonSet", namespace=SYSTEM)


def test_helm_that_had_not_begun_has_recorded_nothing(enabled, told):
    enabled._record = lambda *_: None  # it ends before it has recorded that it has begun
    enabled.on_tick = interrupt
    error = told("interrupted-during-helm", "update", "--set", "logLevel=debug")
    assert facts(error) == ([1], [], [])


def test_of_what_was_never_enabled_nothing_is_said_to_be_removed(confcom, cluster, told):
    when_called(cluster, lambda arguments: {"nodes", "--output=json"} <= set(arguments))
    never = told("interrupted-during-removal", "disable")
    assert facts(never) == ([], [], ["confcom disable"])
    confcom.ok("enable", "--simulated")
    wait_for_daemons(cluster)
    assert told("interrupted-during-removal", "disable")["why"] != never["why"]
