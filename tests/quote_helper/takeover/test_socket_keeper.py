import asyncio
import contextlib
import errno
import logging
import os
import shutil
import socket
import stat
from unittest.mock import Mock

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.daemon import socket_path
from confcom.errors import SettingsError, UnavailableError
from confcom.quote_helper.takeover import socket_keeper
from confcom.quote_helper.takeover.takeover_policy import MAX_SOCKET_PATH_BYTES, Instance
from testkit.conditions import until as eventually
from testkit.helper_in_process import STALE_WINDOW_SECONDS, WAIT_SECONDS
from testkit.users import as_user


def listening(path, name=None):
    path.parent.mkdir(exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(name or path))
    if name:
        name.rename(path)
    listener.listen(8)
    return listener


@pytest.fixture
async def updated(keeper):
    """Two keepers. The older helper could quote; the newer helper has taken the path from the older one."""
    old, new = await keeper(1).quoting(), await keeper(2).quoting()
    await old.waits("newer-helper-serves")
    return old, new


def inode(path):
    return path.lstat().st_ino


async def ticks(running, count=5):
    for _ in range(count):
        await running.tick()


# Tests of one helper and its path.


async def test_where_nobody_serves_the_path_is_bound_at_once(keeper, path):
    running = await keeper(1).start()
    assert running.code is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert [entry.name for entry in path.parent.iterdir()] == ["aesm.socket"]
    running.quote()
    assert running.policy.code_for_rejected_report() is AesmErrorCode.ATT_KEY_NOT_INITIALIZED


async def test_a_removed_path_is_bound_again(keeper, path):
    running = await keeper(1).start()
    path.unlink()
    await eventually(path.exists)
    path.unlink()
    path.parent.rmdir()
    await eventually(path.exists)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    await running.serves()
    assert running.code is None


async def test_a_stale_socket_in_its_place_is_replaced(keeper, path):
    listening(path).close()
    running = await keeper(1).start()
    assert running.code is None
    assert socket_path.inspect_socket(path).state is socket_path.PathState.LIVE
    path.unlink()
    listening(path).close()
    await eventually(lambda: socket_path.inspect_socket(path).state is socket_path.PathState.LIVE)
    assert running.code is None


async def test_an_empty_directory_in_its_place_is_removed_and_told(keeper, path, caplog):
    path.mkdir(parents=True)
    running = await keeper(1).start()
    assert running.code is None
    assert stat.S_ISSOCK(path.lstat().st_mode)
    path.unlink()
    path.mkdir()
    await eventually(path.is_socket)
    assert running.code is None
    told = [record for record in caplog.records if getattr(record, "path", "") == str(path)]
    assert [record.event for record in told] == ["empty-directory-removed"] * 2
    assert f"mount {path.parent}," in told[0].remedy


def file(path):
    path.write_text("precious")


def directory(path):
    path.mkdir()
    (path / "precious").write_text("")


def link_to_an_empty_directory(path):
    path.with_name("else").mkdir()
    path.symlink_to(path.with_name("else"))


@pytest.mark.parametrize("occupy", [file, directory, link_to_an_empty_directory])
async def test_what_is_no_socket_stays_and_is_an_error_at_the_start(keeper, path, occupy):
    path.parent.mkdir()
    occupy(path)
    with pytest.raises(SettingsError):
        await keeper(1).start()
    assert path.exists()
    assert path.is_symlink() == (occupy is link_to_an_empty_directory)


@pytest.mark.parametrize("occupy", [file, directory])
async def test_what_is_no_socket_while_it_runs_is_waited_for(keeper, path, occupy):
    running = await keeper(1).start()
    path.unlink()
    occupy(path)
    await running.until(lambda code: code not in {None, "path-lost"})
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    await running.serves()


async def test_a_path_that_is_too_long_for_the_mark(keeper, short_dir):
    left = MAX_SOCKET_PATH_BYTES - len(f"{short_dir}/")
    with pytest.raises(SettingsError) as caught:
        await keeper(1, short_dir / ("x" * (left + 1))).start()
    assert str(MAX_SOCKET_PATH_BYTES) in caught.value.why
    assert (await keeper(1, short_dir / ("x" * left)).start()).code is None


@pytest.mark.parametrize(
    "occupied", [lambda path: path.mkdir(parents=True), lambda path: path.parent.mkdir(mode=0o755)]
)
async def test_directories_of_root_are_an_error_for_other_users(keeper, path, occupied):
    """Root owns a directory at the socket's path, or owns the directory that is to contain the socket."""
    occupied(path)
    with as_user(), pytest.raises(UnavailableError):
        await keeper(1).start()
    assert not path.exists() or path.is_dir()


@pytest.mark.parametrize("call", ["inspect_socket", "listen_at"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
async def test_a_directory_that_cannot_take_a_socket(keeper, path, monkeypatch, call, number):
    """A helper that gets this error at its start ends; a helper that gets the error later waits."""
    failing = Mock(side_effect=OSError(number, os.strerror(number)))
    monkeypatch.setattr(socket_keeper, call, failing)
    with pytest.raises(UnavailableError):
        await keeper(1).start()
    monkeypatch.undo()
    running = await keeper(1).start()
    monkeypatch.setattr(socket_keeper, call, failing)
    path.unlink()
    await running.until(lambda code: code == "socket-path-unusable")
    assert os.strerror(number) in running.keeper.problem.reason
    monkeypatch.undo()
    await running.serves()


# Tests with sockets and files of other programs.


@contextlib.contextmanager
def of_another_user(path):
    """Another user's socket with a helper's mark; the mark alone does not make the socket a helper's."""
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with as_user():
        other = listening(path, path.with_name(f".aesm.socket.{Instance(0, 0).mark}"))
    with other:
        yield


@contextlib.contextmanager
def with_a_full_backlog(path):
    with listening(path) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.listen(0)
        waiting.connect(str(path))
        yield


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (listening, "foreign-socket"),
        (with_a_full_backlog, "socket-not-identified"),
        (of_another_user, "foreign-user-socket"),
    ],
)
async def test_another_programs_live_socket_stays(keeper, path, monkeypatch, other, code):
    monkeypatch.setattr(socket_keeper, "LOOK_PATIENCE_SECONDS", 0.01)
    with other(path):
        before = inode(path)
        running = await keeper(1).quoting()
        await running.waits(code)
        await ticks(running, 2)
        assert inode(path) == before
    await running.serves()


async def test_a_socket_that_may_not_be_connected_to_is_anothers(keeper, path):
    with listening(path):
        path.chmod(0o600)
        with as_user():
            running = await keeper(1).start()
        assert running.code == "socket-not-identified"


async def test_what_happens_to_the_path_is_logged_once(keeper, path, caplog):
    caplog.set_level("INFO")
    with listening(path):
        running = await keeper(1).start()
        await ticks(running)
    await running.serves()
    (line,) = [record for record in caplog.records if str(path) in record.getMessage()]
    assert line.levelname == "INFO"


async def test_a_socket_that_appears_after_the_look_stays(keeper, path, monkeypatch):
    decide, others = socket_keeper.decide, []

    def decide_late(*arguments, **options):
        step = decide(*arguments, **options)
        if not others:
            others.append(listening(path))
        return step

    monkeypatch.setattr(socket_keeper, "decide", decide_late)
    running = await keeper(1).start()
    with others[0]:
        await running.waits("foreign-socket")


# Tests of updates.


async def test_a_live_helper_is_replaced_after_a_quote_not_before(keeper, path, caplog):
    caplog.set_level(logging.INFO)
    old, new = await keeper(1).quoting(), await keeper(2).start()
    problems = []
    old.keeper.on_change = lambda: problems.append(old.keeper.problem) or old.changed.set()
    before = inode(path)
    assert new.code == "no-quote-made"
    await ticks(new)
    assert inode(path) == before
    assert new.keeper.problem.expected
    new.quote()
    await new.serves()
    assert inode(path) != before
    await old.waits("newer-helper-serves")
    assert [(problem.code, problem.expected) for problem in problems] == [
        ("path-lost", True),
        ("newer-helper-serves", True),
    ]
    await ticks(old)
    assert new.code is None
    assert {record.levelname for record in caplog.records} == {"INFO"}  # updates cause no warning


async def test_the_old_one_lets_go_after_the_newer_one_serves(keeper, path):
    old = await keeper(1).quoting()
    (listener,) = old.host.listeners
    let_go, remove = [], old.host.remove_listener

    def noted(which):
        let_go.append(old.code)
        remove(which)

    old.host.remove_listener = noted
    new = await keeper(2).quoting()
    await new.serves()
    await eventually(lambda: not old.host.listeners)
    assert let_go[0] == "newer-helper-serves", "it was let go before it was left to the newer one"
    assert listener.fileno() == -1
    assert path.exists()


async def test_the_newest_of_three_gets_the_path_in_any_order(keeper):
    first, second, third = keeper(1), keeper(2), keeper(3)
    for running in (second, third, first):
        await running.start()
    for running in (first, third, second):
        running.quote()
    await third.serves()
    await first.waits("newer-helper-serves")
    await second.waits("newer-helper-serves")
    for running in (first, second, third):
        await ticks(running)
    assert [running.code is None for running in (first, second, third)] == [False, False, True]


async def test_when_the_newer_one_dies_the_old_one_takes_the_path_back(updated, clock):
    old, new = updated
    clock.now += STALE_WINDOW_SECONDS
    assert old.policy.code_for_rejected_report() is AesmErrorCode.INVALID_REPORT
    await new.end()
    await old.serves()
    assert old.policy.code_for_rejected_report() is AesmErrorCode.ATT_KEY_NOT_INITIALIZED


async def test_who_stops_serves_until_the_next_one_can_quote(keeper, path):
    """After a rollback, the next helper may have an older version."""
    old = await keeper(2).quoting()
    old.task.cancel()
    handing_over = asyncio.create_task(old.keeper.hand_over(WAIT_SECONDS))
    new = await keeper(1).start()
    await ticks(new)
    assert new.code == "no-quote-made"
    assert not handing_over.done()
    new.quote()
    await new.serves()
    await asyncio.wait_for(handing_over, WAIT_SECONDS)
    old.keeper.leave()
    assert path.exists()


async def test_leaving_removes_only_ones_own_path(updated, path):
    old, new = updated
    old.task.cancel()
    old.keeper.leave()
    assert path.exists()
    new.task.cancel()
    new.keeper.leave()
    assert not path.exists()
