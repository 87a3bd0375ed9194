import os
import socket
import stat
import threading

import pytest

from confcom.daemon import unix_socket
from confcom.daemon.unix_socket import MAX_PATH_BYTES, PathState, bind_unix_socket, inspect_path
from confcom.errors import SettingsError, UnavailableError


def bind(path, **changes):
    return bind_unix_socket(path, **({"mode": 0o666, "backlog": 16} | changes))


def leave_stale_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()


def names(directory):
    return [entry.name for entry in directory.iterdir()]


def can_connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_binds_with_mode_and_makes_the_directory(short_dir):
    path = short_dir / "a" / "aesm.socket"
    before = os.umask(0o077)
    try:
        bound = bind(path, directory_mode=0o755)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert can_connect(path)
    assert names(path.parent) == ["aesm.socket"]
    bound.close()
    assert not path.exists()
    bound.close()


def test_a_missing_directory_is_an_error_when_none_is_to_be_made(short_dir):
    with pytest.raises(UnavailableError, match="cannot be bound") as caught:
        bind(short_dir / "a" / "s")
    assert "No such file or directory" in caught.value.why
    assert not (short_dir / "a").exists()


def test_a_stale_socket_is_replaced(short_dir):
    path = short_dir / "s"
    leave_stale_socket(path)
    assert inspect_path(path) is PathState.STALE
    bound = bind(path)
    assert can_connect(path)
    bound.close()


def test_a_live_socket_is_never_replaced(short_dir):
    path = short_dir / "s"
    first = bind(path)
    with pytest.raises(UnavailableError, match="already served by another program"):
        bind(path)
    assert first.owns_path()
    assert can_connect(path)
    first.close()


def test_a_full_backlog_is_life(short_dir):
    path = short_dir / "s"
    bound = bind(path, backlog=0)
    waiting = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        waiting.append(client)
        try:
            client.connect(str(path))
        except BlockingIOError:
            break
    assert inspect_path(path) is PathState.LIVE
    for client in waiting:
        client.close()
    bound.close()


@pytest.mark.parametrize("kind", ["directory", "file", "datagram socket", "link to nothing"])
def test_what_is_no_stream_socket_stays(short_dir, kind):
    path = short_dir / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        if kind == "directory":
            path.mkdir()
        elif kind == "file":
            path.write_text("precious")
        elif kind == "link to nothing":
            path.symlink_to(short_dir / "nowhere")
        else:
            datagram.bind(str(path))
        assert inspect_path(path) is PathState.OTHER
        with pytest.raises(SettingsError, match="cannot be replaced") as caught:
            bind(path)
        assert ("directory" in caught.value.why) is (kind == "directory")
        assert os.path.lexists(path)


def test_only_ones_own_entry_is_removed(short_dir):
    path = short_dir / "s"
    old = bind(path)
    path.unlink()
    new = bind(path)
    assert not old.owns_path()
    assert old.unlink() is False
    old.close()
    assert can_connect(path)
    assert new.unlink() is True
    new.socket.close()


def test_an_entry_with_the_same_inode_but_changed_later_is_another(short_dir):
    path = short_dir / "s"
    bound = bind(path)
    path.chmod(0o600)
    assert not bound.owns_path()
    bound.close()
    assert path.exists()


def test_path_length_limit(short_dir):
    room = MAX_PATH_BYTES - len(os.fsencode(short_dir)) - 1
    bound = bind(short_dir / ("x" * room))
    bound.close()
    with pytest.raises(SettingsError, match=f"{MAX_PATH_BYTES + 1} bytes long"):
        bind(short_dir / ("x" * (room + 1)))


def test_a_path_without_a_name(short_dir):
    with pytest.raises(SettingsError, match="does not name"):
        bind(short_dir / "/")


def test_the_directory_is_a_file(short_dir):
    (short_dir / "f").write_text("")
    with pytest.raises(UnavailableError, match="cannot be bound"):
        bind(short_dir / "f" / "s", directory_mode=0o755)


def test_many_starters_one_winner(short_dir):
    path = short_dir / "s"
    leave_stale_socket(path)
    results = []
    barrier = threading.Barrier(8)

    def start():
        barrier.wait()
        try:
            results.append(bind(path))
        except UnavailableError as error:
            results.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owners = [result for result in results if not isinstance(result, UnavailableError) and result.owns_path()]
    assert len(owners) == 1
    assert can_connect(path)
    for result in results:
        if not isinstance(result, UnavailableError):
            result.close()
    assert names(short_dir) == []


def test_endless_competition_ends_in_an_error(short_dir, monkeypatch):
    monkeypatch.setattr(unix_socket, "inspect_path", lambda _: PathState.FREE)
    leave_stale_socket(short_dir / "s")
    with pytest.raises(UnavailableError, match="could not be bound"):
        bind(short_dir / "s")
    assert names(short_dir) == ["s"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_told_why(short_dir):
    (short_dir / "d").mkdir(mode=0o755)
    short_dir.chmod(0o755)
    bound = bind(short_dir / "d" / "s", mode=0o600)
    (short_dir / "closed").mkdir(mode=0o700)
    hidden = bind(short_dir / "closed" / "s")
    os.seteuid(1000)
    try:
        with pytest.raises(UnavailableError) as caught:
            bind(short_dir / "d" / "s")
        assert "Permission denied" in caught.value.why
        with pytest.raises(UnavailableError) as caught:
            bind(short_dir / "d" / "new")
        assert "Permission denied" in caught.value.why
        with pytest.raises(UnavailableError) as caught:
            bind(short_dir / "closed" / "s", directory_mode=0o755)
        assert "Permission denied" in caught.value.why
        assert not hidden.owns_path()
    finally:
        os.seteuid(0)
    hidden.close()
    bound.close()
