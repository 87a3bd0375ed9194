import os
import shutil
import stat
import subprocess
import sys

import pytest

from confcom.client import AesmClient
from confcom.errors import ExitCode
from testkit.conditions import until as eventually
from testkit.users import as_user

ME, STRANGER = 10001, 1000
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")


@pytest.fixture
def start(keeper):
    return lambda *, open_to_all=True: keeper(1, open_to_all=open_to_all).start()


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def can_connect_as(uid, path):
    code = f"import socket, os; os.setuid({uid}); socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


async def test_the_mode_of_a_directory_with_the_sticky_bit_stays(start, path):
    path.parent.mkdir()
    path.parent.chmod(0o1777)
    keeper = await start()
    assert keeper.code is None
    path.chmod(0o600)
    await eventually(lambda: mode(path) == 0o666)
    assert mode(path.parent) == 0o1777


@pytest.mark.parametrize("bits", [0o1700, 0o700], ids=["sticky", "linked"])
async def test_a_closed_directory_that_is_not_opened_is_told(start, path, short_dir, bits):
    """The directory is shared with other programs (sticky), or is behind a symbolic link."""
    target = short_dir / "target"
    target.mkdir()
    target.chmod(bits)
    if bits == 0o700:
        path.parent.symlink_to(target)
    else:
        target = target.rename(path.parent)
    keeper = await start()
    assert keeper.code == "socket-directory-closed"
    assert mode(target) == bits


@pytest.mark.parametrize("bits", [0o700, 0o000, 0o750, 0o777, 0o2770])
async def test_modes_of_directory_and_socket_are_set_back(start, path, caplog, bits):
    keeper = await start()
    path.chmod(0o600)
    path.parent.chmod(bits)
    await eventually(lambda: mode(path.parent) == 0o755)
    await eventually(lambda: mode(path) == 0o666)
    await eventually(lambda: keeper.code is None)
    restored = [record for record in caplog.records if getattr(record, "event", "") == "mode-restored"]
    assert [record.was for record in restored] == [f"{bits:04o}"]


async def test_a_directory_of_ones_own_stays_private_by_default(start, path):
    path.parent.mkdir(mode=0o700)
    keeper = await start(open_to_all=False)
    path.chmod(0o600)
    for _ in range(5):
        await keeper.tick()
    assert keeper.code is None
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)


async def start_as_owner(start, path):
    path.parent.mkdir(mode=0o755)
    os.chown(path.parent, ME, ME)
    with as_user(ME):
        keeper = await start()
    assert keeper.code is None
    return keeper


@needs_root
async def test_a_directory_that_a_tenant_took_makes_it_unready(start, path):
    keeper = await start_as_owner(start, path)
    os.chown(path.parent, 0, 0)
    path.parent.chmod(0o700)
    with as_user(ME):
        await eventually(lambda: keeper.code is not None)
    assert keeper.code == "socket-directory-closed"
    assert f"chown {ME} {path.parent} && chmod 0755 {path.parent}" in keeper.keeper.problem.reason
    assert not can_connect_as(STRANGER, path)
    os.chown(path.parent, ME, ME)
    with as_user(ME):
        await eventually(lambda: keeper.code is None)
    assert can_connect_as(STRANGER, path)


@needs_root
async def test_root_opens_no_directory_of_another_user(start, path):
    path.parent.mkdir(mode=0o700)
    os.chown(path.parent, STRANGER, STRANGER)
    keeper = await start()
    assert keeper.code == "socket-directory-closed"
    assert mode(path.parent) == 0o700


@needs_root
async def test_a_socket_that_a_tenant_took_is_bound_anew(start, path):
    keeper = await start_as_owner(start, path)
    before = path.lstat().st_ino
    os.chown(path, 0, 0)
    path.chmod(0o600)
    with as_user(ME):
        await eventually(lambda: path.lstat().st_ino != before)
        await eventually(lambda: keeper.code is None)
    assert mode(path) == 0o666
    assert can_connect_as(STRANGER, path)


@needs_root
def test_a_running_helper_lets_every_user_connect_again(start_helper, short_dir):
    short_dir.chmod(0o755)
    helper = start_helper("--open-to-all-users").wait_ready()
    assert can_connect_as(STRANGER, helper.socket)
    helper.socket.parent.chmod(0o700)
    helper.wait_until(lambda: can_connect_as(STRANGER, helper.socket))
    assert helper.ready


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "mount"))), reason="needs root to mount"
)
def test_a_directory_removed_where_it_was_mounted_from_is_told(start_helper, short_dir):
    """The test mounts a real directory, in a mount namespace that ends with the helper."""
    directory, origin = short_dir / "aesm", short_dir / "origin"
    directory.mkdir()
    origin.mkdir()
    mounting = f'mount --bind {origin} {directory}; exec "$@"'
    helper = start_helper(wrapper=["unshare", "--mount", "sh", "-ec", mounting, "sh"]).wait_ready()
    AesmClient(origin / "aesm.socket").init_quote()
    shutil.rmtree(origin)
    helper.wait_until(lambda: helper.unready_for("mounted-directory-removed"))
    assert helper.get("/livez")[0] == 200
    assert helper.stop() == ExitCode.OK
