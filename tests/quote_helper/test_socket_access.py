"""Who reaches the socket, and who could replace it: what tenants do to the modes and owners of both."""

import asyncio
import os
import socket
import stat
import subprocess
import sys

import pytest

from confcom.daemon.worker import WorkerPool
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.takeover.socket_access import (
    FileAccess,
    cannot_connect,
    cannot_enter,
    repaired_mode,
    who_else_can_replace,
)
from confcom.quote_helper.takeover.socket_keeper import SocketKeeper
from confcom.quote_helper.takeover.takeover_policy import Instance

WAIT_SECONDS = 30
ME, STRANGER = 10001, 1000
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")


class Host:
    """Takes listeners and serves nobody."""

    def add_listener(self, listener):
        pass

    def remove_listener(self, listener):
        pass


@pytest.fixture
def path(short_dir):
    short_dir.chmod(0o755)
    return short_dir / "aesm" / "aesm.socket"


@pytest.fixture
async def start(path):
    """Start a keeper that looks every few milliseconds."""
    running = []

    async def run(*, open_to_all=True):
        workers = WorkerPool("look")
        keeper = SocketKeeper(
            path,
            me=Instance(1, 1),
            host=Host(),
            workers=workers,
            stale=StaleTargetPolicy(1000, lambda: 0.0),
            limits=HelperLimits(socket_tick_seconds=0.005, accept_drain_seconds=0.01),
            replace_foreign=False,
            open_to_all=open_to_all,
            on_change=lambda: None,
        )
        await keeper.start()
        running.append((keeper, asyncio.create_task(keeper.run()), workers))
        return keeper

    yield run
    for keeper, task, workers in running:
        task.cancel()
        await asyncio.wait([task])
        keeper.close()
        workers.close()


async def eventually(condition):
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 # it shows in the file system
            await asyncio.sleep(0.001)


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def can_connect_as(uid, path):
    """Whether a real process of that user can."""
    code = f"import socket, os; os.setuid({uid}); socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("directory", "who"),
    [
        (FileAccess(ME, ME, 0o755), None),
        (FileAccess(0, 0, 0o755), None),
        (FileAccess(0, 0, 0o775), None),
        (FileAccess(0, 0, 0o1777), None),
        (FileAccess(ME, 1000, 0o1775), None),
        (FileAccess(ME, 1000, 0o775), "the group 1000"),
        (FileAccess(ME, ME, 0o757), "every user"),
        (FileAccess(0, 0, 0o777), "every user"),
        (FileAccess(1000, 1000, 0o755), "the user 1000, who owns the directory,"),
        (FileAccess(1000, 1000, 0o1755), "the user 1000, who owns the directory,"),
    ],
    ids=str,
)
def test_who_else_can_replace_the_socket(directory, who):
    assert who_else_can_replace(directory, me=ME) == who


@pytest.mark.parametrize(("bits", "entered"), [(0o755, True), (0o711, True), (0o750, False), (0o000, False)])
def test_who_can_enter(bits, entered):
    reason = cannot_enter(FileAccess(0, 5, bits))
    assert (reason is None) is entered
    assert reason is None or f"mode {bits:04o}, uid 0, gid 5" in reason


@pytest.mark.parametrize(("bits", "connected"), [(0o666, True), (0o777, True), (0o660, False), (0o600, False)])
def test_who_can_connect(bits, connected):
    assert (cannot_connect(FileAccess(0, 0, bits)) is None) is connected


@pytest.mark.parametrize(
    ("bits", "mended"),
    [
        (0o755, 0o755),
        (0o700, 0o755),
        (0o000, 0o755),
        (0o705, 0o755),
        (0o777, 0o755),
        (0o555, 0o755),
        (0o711, 0o711),
        (0o2755, 0o2755),
        (0o2770, 0o2755),
        (0o1777, 0o1777),
        (0o1700, 0o1700),
    ],
)
def test_the_mode_that_a_directory_gets(bits, mended):
    assert repaired_mode(FileAccess(ME, ME, bits)) == mended


async def test_the_mode_of_a_shared_directory_with_the_sticky_bit_stays(start, path):
    path.parent.mkdir()
    path.parent.chmod(0o1777)
    keeper = await start()
    assert keeper.reason is None
    path.chmod(0o600)
    await eventually(lambda: mode(path) == 0o666)
    assert mode(path.parent) == 0o1777
    path.parent.chmod(0o1700)
    await eventually(lambda: keeper.reason is not None)
    assert "it has the sticky bit" in keeper.reason
    assert mode(path.parent) == 0o1700


async def test_the_mode_of_a_directory_that_a_symbolic_link_leads_to_stays(start, path, short_dir):
    target = short_dir / "target"
    target.mkdir(mode=0o700)
    path.parent.symlink_to(target)
    keeper = await start()
    await eventually(lambda: keeper.reason is not None)
    assert f"{path.parent} is a symbolic link" in keeper.reason
    assert mode(target) == 0o700


@pytest.mark.parametrize("bits", [0o700, 0o000, 0o750, 0o777])
async def test_the_modes_of_directory_and_socket_are_set_back_while_it_runs(start, path, caplog, bits):
    keeper = await start()
    path.chmod(0o600)
    path.parent.chmod(bits)
    await eventually(lambda: mode(path.parent) == 0o755)
    await eventually(lambda: mode(path) == 0o666)
    await eventually(lambda: keeper.reason is None)
    assert [one.was for one in caplog.records if "it was set back to 0755" in one.getMessage()] == [f"{bits:04o}"]


async def test_a_directory_that_is_closed_at_the_start_is_opened(start, path):
    path.parent.mkdir(mode=0o700)
    keeper = await start()
    assert keeper.reason is None
    assert mode(path.parent) == 0o755


async def test_a_directory_of_ones_own_stays_private_unless_it_is_asked_for(start, path):
    path.parent.mkdir(mode=0o700)
    keeper = await start(open_to_all=False)
    path.chmod(0o600)
    for _ in range(5):
        keeper._wake.set()
        await eventually(lambda: not keeper._wake.is_set())
    assert keeper.reason is None
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)


@needs_root
async def test_a_directory_that_a_tenant_took_makes_it_unready_until_it_is_given_back(start, path):
    path.parent.mkdir(mode=0o755)
    os.chown(path.parent, ME, ME)
    os.seteuid(ME)
    try:
        keeper = await start()
        assert keeper.reason is None
        os.seteuid(0)
        os.chown(path.parent, 0, 0)
        path.parent.chmod(0o700)
        os.seteuid(ME)
        await eventually(lambda: keeper.reason is not None)
        assert "clients of other users cannot enter the socket's directory (mode 0700, uid 0, gid 0)" in keeper.reason
        assert f"chown {ME} {path.parent} && chmod 0755 {path.parent}" in keeper.reason
        os.seteuid(0)
        assert not can_connect_as(STRANGER, path)
        os.chown(path.parent, ME, ME)
        os.seteuid(ME)
        await eventually(lambda: keeper.reason is None)
        os.seteuid(0)
        assert can_connect_as(STRANGER, path)
    finally:
        os.seteuid(0)


@needs_root
async def test_a_socket_that_a_tenant_took_is_bound_anew(start, path):
    path.parent.mkdir(mode=0o755)
    os.chown(path.parent, ME, ME)
    os.seteuid(ME)
    try:
        keeper = await start()
        before = path.lstat().st_ino
        os.seteuid(0)
        os.chown(path, 0, 0)
        path.chmod(0o600)
        os.seteuid(ME)
        await eventually(lambda: path.lstat().st_ino != before)
        await eventually(lambda: keeper.reason is None)
        assert mode(path) == 0o666
        os.seteuid(0)
        assert can_connect_as(STRANGER, path)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("open_to_all", [False, True])
async def test_a_directory_that_others_can_write_is_warned_of_once(start, path, caplog, open_to_all):
    path.parent.mkdir()
    path.parent.chmod(0o777)
    if open_to_all and os.geteuid() != 0:
        pytest.skip("needs root to give the directory to another user, since the helper mends its own")
    if open_to_all:
        os.chown(path.parent, STRANGER, STRANGER)
    keeper = await start(open_to_all=open_to_all)
    for _ in range(5):
        keeper._wake.set()
        await eventually(lambda: not keeper._wake.is_set())
    (warning,) = [one for one in caplog.records if one.getMessage().endswith("can replace the AESM socket")]
    assert warning.levelname == "WARNING"
    assert "mode 0777" in warning.why
    assert "give the directory to the helper's user or to root, with mode 0755" in warning.remedy


@needs_root
def test_a_running_helper_lets_every_user_connect_again(start_helper, wait_until, short_dir):
    short_dir.chmod(0o755)
    helper = start_helper(arguments=["--open-to-all-users"]).wait_ready()
    assert can_connect_as(STRANGER, helper.socket)
    helper.socket.parent.chmod(0o700)
    wait_until(lambda: can_connect_as(STRANGER, helper.socket))
    assert helper.get("/readyz")[0] == 200


def test_a_directory_in_the_place_of_a_starting_helpers_socket(start_helper, short_dir):
    (short_dir / "aesm" / "aesm.socket").mkdir(parents=True)
    helper = start_helper().wait_ready()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(helper.socket))
    assert "an empty directory was in the socket's place; it was removed" in helper.log.read_text()
