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
from confcom.aesm.messages import InitQuoteExResponse
from confcom.aesm.session import RequestReceived, ServerSession
from confcom.daemon import socket_path
from confcom.daemon.worker import WorkerPool
from confcom.errors import SettingsError, UnavailableError
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.takeover import socket_inspection, socket_keeper
from confcom.quote_helper.takeover.holder_probe import HolderStatus, probe_holder
from confcom.quote_helper.takeover.socket_keeper import SocketKeeper
from confcom.quote_helper.takeover.takeover_policy import MAX_SOCKET_PATH_BYTES, Instance

WAIT_SECONDS = 30
LIMITS = HelperLimits(
    socket_tick_seconds=0.005,
    holder_target_seconds=0.5,
    holder_examination_seconds=0.01,
    holder_answer_seconds=0.1,
    accept_drain_seconds=0.5,
)


class Host:
    """Serves listeners: InitQuoteEx only, with a target info or a refusal, or not at all."""

    def __init__(self, target_info):
        self.target_info = target_info
        self.hangs = False
        self.listeners = []
        self.served = set()

    def add_listener(self, listener):
        self.listeners.append(listener)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def remove_listener(self, listener):
        if listener in self.listeners:
            self.listeners.remove(listener)
            asyncio.get_running_loop().remove_reader(listener.fileno())

    def _accept(self, listener):
        with contextlib.suppress(BlockingIOError):
            client, _ = listener.accept()
            task = asyncio.get_running_loop().create_task(self._serve(client))
            self.served.add(task)
            task.add_done_callback(self.served.discard)
            # Also if it is ended before it began.
            task.add_done_callback(lambda _: client.close())

    async def _serve(self, client):
        client.setblocking(False)
        loop, session = asyncio.get_running_loop(), ServerSession()
        while data := await loop.sock_recv(client, 4096):
            match session.receive(data):
                case RequestReceived() if not self.hangs:
                    await loop.sock_sendall(client, session.respond(self._answer()))
                    return

    def _answer(self):
        if self.target_info is None:
            return InitQuoteExResponse(AesmErrorCode.SERVICE_UNAVAILABLE, pub_key_id_size=32)
        return InitQuoteExResponse(
            AesmErrorCode.SUCCESS, target_info=self.target_info, pub_key_id_size=32, pub_key_id=bytes(32)
        )


class Running:
    """A keeper with what it needs around it."""

    def __init__(self, path, started, *, target_info=b"T" * 512, replace_foreign=False, open_to_all=False):
        self.host = Host(None)
        self.can_quote_for = target_info
        self.policy = StaleTargetPolicy(1000, lambda: 0.0)
        self.workers = WorkerPool("look")
        self.changed = asyncio.Event()
        self.keeper = SocketKeeper(
            path,
            me=Instance(started, started),
            host=self.host,
            workers=self.workers,
            stale=self.policy,
            limits=LIMITS,
            replace_foreign=replace_foreign,
            open_to_all=open_to_all,
            on_change=self.changed.set,
        )
        self.task = None

    async def start(self):
        await self.keeper.start()
        self.task = asyncio.create_task(self.keeper.run())
        return self

    def quote(self):
        self.host.target_info = self.can_quote_for
        self.policy.quotes_for(self.can_quote_for)
        self.keeper.set_can_quote(can_quote=True)

    async def until(self, condition):
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self.keeper.reason):
                self.changed.clear()
                await self.changed.wait()

    async def serves(self):
        await self.until(lambda reason: reason is None)

    async def waits(self, why):
        await self.until(lambda reason: reason is not None and why in reason)

    async def end(self):
        """Without leaving: as a killed process, whose sockets the kernel closes."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        for listener in list(self.host.listeners):
            self.host.remove_listener(listener)
            listener.close()
        for task in self.host.served:
            task.cancel()
        if self.host.served:
            await asyncio.wait(self.host.served)
        self.workers.close()


@pytest.fixture
def path(short_dir):
    return short_dir / "aesm" / "aesm.socket"


@pytest.fixture
async def keeper(path):
    """Make keepers of one path; the number says who started later."""
    made = []

    def make(started, **options):
        running = Running(path, started, **options)
        made.append(running)
        return running

    yield make
    for running in made:
        await running.end()
        running.keeper.close()


def listening(path, name=None):
    """Another program's socket at the path."""
    path.parent.mkdir(exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(name or path))
    if name:
        name.rename(path)
    listener.listen(8)
    return listener


def occupy(path, kind):
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
        (path / "precious").write_text("")


def inode(path):
    return path.lstat().st_ino


async def ticks(running, count=5):
    """Let a keeper look some more times."""
    for _ in range(count):
        running.keeper._wake.set()
        await eventually(lambda: not running.keeper._wake.is_set())
        await running.workers.submit(lambda: None)


async def eventually(condition):
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 # it shows in the file system, or a timer brings it about
            await asyncio.sleep(0.001)


async def test_where_nobody_serves_the_path_is_bound_at_once(keeper, path):
    running = await keeper(1).start()
    assert running.keeper.reason is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert [entry.name for entry in path.parent.iterdir()] == ["aesm.socket"]


async def test_a_live_helper_is_replaced_when_a_quote_was_made_and_not_before(keeper, path):
    old = await keeper(1).start()
    old.quote()
    new = await keeper(2).start()
    before = inode(path)
    assert "no quote can be made here" in new.keeper.reason
    await ticks(new)
    assert inode(path) == before
    new.quote()
    await new.serves()
    assert inode(path) != before
    await old.waits("a newer quote helper serves")
    await ticks(old)
    assert new.keeper.reason is None


async def test_nothing_that_an_update_does_is_a_warning(keeper, caplog):
    caplog.set_level(logging.INFO)
    old = await keeper(1).start()
    old.quote()
    new = await keeper(2).start()
    assert new.keeper.expected
    new.quote()
    await new.serves()
    await old.waits("a newer quote helper serves")
    assert old.keeper.expected
    assert {record.levelname for record in caplog.records} == {"INFO"}


async def test_what_is_in_the_way_is_a_warning(keeper, path, caplog):
    path.parent.mkdir()
    path.write_text("")
    running = keeper(1)
    with pytest.raises(SettingsError):
        await running.start()
    assert not running.keeper.expected
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_the_old_one_still_serves_who_had_connected_and_then_lets_its_socket_go(keeper, path):
    old = await keeper(1).start()
    old.quote()
    (listener,) = old.host.listeners
    asyncio.get_running_loop().remove_reader(listener.fileno())
    let_go, remove = [], old.host.remove_listener

    def noted(which):
        let_go.append(old.keeper.reason)
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
        await old.waits("newer")
        await eventually(lambda: not old.host.listeners)
    assert "newer" in let_go[0], "it was let go before it was left to the newer one"
    assert listener.fileno() == -1
    assert path.exists()


async def test_the_newest_of_three_ends_up_with_the_path_whatever_the_order(keeper):
    first, second, third = keeper(1), keeper(2), keeper(3)
    for running in (second, third, first):
        await running.start()
    for running in (first, third, second):
        running.quote()
    await third.serves()
    await first.waits("newer")
    await second.waits("newer")
    for running in (first, second, third):
        await ticks(running)
    assert [running.keeper.reason is None for running in (first, second, third)] == [False, False, True]


async def test_when_the_newer_one_dies_the_old_one_takes_the_path_back(keeper, path):
    old = await keeper(1).start()
    old.quote()
    new = await keeper(2).start()
    new.quote()
    await old.waits("newer")
    await new.end()
    await old.serves()
    assert await probe_holder(path, deadline_seconds=WAIT_SECONDS) == HolderStatus(
        can_quote=True, target_info=b"T" * 512
    )


@pytest.mark.parametrize("trouble", ["hangs", "lost its provider"])
async def test_a_newer_one_that_cannot_quote_does_not_keep_the_path_from_one_that_can(keeper, trouble):
    old = await keeper(1).start()
    old.quote()
    new = await keeper(2).start()
    new.quote()
    await old.waits("newer")
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
        await old.waits("newer")


async def test_a_removed_path_is_bound_again(keeper, path):
    running = await keeper(1).start()
    path.unlink()
    await eventually(path.exists)
    path.unlink()
    path.parent.rmdir()
    await eventually(path.exists)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert await probe_holder(path, deadline_seconds=WAIT_SECONDS) == HolderStatus(can_quote=False)
    assert running.keeper.reason is None


async def test_a_stale_socket_in_its_place_is_replaced(keeper, path):
    listening(path).close()
    running = await keeper(1).start()
    assert running.keeper.reason is None
    assert socket_path.inspect_path(path) is socket_path.PathState.LIVE
    path.unlink()
    listening(path).close()
    await eventually(lambda: socket_path.inspect_path(path) is socket_path.PathState.LIVE)
    assert running.keeper.reason is None


async def test_another_programs_live_socket_stays(keeper, path):
    with listening(path) as other:
        before = inode(path)
        running = await keeper(1).start()
        running.quote()
        await running.waits("another program serves there, and without --replace-foreign-socket it stays")
        await ticks(running)
        assert inode(path) == before
        other.close()
        await running.serves()


async def test_another_programs_live_socket_is_replaced_when_that_is_asked_for_after_a_quote(keeper, path):
    with listening(path):
        before = inode(path)
        running = await keeper(1, replace_foreign=True).start()
        await ticks(running)
        assert inode(path) == before
        assert "no quote was made here yet" in running.keeper.reason
        running.quote()
        await running.serves()
        assert inode(path) != before


async def test_a_full_backlog_hides_whose_socket_it_is_so_it_stays(keeper, path, monkeypatch):
    monkeypatch.setattr(socket_inspection, "LOOK_PATIENCE_SECONDS", 0.01)
    with listening(path) as other, contextlib.ExitStack() as waiting:
        other.listen(0)
        waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        running = await keeper(1).start()
        running.quote()
        await running.waits("backlog is full")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
async def test_a_helpers_mark_of_another_user_is_no_helper(keeper, path):
    path.parent.mkdir(mode=0o777)
    path.parent.chmod(0o777)
    path.parents[1].chmod(0o755)
    os.seteuid(1000)
    try:
        other = listening(path, path.with_name(f".aesm.socket.{Instance(0, 0).mark}"))
    finally:
        os.seteuid(0)
    with other:
        running = await keeper(1).start()
        running.quote()
        await running.waits("a program of uid 1000 serves there under a quote helper's name")


@pytest.mark.parametrize("kind", ["directory that is not empty", "file"])
async def test_what_is_no_socket_stays_and_at_the_start_it_is_an_error(keeper, path, kind):
    path.parent.mkdir()
    occupy(path, kind)
    with pytest.raises(SettingsError, match="cannot be replaced") as caught:
        await keeper(1).start()
    assert kind in caught.value.why
    assert path.exists()


@pytest.mark.parametrize("kind", ["directory that is not empty", "file"])
async def test_what_is_no_socket_while_it_runs_is_waited_for(keeper, path, kind):
    running = await keeper(1).start()
    path.unlink()
    occupy(path, kind)
    await running.waits(f"there is a {kind}")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    await running.serves()


async def test_an_empty_directory_in_its_place_is_removed_at_any_time_and_told(keeper, path, caplog):
    path.mkdir(parents=True)
    running = await keeper(1).start()
    assert running.keeper.reason is None
    assert stat.S_ISSOCK(path.lstat().st_mode)
    path.unlink()
    path.mkdir()
    await eventually(path.is_socket)
    assert running.keeper.reason is None
    told = [
        record for record in caplog.records if "an empty directory was in the socket's place" in record.getMessage()
    ]
    assert len(told) == 2
    assert f"have it mount {path.parent}, and start it again" in told[0].remedy


async def test_a_link_to_an_empty_directory_is_not_removed(keeper, path):
    path.parent.mkdir()
    path.parent.with_name("else").mkdir()
    path.symlink_to(path.parent.with_name("else"))
    with pytest.raises(SettingsError, match="cannot be replaced"):
        await keeper(1).start()
    assert path.is_symlink()
    assert path.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
async def test_an_empty_directory_that_may_not_be_removed_is_told(keeper, path):
    path.mkdir(parents=True)
    path.parents[1].chmod(0o755)
    os.seteuid(1000)
    try:
        with pytest.raises(UnavailableError, match="cannot be bound") as caught:
            await keeper(1).start()
    finally:
        os.seteuid(0)
    assert "Permission denied" in caught.value.why
    assert path.is_dir()


async def test_a_path_that_is_too_long_for_the_mark(keeper, short_dir):
    running = Running(short_dir / ("x" * (MAX_SOCKET_PATH_BYTES - len(str(short_dir)))), 1)
    with pytest.raises(SettingsError, match=f"{MAX_SOCKET_PATH_BYTES + 1} bytes long"):
        await running.start()
    running.workers.close()
    fits = Running(short_dir / ("x" * (MAX_SOCKET_PATH_BYTES - len(str(short_dir)) - 1)), 1)
    await fits.start()
    assert fits.keeper.reason is None
    await fits.end()
    fits.keeper.close()


@pytest.mark.parametrize(
    ("number", "at_the_start"),
    [
        (errno.ENOSPC, None),
        (errno.EMFILE, None),
        (errno.EACCES, UnavailableError),
        (errno.EROFS, UnavailableError),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else None,
)
async def test_a_directory_that_cannot_take_a_socket(keeper, path, monkeypatch, number, at_the_start):
    """A full disk passes, and is waited for; wrong permissions end a start, and are waited for later."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(socket_keeper, "link_socket", refuse)
    running = keeper(1)
    if at_the_start is None:
        await running.start()
    else:
        with pytest.raises(at_the_start, match="cannot be bound"):
            await running.start()
        running.task = asyncio.create_task(running.keeper.run())
    assert os.strerror(number) in running.keeper.reason
    monkeypatch.undo()
    await running.serves()


async def test_without_a_descriptor_nothing_is_seen_and_nothing_is_lost(keeper, path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    running = await keeper(1).start()
    monkeypatch.setattr(socket_inspection, "inspect_socket", refuse)
    path.unlink()
    await running.waits("Too many open files")
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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
async def test_a_directory_of_roots_is_an_error_at_the_start_for_who_is_not_root(keeper, path):
    path.parent.mkdir(mode=0o755)
    path.parents[1].chmod(0o755)
    os.seteuid(1000)
    try:
        with pytest.raises(UnavailableError) as caught:
            await keeper(1).start()
    finally:
        os.seteuid(0)
    assert "Permission denied" in caught.value.why


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
async def test_a_socket_that_may_not_be_connected_to_is_anothers(keeper, path):
    with listening(path):
        path.chmod(0o600)
        path.parents[1].chmod(0o755)
        os.seteuid(1000)
        try:
            running = await keeper(1).start()
        finally:
            os.seteuid(0)
        assert "this user may not connect" in running.keeper.reason


async def test_leaving_removes_only_ones_own_path(keeper, path):
    old = await keeper(1).start()
    old.quote()
    new = await keeper(2).start()
    new.quote()
    await old.waits("newer")
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
async def test_whom_the_old_one_quoted_for_decides_about_rejected_reports(keeper, before, code):
    old = await keeper(1).start()
    old.host.target_info = before
    new = await keeper(2).start()
    new.quote()
    await new.serves()
    assert new.policy.code_for_rejected_report() is code


async def test_where_nobody_served_a_rejected_report_may_be_stale(keeper):
    running = await keeper(1).start()
    running.quote()
    assert running.policy.code_for_rejected_report() is AesmErrorCode.ATT_KEY_NOT_INITIALIZED


async def test_what_happens_to_the_path_is_logged_once(keeper, path, caplog):
    caplog.set_level("INFO")
    with listening(path):
        running = await keeper(1).start()
        await ticks(running)
    await running.serves()
    messages = [record.getMessage() for record in caplog.records if record.name.endswith("socket_keeper")]
    assert [message.partition(":")[0] for message in messages] == [
        f"not answering on {path}",
        f"answering AESM's protocol on {path}",
    ]
