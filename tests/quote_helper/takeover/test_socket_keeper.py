"""The path of the AESM socket in all its states: who gets it, who keeps it, what is never touched."""

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import socket
import stat

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.daemon import socket_path
from confcom.errors import SettingsError, UnavailableError
from confcom.quote_helper.takeover import socket_inspection, socket_keeper
from confcom.quote_helper.takeover.holder_probe import HolderStatus, probe_holder
from confcom.quote_helper.takeover.takeover_policy import MAX_SOCKET_PATH_BYTES, Instance
from testkit.users import as_user
from testkit.waiting import until as eventually

WAIT_SECONDS = 30


def listening(path, name=None):
    """Another program's socket at the path."""
    path.parent.mkdir(exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(name or path))
    if name:
        name.rename(path)
    listener.listen(8)
    return listener


@pytest.fixture
async def updated(keeper):
    """A keeper that could quote, and a newer one that has taken the path from it."""
    old, new = await keeper(1).quoting(), await keeper(2).quoting()
    await old.waits("newer-helper-serves")
    return old, new


def occupy(path, kind):
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
        (path / "precious").write_text("")


def is_blocked(code):
    """Whether something other than a loss of the path that was just noticed keeps it from serving."""
    return code not in {None, "path-lost"}


def inode(path):
    return path.lstat().st_ino


async def ticks(running, count=5):
    """Let a keeper look some more times."""
    for _ in range(count):
        await running.tick()


async def test_where_nobody_serves_the_path_is_bound_at_once(keeper, path):
    running = await keeper(1).start()
    assert running.code is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert [entry.name for entry in path.parent.iterdir()] == ["aesm.socket"]


async def test_a_live_helper_is_replaced_after_a_quote_not_before(keeper, path):
    old, new = await keeper(1).quoting(), await keeper(2).start()
    before = inode(path)
    assert new.code == "no-quote-made"
    await ticks(new)
    assert inode(path) == before
    new.quote()
    await new.serves()
    assert inode(path) != before
    await old.waits("newer-helper-serves")
    await ticks(old)
    assert new.code is None


async def test_nothing_that_an_update_does_is_a_warning(keeper, caplog):
    caplog.set_level(logging.INFO)
    old, new = await keeper(1).quoting(), await keeper(2).start()
    assert new.keeper.problem.expected
    new.quote()
    await new.serves()
    await old.waits("newer-helper-serves")
    assert old.keeper.problem.expected
    assert {record.levelname for record in caplog.records} == {"INFO"}


async def test_what_is_in_the_way_is_a_warning(keeper, path, caplog):
    path.parent.mkdir()
    path.write_text("")
    running = keeper(1)
    with pytest.raises(SettingsError):
        await running.start()
    assert not running.keeper.problem.expected
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_the_old_one_serves_early_clients_then_lets_go(keeper, path):
    old = await keeper(1).quoting()
    (listener,) = old.host.listeners
    asyncio.get_running_loop().remove_reader(listener.fileno())
    let_go, remove = [], old.host.remove_listener

    def noted(which):
        let_go.append(old.code)
        remove(which)

    old.host.remove_listener = noted
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        new = await keeper(2).start()
        new.host.target_info = b"N" * 512
        new.policy.quotes_for(b"N" * 512)
        asyncio.get_running_loop().add_reader(listener.fileno(), old.host._accept, listener)
        new.keeper.set_can_quote(can_quote=True)
        await new.serves()
        await old.waits("newer-helper-serves")
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


async def test_when_the_newer_one_dies_the_old_one_takes_the_path_back(updated, path):
    old, new = updated
    await new.end()
    await old.serves()
    holder = await probe_holder(path, deadline_seconds=WAIT_SECONDS)
    assert holder == HolderStatus(can_quote=True, target_info=b"T" * 512)


@pytest.mark.parametrize("trouble", ["hangs", "lost its provider"])
async def test_a_newer_one_that_cannot_quote_loses_the_path(updated, trouble):
    old, new = updated
    if trouble == "hangs":
        new.host.hangs = True
        new.task.cancel()
    else:
        new.host.target_info = None
        new.keeper.set_can_quote(can_quote=False)
    await old.serves()
    if trouble == "lost its provider":
        new.quote()
        await new.serves()
        await old.waits("newer-helper-serves")


async def test_a_removed_path_is_bound_again(keeper, path):
    running = await keeper(1).start()
    path.unlink()
    await eventually(path.exists)
    path.unlink()
    path.parent.rmdir()
    await eventually(path.exists)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert await probe_holder(path, deadline_seconds=WAIT_SECONDS) == HolderStatus(can_quote=False)
    assert running.code is None


async def test_a_stale_socket_in_its_place_is_replaced(keeper, path):
    listening(path).close()
    running = await keeper(1).start()
    assert running.code is None
    assert socket_path.inspect_path(path) is socket_path.PathState.LIVE
    path.unlink()
    listening(path).close()
    await eventually(lambda: socket_path.inspect_path(path) is socket_path.PathState.LIVE)
    assert running.code is None


async def test_another_programs_live_socket_stays(keeper, path):
    with listening(path) as other:
        before = inode(path)
        running = await keeper(1).quoting()
        await running.waits("foreign-socket")
        await ticks(running)
        assert inode(path) == before
        other.close()
        await running.serves()


async def test_another_programs_live_socket_is_replaced_on_request(keeper, path):
    with listening(path):
        before = inode(path)
        running = await keeper(1, replace_foreign=True).start()
        await ticks(running)
        assert inode(path) == before
        assert running.code == "foreign-socket"
        running.quote()
        await running.serves()
        assert inode(path) != before


async def test_a_full_backlog_hides_whose_socket_it_is_so_it_stays(keeper, path, monkeypatch):
    monkeypatch.setattr(socket_inspection, "LOOK_PATIENCE_SECONDS", 0.01)
    with listening(path) as other, contextlib.ExitStack() as waiting:
        other.listen(0)
        waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        running = await keeper(1).quoting()
        await running.waits("socket-backlog-full")


async def test_a_helpers_mark_of_another_user_is_no_helper(keeper, path):
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with as_user():
        other = listening(path, path.with_name(f".aesm.socket.{Instance(0, 0).mark}"))
    with other:
        running = await keeper(1).quoting()
        await running.waits("foreign-user-socket")


@pytest.mark.parametrize("kind", ["directory that is not empty", "file"])
async def test_what_is_no_socket_stays_and_at_the_start_it_is_an_error(keeper, path, kind):
    path.parent.mkdir()
    occupy(path, kind)
    with pytest.raises(SettingsError):
        await keeper(1).start()
    assert path.exists()


@pytest.mark.parametrize("kind", ["directory that is not empty", "file"])
async def test_what_is_no_socket_while_it_runs_is_waited_for(keeper, path, kind):
    running = await keeper(1).start()
    path.unlink()
    occupy(path, kind)
    await running.until(is_blocked)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    await running.serves()


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


async def test_a_link_to_an_empty_directory_is_not_removed(keeper, path):
    path.parent.mkdir()
    path.parent.with_name("else").mkdir()
    path.symlink_to(path.parent.with_name("else"))
    with pytest.raises(SettingsError):
        await keeper(1).start()
    assert path.is_symlink()
    assert path.is_dir()


async def test_an_empty_directory_that_may_not_be_removed_is_told(keeper, path):
    path.mkdir(parents=True)
    with as_user(), pytest.raises(UnavailableError):
        await keeper(1).start()
    assert path.is_dir()


async def test_a_path_that_is_too_long_for_the_mark(keeper, short_dir):
    left = MAX_SOCKET_PATH_BYTES - len(f"{short_dir}/")
    with pytest.raises(SettingsError) as caught:
        await keeper(1, short_dir / ("x" * (left + 1))).start()
    assert str(MAX_SOCKET_PATH_BYTES) in caught.value.why
    assert (await keeper(1, short_dir / ("x" * left)).start()).code is None


@pytest.mark.parametrize(
    ("number", "at_the_start"),
    [(errno.ENOSPC, None), (errno.EMFILE, None), (errno.EACCES, UnavailableError), (errno.EROFS, UnavailableError)],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else None,
)
async def test_a_directory_that_cannot_take_a_socket(keeper, path, monkeypatch, number, at_the_start):
    """A full disk passes, and is waited for; wrong permissions end a start, and are waited for later."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(socket_keeper, "listen_at", refuse)
    running = keeper(1)
    if at_the_start is None:
        await running.start()
    else:
        with pytest.raises(at_the_start):
            await running.start()
        running.task = asyncio.create_task(running.keeper.run())
    assert os.strerror(number) in running.keeper.problem.reason
    monkeypatch.undo()
    await running.serves()


async def test_without_a_descriptor_nothing_is_lost(keeper, path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    running = await keeper(1).start()
    monkeypatch.setattr(socket_inspection, "inspect_socket", refuse)
    path.unlink()
    await running.until(is_blocked)
    monkeypatch.undo()
    await running.serves()


async def test_who_could_not_be_asked_is_not_called_unable(keeper, path, monkeypatch):
    await keeper(1).start()

    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", refuse)
    answer = await probe_holder(path, deadline_seconds=WAIT_SECONDS)
    monkeypatch.undo()
    assert answer == HolderStatus(can_quote=True)
    assert await probe_holder(path.with_name("nothing"), deadline_seconds=WAIT_SECONDS) == HolderStatus(can_quote=False)


async def test_a_directory_of_roots_is_an_error_for_other_users(keeper, path):
    path.parent.mkdir(mode=0o755)
    with as_user(), pytest.raises(UnavailableError):
        await keeper(1).start()


async def test_a_socket_that_may_not_be_connected_to_is_anothers(keeper, path):
    with listening(path):
        path.chmod(0o600)
        with as_user():
            running = await keeper(1).start()
        assert running.code == "socket-not-connectable"


async def test_leaving_removes_only_ones_own_path(updated, path):
    old, new = updated
    old.task.cancel()
    old.keeper.leave()
    assert path.exists()
    new.task.cancel()
    new.keeper.leave()
    assert not path.exists()


@pytest.mark.parametrize(
    ("before", "code"),
    [
        (b"T" * 512, AesmErrorCode.INVALID_REPORT),
        (b"O" * 512, AesmErrorCode.ATT_KEY_NOT_INITIALIZED),
        (None, AesmErrorCode.ATT_KEY_NOT_INITIALIZED),
    ],
    ids=["same quoting enclave", "another", "not told"],
)
async def test_the_old_ones_enclave_decides_on_rejected_reports(keeper, before, code):
    old = await keeper(1).start()
    old.host.target_info = before
    new = await keeper(2).quoting()
    await new.serves()
    assert new.policy.code_for_rejected_report() is code


async def test_where_nobody_served_a_rejected_report_may_be_stale(keeper):
    running = await keeper(1).quoting()
    assert running.policy.code_for_rejected_report() is AesmErrorCode.ATT_KEY_NOT_INITIALIZED


async def test_what_happens_to_the_path_is_logged_once(keeper, path, caplog):
    caplog.set_level("INFO")
    with listening(path):
        running = await keeper(1).start()
        await ticks(running)
    await running.serves()
    lines = [record for record in caplog.records if str(path) in record.getMessage()]
    assert [getattr(record, "code", None) for record in lines] == ["foreign-socket", None]
