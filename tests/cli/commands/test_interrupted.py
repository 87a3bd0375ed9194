"""Ctrl-C and SIGTERM while a cluster in memory is changed: the last words say what was changed, and what to do."""

import json
import os
import re
import signal
from types import SimpleNamespace

import click
import pytest

from confcom.errors import ExitCode
from testkit.cli_output import commands_in, error_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC, SYSTEM


@pytest.fixture
def enabled(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    return cluster


def interrupt(*_):
    raise KeyboardInterrupt


def when_called(cluster, *words):
    """Interrupts when the command runs such a program, before that does anything."""
    run, begun = cluster.run, []

    def watched(arguments, /, **more):
        if not begun and all(word in arguments for word in words):
            begun.append(arguments)
            interrupt()
        return run(arguments, **more)

    cluster.run = watched


def told(done):
    """The error of a command that was given `-o json`, which is its last words on stderr too."""
    assert done.exit_code == ExitCode.INTERRUPTED, done.output
    error = error_of(done)
    assert [line.strip() for line in done.stderr.splitlines()][-1] == f"do:  {error['do']}"
    return error


def facts(error):
    """The release's revision that an error names, the namespace if it was made, and the commands that it proposes."""
    revisions = [int(number) for number in re.findall(r"(?<![\w.-])\d+(?![\w.-])", error["why"])]
    return revisions, re.findall(SYSTEM, error["why"]), commands_in(error["do"])


@pytest.mark.parametrize("command", [["enable", "--simulated"], ["update"], ["disable"], ["rollback"]])
@pytest.mark.parametrize("at", ["nodes", "current-context"])
def test_before_helm_nothing_was_changed(confcom, enabled, command, at):
    confcom("update", "--set", "logLevel=debug")
    before = json.dumps(enabled.revisions)
    run = enabled.run

    def watched(arguments, /, **more):
        if any(at in word for word in arguments):
            interrupt()
        return run(arguments, **more)

    enabled.run = watched
    done = confcom(*command, "--output", "json")
    error = told(done)
    assert (error["code"], error["why"], error["exit_code"]) == ("interrupted-before-change", "", 130)
    assert done.stderr.splitlines()[-2:] == [f"Error: {error['what']}", f"  do:  {error['do']}"]
    assert json.dumps(enabled.revisions) == before


def test_what_was_done_before_helm_is_told(confcom, cluster):
    run = cluster.run

    def watched(arguments, /, **more):
        if (
            arguments[:2] == ["kubectl", "create"]
            and "--dry-run=server" not in arguments
            and "--output=json" not in (arguments)
        ):
            interrupt()
        return run(arguments, **more)

    cluster.run = watched
    error = told(confcom("enable", "--simulated-node", "b", "-o", "json"))
    assert error["code"] == "interrupted-before-helm"
    node, namespace = error["why"].split("; ")[-2:]
    assert " b " in node
    assert "confcom.internal/simulated-sgx=true" in node
    assert namespace.startswith("perhaps ")
    assert SYSTEM in namespace
    assert not cluster.revisions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_helm_upgrades_it_is_told_what_helm_has_recorded(confcom, enabled, number):
    enabled.on_tick = lambda _: os.kill(os.getpid(), number)
    before = signal.getsignal(signal.SIGTERM)
    error = told(confcom("update", "--set", "logLevel=debug", "-o", "json"))
    assert signal.getsignal(signal.SIGTERM) is before
    assert [one["status"] for one in enabled.revisions] == ["deployed", "failed"]
    assert error["code"] == "interrupted-during-helm"
    assert facts(error) == ([2], [], ["confcom enable", "confcom rollback"])
    assert 'Upgrade "confcom" failed: context canceled' in error["why"]
    enabled.on_tick = None
    assert enabled.find("Job")
    assert confcom("rollback").exit_code == ExitCode.OK
    assert not enabled.find("Job")  # it would fail later, and `status` would name it


def test_while_helm_installs_it_is_told_with_what_was_done_before(confcom, cluster):
    cluster.on_tick = interrupt
    error = told(confcom("enable", "--simulated", "-o", "json"))
    assert error["code"] == "interrupted-during-helm"
    assert facts(error) == ([1], [SYSTEM], ["confcom enable", "confcom disable"])
    cluster.on_tick = None
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK


def test_helm_that_had_not_begun_has_recorded_nothing(confcom, enabled):
    enabled._record = lambda *_: None  # it ends before it has recorded that it has begun
    enabled.on_tick = interrupt
    error = told(confcom("update", "--set", "logLevel=debug", "-o", "json"))
    assert error["code"] == "interrupted-during-helm"
    assert facts(error) == ([1], [], [])


def test_helm_that_ended_in_time_has_made_the_change(confcom, enabled):
    confcom("update", "--set", "logLevel=debug")
    rollback = enabled._helm_rollback

    def interrupted(*arguments):
        rollback(*arguments)
        raise KeyboardInterrupt

    enabled._helm_rollback = interrupted
    error = told(confcom("rollback", "-o", "json"))
    assert error["code"] == "interrupted-during-helm"
    assert "deployed" in error["why"]
    assert facts(error) == ([3], [], ["confcom status"])  # another rollback would go further back


def test_what_cannot_be_looked_up_is_said_not_to_be_known(confcom, enabled):
    def leave(fake):
        fake.away = True
        interrupt()

    enabled.on_tick = leave
    error = told(confcom("update", "--set", "logLevel=debug", "-o", "json"))
    assert error["code"] == "interrupted-during-helm"
    assert facts(error) == ([], [], ["confcom status"])


def wait_for_daemons(cluster):
    """Interrupts at the first look at the rollout."""
    when_called(cluster, "daemonsets.apps,pods,controllerrevisions.apps,events")


def test_while_the_daemons_are_waited_for_the_change_is_made(confcom, enabled):
    wait_for_daemons(enabled)
    error = told(confcom("update", "--set", "logLevel=debug", "--output", "json"))
    assert error["code"] == "interrupted-during-wait"
    assert facts(error) == ([2], [], ["confcom status", "confcom rollback"])
    assert enabled.revisions[-1]["values"]["logLevel"] == "debug"


def test_who_only_waited_has_changed_nothing(confcom, enabled):
    wait_for_daemons(enabled)
    assert told(confcom("enable", "--simulated", "-o", "json"))["code"] == "interrupted-before-change"


def test_disabling_that_is_interrupted_goes_on_with_the_same_command(confcom, enabled):
    uninstall = enabled._helm_uninstall

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return 1, "", "Error: it was away"

    enabled._helm_uninstall = interrupted
    error = told(confcom("disable", "-o", "json"))
    assert error["code"] == "interrupted-during-helm"
    assert facts(error)[::2] == ([1], ["confcom disable", "confcom enable"])
    assert "ValidatingAdmissionPolicyBinding confcom-provision, confcom-simulated-root." in error["why"]

    enabled._helm_uninstall = uninstall
    wait_for_daemons(enabled)
    error = told(confcom("disable", "-o", "json"))
    assert error["code"] == "interrupted-during-removal"
    assert error["why"]
    assert facts(error) == ([], [], ["confcom disable"])
    assert confcom("disable").exit_code == ExitCode.OK


def test_of_what_was_never_enabled_nothing_is_said_to_be_removed(confcom, cluster):
    when_called(cluster, "nodes", "--output=json")
    never = told(confcom("disable", "-o", "json"))
    assert never["code"] == "interrupted-during-removal"
    assert facts(never) == ([], [], ["confcom disable"])
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    when_called(cluster, "daemonsets.apps,pods,controllerrevisions.apps,events")
    removed = told(confcom("disable", "-o", "json"))
    assert removed["code"] == never["code"]
    assert removed["why"] != never["why"]


def abort(*_, **__):
    raise click.Abort


def test_ctrl_c_at_the_question_changes_nothing(confcom, enabled, monkeypatch):
    enabled.objects.append(make.pod("user", on="a", limits={EPC: 10}))
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("confcom.cli.commands.disable.sys", terminal)
    monkeypatch.setattr(click, "confirm", abort)
    assert told(confcom("disable", "-o", "json"))["code"] == "interrupted-before-change"
    assert enabled.find("DaemonSet", namespace=SYSTEM)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["update", "--set", "logLevel=debug"], "interrupted-during-wait"),
        (["disable"], "interrupted-during-removal"),
        (["enable", "--simulated"], "interrupted-before-change"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_while_the_result_is_written_the_change_is_made(confcom, enabled, monkeypatch, command, expected):
    del enabled
    for module in ("enable", "disable"):
        monkeypatch.setattr(f"confcom.cli.commands.{module}.show_result", interrupt)
    assert told(confcom(*command, "-o", "json"))["code"] == expected
