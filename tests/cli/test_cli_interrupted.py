"""Ctrl-C and SIGTERM while a cluster in memory is changed: the last words say what was changed, and what to do."""

import json
import os
import signal
from types import SimpleNamespace

import click
import pytest

from confcom.errors import ExitCode
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
    assert done.exit_code == ExitCode.INTERRUPTED, done.output
    return [line.strip() for line in done.stderr.splitlines()[-3:]]


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
    assert done.exit_code == ExitCode.INTERRUPTED
    error = json.loads(done.stdout)["error"]
    assert error.pop("code")
    assert error == {
        "what": "interrupted before anything was changed",
        "why": "",
        "do": "the same command again, if the change is still wanted",
        "exit_code": 130,
    }
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
    what, why, do = told(confcom("enable", "--simulated-node", "b"))
    assert what == "Error: interrupted before helm was started"
    assert why == (
        "why: helm has changed nothing; without helm: the node b was labelled confcom.internal/simulated-sgx=true; "
        "perhaps the namespace confcom-system was made"
    )
    assert do == "do:  the same command again makes the rest of the change"
    assert not cluster.revisions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_helm_upgrades_it_is_told_what_helm_has_recorded(confcom, enabled, number):
    enabled.on_tick = lambda _: os.kill(os.getpid(), number)
    before = signal.getsignal(signal.SIGTERM)
    what, why, do = told(confcom("update", "--set", "logLevel=debug"))
    assert signal.getsignal(signal.SIGTERM) is before
    assert [one["status"] for one in enabled.revisions] == ["deployed", "failed"]
    assert what == "Error: interrupted while helm was at work"
    assert why == (
        'why: the last change (revision 2) failed and may be half made (Upgrade "confcom" failed: context canceled)'
    )
    assert do == "do:  `confcom enable` makes it again, `confcom rollback` undoes it"
    enabled.on_tick = None
    assert enabled.find("Job")
    assert confcom("rollback").exit_code == ExitCode.OK
    assert not enabled.find("Job")  # it would fail later, and `status` would name it


def test_while_helm_installs_it_is_told_with_what_was_done_before(confcom, cluster):
    cluster.on_tick = interrupt
    _, why, do = told(confcom("enable", "--simulated"))
    assert "(revision 1) failed and may be half made" in why
    assert why.endswith("without helm: the namespace confcom-system was made")
    assert do == "do:  `confcom enable` makes it again, `confcom disable` removes it"
    cluster.on_tick = None
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK


def test_helm_that_had_not_begun_has_recorded_nothing(confcom, enabled):
    enabled._record = lambda *_: None  # it ends before it has recorded that it has begun
    enabled.on_tick = interrupt
    what, why, do = told(confcom("update", "--set", "logLevel=debug"))
    assert what == "Error: interrupted while helm was at work"
    assert why == "why: helm has recorded no new revision: the release is as it was (revision 1)"
    assert do == "do:  the same command again, if the change is still wanted"


def test_helm_that_ended_in_time_has_made_the_change(confcom, enabled):
    confcom("update", "--set", "logLevel=debug")
    rollback = enabled._helm_rollback

    def interrupted(*arguments):
        rollback(*arguments)
        raise KeyboardInterrupt

    enabled._helm_rollback = interrupted
    what, why, do = told(confcom("rollback"))
    assert what == "Error: interrupted while helm was at work"
    assert why == "why: helm has recorded revision 3 as deployed: the change is made, and the cluster goes on"
    assert do == "do:  `confcom status` shows how far it is"  # another rollback would go further back


def test_what_cannot_be_looked_up_is_said_not_to_be_known(confcom, enabled):
    def leave(fake):
        fake.away = True
        interrupt()

    enabled.on_tick = leave
    _, why, do = told(confcom("update", "--set", "logLevel=debug"))
    assert why == "why: what helm has recorded could not be looked up"
    assert do == "do:  `confcom status` says what came of it"


def wait_for_daemons(cluster):
    """Interrupts at the first look at the rollout."""
    when_called(cluster, "daemonsets.apps,pods,controllerrevisions.apps,events")


def test_while_the_daemons_are_waited_for_the_change_is_made(confcom, enabled):
    wait_for_daemons(enabled)
    done = confcom("update", "--set", "logLevel=debug", "--output", "json")
    what, why, do = told(done)
    assert what == "Error: interrupted while the add-on was waited for"
    assert why == "why: the change is made (revision 2), and the cluster goes on with it by itself"
    assert do == "do:  `confcom status` shows how far it is; `confcom rollback` undoes it"
    assert json.loads(done.stdout)["error"]["exit_code"] == 130
    assert enabled.revisions[-1]["values"]["logLevel"] == "debug"


def test_who_only_waited_has_changed_nothing(confcom, enabled):
    wait_for_daemons(enabled)
    what, _ = told(confcom("enable", "--simulated"))[-2:]
    assert what == "Error: interrupted before anything was changed"


def test_disabling_that_is_interrupted_goes_on_with_the_same_command(confcom, enabled):
    uninstall = enabled._helm_uninstall

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return 1, "", "Error: it was away"

    enabled._helm_uninstall = interrupted
    what, why, do = told(confcom("disable"))
    assert what == "Error: interrupted while helm was at work"
    assert why.startswith("why: the release is not removed, and is deployed (revision 1); without helm: ")
    assert "ValidatingAdmissionPolicyBinding confcom-provision, confcom-simulated-root." in why
    assert do == "do:  `confcom disable` again removes the rest; `confcom enable` puts back what is gone"

    enabled._helm_uninstall = uninstall
    wait_for_daemons(enabled)
    what, why, do = told(confcom("disable"))
    assert what == "Error: interrupted while the rest was removed"
    assert why.startswith("why: the release is removed; ")
    assert do == "do:  `confcom disable` again removes the rest"
    assert confcom("disable").exit_code == ExitCode.OK


def test_of_what_was_never_enabled_nothing_is_said_to_be_removed(confcom, cluster):
    when_called(cluster, "nodes", "--output=json")
    what, why, do = told(confcom("disable"))
    assert what == "Error: interrupted while the rest was removed"
    assert why == "why: there was no release, and the nodes keep the names of the resources"
    assert do == "do:  `confcom disable` again removes the rest"


def abort(*_, **__):
    raise click.Abort


def test_ctrl_c_at_the_question_changes_nothing(confcom, enabled, monkeypatch):
    enabled.objects.append(make.pod("user", on="a", limits={EPC: 10}))
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("confcom.cli.commands.disable.sys", terminal)
    monkeypatch.setattr(click, "confirm", abort)
    done = confcom("disable")
    assert told(done)[-2] == "Error: interrupted before anything was changed"
    assert enabled.find("DaemonSet", namespace=SYSTEM)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["update", "--set", "logLevel=debug"], "interrupted while the add-on was waited for"),
        (["disable"], "interrupted while the rest was removed"),
        (["enable", "--simulated"], "interrupted before anything was changed"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_while_the_result_is_written_the_change_is_made(confcom, enabled, monkeypatch, command, expected):
    del enabled
    for module in ("enable", "disable"):
        monkeypatch.setattr(f"confcom.cli.commands.{module}.show_result", interrupt)
    assert f"Error: {expected}" in told(confcom(*command))
