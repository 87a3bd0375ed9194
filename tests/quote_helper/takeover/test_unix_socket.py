import errno
import os
import signal
import socket
import stat
import threading
from pathlib import Path

import pytest

from confcom.daemon.connected_socket import peer_credentials
from confcom.daemon.socket_path import (
    SUN_PATH_BYTES,
    PathInspection,
    PathState,
    inspect_socket,
    not_a_socket,
    require_usable_path,
)
from confcom.errors import SettingsError, UnavailableError
from confcom.quote_helper.takeover.unix_socket import listen_at, make_directory
from testkit.expected_errors import raises
from testkit.passing_descriptors import pass_descriptors
from testkit.users import as_user


@pytest.fixture
def path(short_dir):
    return short_dir / "s"


@pytest.fixture
def bind():
    """Binds sockets; the fixture closes all sockets at the end."""
    made = []

    def bind_one(path, backlog=16, **changes):
        made.append(listen_at(path, tag="t", mode=0o666, backlog=backlog, **changes))
        return made[-1]

    yield bind_one
    for bound in made:
        bound.close()


def names(directory):
    return [entry.name for entry in directory.iterdir()]


def can_connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_it_appears_with_its_mode_whatever_the_umask(short_dir, bind):
    path = short_dir / "a" / "b" / "aesm.socket"
    make_directory(path.parent, 0o700)
    make_directory(path.parent, 0o755)
    before = os.umask(0o077)
    try:
        bound = bind(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, "what is there stays"
    (short_dir / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_directory(short_dir / "file", 0o755)
    assert can_connect(path)
    assert names(path.parent) == ["aesm.socket"]
    bound.close()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["directory", "file", "datagram socket", "link to nothing"])
def test_what_is_no_stream_socket_is_told(short_dir, kind, path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        if kind == "directory":
            path.mkdir()
        elif kind == "file":
            path.write_text("precious")
        elif kind == "link to nothing":
            path.symlink_to(short_dir / "nowhere")
        else:
            datagram.bind(str(path))
        assert inspect_socket(path).state is PathState.OTHER
        assert not_a_socket(path).error_code == "not-a-socket"


def test_paths_that_no_socket_can_have(short_dir):
    room = SUN_PATH_BYTES - len(os.fsencode(short_dir)) - 1
    require_usable_path(short_dir / ("x" * room), SUN_PATH_BYTES)
    with raises("socket-path-too-long", SettingsError):
        require_usable_path(short_dir / ("x" * (room + 1)), SUN_PATH_BYTES)
    with raises("socket-path-without-name", SettingsError):
        require_usable_path(Path("/"), SUN_PATH_BYTES)


def test_a_path_behind_a_closed_directory_is_told(short_dir, bind):
    (short_dir / "closed").mkdir(mode=0o700)
    short_dir.chmod(0o755)
    hidden = bind(short_dir / "closed" / "s")
    with as_user():
        with raises("socket-path-unusable", UnavailableError) as caught:
            inspect_socket(short_dir / "closed" / "s")
        assert os.strerror(errno.EACCES) in caught.value.why
        assert not hidden.owns_path()


def test_only_ones_own_entry_is_removed(path, bind):
    old = bind(path)
    path.unlink()
    new = bind(path)
    assert not old.owns_path()
    assert old.unlink() is False
    old.close()
    assert can_connect(path)
    old.close()
    assert new.owns_path()
    assert new.unlink() is True


def test_ones_own_entry_stays_so_whatever_its_mode_and_links(short_dir, path, bind):
    bound = bind(path)
    path.chmod(0o600)
    (short_dir / "link").hardlink_to(path)
    assert bound.owns_path()
    bound.close()
    assert not path.exists()


def test_a_socket_takes_a_live_ones_path_without_a_gap(short_dir, path, bind):
    old = bind(path)
    refused = []
    done = threading.Event()

    def knock():
        while not done.is_set():
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                # No program accepts here. A full backlog proves that the socket is live; connect() would wait.
                if (code := client.connect_ex(str(path))) not in {0, errno.EAGAIN}:
                    refused.append(code)

    knocking = threading.Thread(target=knock)
    knocking.start()
    taken = [listen_at(path, tag=str(number), mode=0o666, backlog=4096, replace=True) for number in range(100)]
    done.set()
    knocking.join()
    assert refused == []
    assert [one.owns_path() for one in taken] == [False] * 99 + [True]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert not old.owns_path()
    for one in taken:
        one.close()
    old.close()
    assert names(short_dir) == []


def test_linking_replaces_no_stale_socket_and_no_directory(short_dir, path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(FileExistsError):
        listen_at(path, tag="t", mode=0o666, backlog=1)
    assert inspect_socket(path).state is PathState.STALE
    assert names(short_dir) == ["s"]
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        listen_at(path, tag="t", mode=0o666, backlog=1, replace=True)
    assert names(short_dir) == ["s"]


def test_the_kernel_tells_the_bound_name_and_its_owner(short_dir, path):
    bound = listen_at(path, tag="mark-1", mode=0o666, backlog=1)
    holder = inspect_socket(path, patience=1).holder
    assert holder.bound_name.endswith("/.s.mark-1")
    assert holder.uid == os.geteuid()
    replaced = listen_at(path, tag="mark-2", mode=0o666, backlog=1, replace=True)
    assert inspect_socket(path, patience=1).holder.bound_name.endswith("/.s.mark-2")
    replaced.close()
    bound.close()
    assert inspect_socket(path, patience=1) == PathInspection(PathState.FREE)
    with socket.socket(socket.AF_UNIX) as listener:
        no_text = Path(os.fsdecode(os.fsencode(short_dir) + b"/\xff\xfe"))
        listener.bind(os.fsencode(no_text))
        listener.listen()
        no_text.rename(path)
        assert inspect_socket(path, patience=1).holder.bound_name == str(no_text)


@pytest.mark.usefixtures("refusal")
def test_a_live_sockets_program_can_pass_no_descriptors(path, bind, monkeypatch):
    """A passed descriptor would be closed with the inspecting socket, and might keep this waiting."""
    bound, taken = bind(path), []

    def pass_one(inspecting):
        bound.socket.setblocking(True)
        with bound.socket.accept()[0] as accepted:
            taken.append(pass_descriptors(accepted, b"x", [socket.socket()]))
        return peer_credentials(inspecting)

    monkeypatch.setattr("confcom.daemon.socket_path.peer_credentials", pass_one)
    assert inspect_socket(path).state is PathState.LIVE
    assert taken == [False]


def test_patience_waits_for_a_place_in_a_full_backlog(path, bind):
    bound = bind(path, backlog=0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(path))
        assert inspect_socket(path).state is PathState.LIVE
        assert inspect_socket(path, patience=0.01) == PathInspection(PathState.LIVE)
        found = []
        looking = threading.Thread(target=lambda: found.append(inspect_socket(path, patience=30)))
        looking.start()
        bound.socket.setblocking(True)
        bound.socket.accept()[0].close()
        looking.join()
    assert found[0].holder is not None


def test_a_signal_while_waiting_for_a_place_changes_nothing(path, bind):
    bind(path, backlog=0)
    main, done, before = threading.main_thread().ident, threading.Event(), signal.getsignal(signal.SIGUSR1)
    signals = []

    def disturb():
        while not done.wait(0.01):
            signal.pthread_kill(main, signal.SIGUSR1)

    disturbing = threading.Thread(target=disturb)
    signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
    try:
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(path))
            disturbing.start()
            assert inspect_socket(path, patience=0.5) == PathInspection(PathState.LIVE)
            assert signals
    finally:
        done.set()
        disturbing.join()
        signal.signal(signal.SIGUSR1, before)
