import os
import stat
from pathlib import Path

import pytest

from confcom.errors import ConfcomError, ExitCode, UnavailableError
from confcom.quote_provider.state_directory import STATE_FILE, exposure, open_or_create_platform, open_platform
from confcom.simulation.platform import MAX_STATE_SIZE, PlatformStateError, SimulatedPlatform
from testkit.raised import raises
from testkit.users import as_user


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(directory):
    return [path.name for path in directory.iterdir()]


@pytest.fixture
def state(tmp_path, clock):
    """A directory with a platform."""
    open_or_create_platform(tmp_path / "state", clock=clock)
    return tmp_path / "state"


def test_created_once_then_found_by_nobody_else(tmp_path, clock):
    state = tmp_path / "missing" / "state"
    before = os.umask(0)
    try:
        first = open_or_create_platform(state, clock=clock)
    finally:
        os.umask(before)
    stored = (state / STATE_FILE).read_bytes()
    second = open_or_create_platform(state, clock=clock)
    assert (first.created, second.created) == (True, False)
    assert first.platform == second.platform == open_platform(state)
    assert (state / STATE_FILE).read_bytes() == stored
    assert (mode(state), mode(state / STATE_FILE)) == (0o700, 0o600)
    assert names(state) == [STATE_FILE]
    assert (state / STATE_FILE).stat().st_nlink == 1


def test_clock_and_randomness_are_the_callers(tmp_path, clock, now):
    def create(name, **random):
        return open_or_create_platform(tmp_path / name, clock=clock, **random).platform

    fixed = {"random_bytes": lambda size: bytes(range(size))}
    assert create("1", **fixed) == create("2", **fixed) == SimulatedPlatform.create(bytes(range(32)), now)
    assert create("3").root_fingerprint != create("4").root_fingerprint


def test_the_second_of_two_takes_the_first_ones_platform(tmp_path, clock):
    """Deterministic race: another process finishes between our look and our write."""
    others = []

    def draw_while_another_creates(size):
        others.append(open_or_create_platform(tmp_path, clock=clock))
        return bytes(size)

    ours = open_or_create_platform(tmp_path, clock=clock, random_bytes=draw_while_another_creates)
    assert (others[0].created, ours.created) == (True, False)
    assert ours.platform == others[0].platform
    assert names(tmp_path) == [STATE_FILE]


def test_a_mounted_secret_works_read_only_and_by_links(tmp_path, clock, state):
    """A Secret's volume: ..data points to a dated directory, and each key is a link into ..data."""
    dated = tmp_path / "mounted" / "..2026_11_24"
    dated.mkdir(parents=True)
    (dated / STATE_FILE).write_bytes((state / STATE_FILE).read_bytes())
    (dated / STATE_FILE).chmod(0o444)
    (tmp_path / "mounted" / "..data").symlink_to(dated.name)
    (tmp_path / "mounted" / STATE_FILE).symlink_to(f"..data/{STATE_FILE}")
    dated.chmod(0o555)
    (tmp_path / "mounted").chmod(0o555)
    try:
        stored = open_or_create_platform(tmp_path / "mounted", clock=clock)
        assert (stored.created, stored.platform) == (False, open_platform(state))
    finally:
        (tmp_path / "mounted").chmod(0o755)
        dated.chmod(0o755)


@pytest.mark.parametrize(
    ("directory", "file", "advice"),
    [
        (0o700, 0o600, None),
        *((0o700, bits, f"chmod 600 {{}}/{STATE_FILE}") for bits in (0o640, 0o604, 0o620, 0o601)),
        (0o755, 0o600, None),
        (0o775, 0o600, "chmod 700 {}"),
        (0o703, 0o600, "chmod 700 {}"),
    ],
)
def test_what_others_can_get_at_is_named(state, directory, file, advice):
    (state / STATE_FILE).chmod(file)
    state.chmod(directory)
    warning = exposure(state)
    assert (warning is None) == (advice is None)
    if warning:
        assert f" {(file if file != 0o600 else directory):04o}" in warning
        assert advice.format(state) in warning


def test_modes_that_show_nothing(tmp_path, state, monkeypatch):
    tmp_path.chmod(0o777)
    assert exposure(tmp_path) is None  # there is no platform
    (state / STATE_FILE).chmod(0o644)
    real = os.statvfs(state)
    read_only = os.statvfs_result((*real[:8], real.f_flag | os.ST_RDONLY, *real[9:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: read_only)
    assert exposure(state) is None


def test_opening_never_creates(tmp_path):
    with raises("no-simulated-platform", UnavailableError, "why") as caught:
        open_platform(tmp_path / "state")
    assert "confcom simulation create" in caught.value.remedy
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    assert names(tmp_path) == []


@pytest.mark.parametrize("kept", [0, 1, 100, -2])
def test_a_cut_file_is_an_error_and_stays_as_it_is(state, kept):
    file = state / STATE_FILE
    cut = file.read_bytes()[:kept]
    file.write_bytes(cut)
    for use in (open_platform, open_or_create_platform):
        with pytest.raises(PlatformStateError) as caught:
            use(state)
        assert caught.value.exit_code is ExitCode.UNUSABLE
    assert file.read_bytes() == cut


def endless(path):
    with path.open("wb") as file:
        file.truncate(100 * MAX_STATE_SIZE)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        pytest.param(endless, "platform-unusable", id="endless"),
        pytest.param(Path.mkdir, "not-a-regular-file", id="directory"),
        pytest.param(os.mkfifo, "not-a-regular-file", id="fifo"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "dangling-link", id="link to nothing"),
        pytest.param(lambda path: path.symlink_to(path), "state-directory-unusable", id="link to itself"),
    ],
)
def test_another_thing_in_its_place_is_an_error_never_a_wait(tmp_path, make, code):
    make(tmp_path / STATE_FILE)
    for use in (open_platform, open_or_create_platform):
        with raises(code, ConfcomError, "why"):
            use(tmp_path)
    assert names(tmp_path) == [STATE_FILE]


def test_a_directory_that_cannot_be_made_or_written(tmp_path):
    """/proc refuses new files to everyone, root included."""
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file" / "state", Path("/proc/self")):
        with raises("state-directory-unusable", UnavailableError, "why", "remedy", naming=str(directory)):
            open_or_create_platform(directory)


def test_a_file_that_may_not_be_read_is_an_error(tmp_path):
    tmp_path.chmod(0o755)
    tmp_path.joinpath(STATE_FILE).touch(0)
    with as_user(), raises("state-directory-unusable", UnavailableError) as caught:
        open_or_create_platform(tmp_path)
    assert isinstance(caught.value.__cause__, PermissionError)


def test_what_a_killed_process_left_does_not_disturb(tmp_path, clock):
    (tmp_path / f".{STATE_FILE}.leftover").write_text("half a platform")
    assert open_or_create_platform(tmp_path, clock=clock).created
    assert open_platform(tmp_path)
