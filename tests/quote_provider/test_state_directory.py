import os
import stat
from pathlib import Path

import pytest

from confcom.errors import ConfcomError, ExitCode, UnavailableError
from confcom.quote_provider.state_directory import ROOT_FOLDER, exposure, open_or_create_platform, open_platform
from confcom.simulation.root_seed import CHECK, CREATED, SEED, RootSeedError
from testkit.expected_errors import raises


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(directory):
    return [path.name for path in directory.iterdir()]


def contents(state):
    return {path.name: path.read_bytes() for path in (state / ROOT_FOLDER).iterdir()}


@pytest.fixture
def state(tmp_path, clock):
    open_or_create_platform(tmp_path / "state", clock=clock)
    return tmp_path / "state"


def test_created_once_then_found_by_nobody_else(tmp_path, clock):
    state = tmp_path / "missing" / "state"
    before = os.umask(0)
    try:
        first = open_or_create_platform(state, clock=clock)
    finally:
        os.umask(before)
    stored = contents(state)
    second = open_or_create_platform(state, clock=clock)
    assert (first.created, second.created) == (True, False)
    assert first.platform == second.platform == open_platform(state)
    assert contents(state) == stored
    assert (mode(state), mode(state / ROOT_FOLDER)) == (0o700, 0o700)
    assert {mode(file) for file in (state / ROOT_FOLDER).iterdir()} == {0o600}
    assert names(state) == [ROOT_FOLDER]


def test_the_second_of_two_takes_the_first_ones_platform(tmp_path, clock):
    """A deterministic race, in which another process writes between this process's check and write."""
    others = []

    def draw_while_another_creates(size):
        others.append(open_or_create_platform(tmp_path, clock=clock))
        return bytes(size)

    ours = open_or_create_platform(tmp_path, clock=clock, random_bytes=draw_while_another_creates)
    assert (others[0].created, ours.created) == (True, False)
    assert ours.platform == others[0].platform
    assert names(tmp_path) == [ROOT_FOLDER]


def test_a_mounted_secret_works_read_only_and_by_links(tmp_path, clock, state):
    """In a Secret's volume, each key is a link into ..data, which is a link to a dated directory."""
    mounted = tmp_path / "mounted" / ROOT_FOLDER
    dated = mounted / "..2026_11_24"
    dated.mkdir(parents=True)
    (mounted / "..data").symlink_to(dated.name)
    for name, value in contents(state).items():
        (dated / name).write_bytes(value)
        (dated / name).chmod(0o444)
        (mounted / name).symlink_to(f"..data/{name}")
    for folder in (dated, mounted, mounted.parent):
        folder.chmod(0o555)
    try:
        stored = open_or_create_platform(mounted.parent, clock=clock)
        assert (stored.created, stored.platform) == (False, open_platform(state))
    finally:
        for folder in (mounted.parent, mounted, dated):
            folder.chmod(0o755)


@pytest.mark.parametrize(
    ("directory", "folder", "file", "advice"),
    [
        (0o700, 0o700, 0o600, None),
        *((0o700, 0o700, bits, f"chmod 600 {{}}/{ROOT_FOLDER}/{SEED}") for bits in (0o640, 0o604, 0o620, 0o601)),
        (0o755, 0o755, 0o600, None),
        (0o775, 0o700, 0o600, "chmod 700 {}"),
        (0o703, 0o700, 0o600, "chmod 700 {}"),
        (0o755, 0o722, 0o600, f"chmod 700 {{}}/{ROOT_FOLDER}"),
    ],
)
def test_what_others_can_get_at_is_named(state, directory, folder, file, advice):
    (state / ROOT_FOLDER / SEED).chmod(file)
    (state / ROOT_FOLDER).chmod(folder)
    state.chmod(directory)
    warning = exposure(state)
    assert (warning is None) == (advice is None)
    if warning:
        assert warning.endswith(advice.format(state))


def test_modes_that_show_nothing(tmp_path, state, monkeypatch):
    tmp_path.chmod(0o777)
    assert exposure(tmp_path) is None  # the directory has no platform
    (state / ROOT_FOLDER / SEED).chmod(0o644)
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


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def endless(file):
    with file.open("wb") as opened:
        opened.truncate(100 << 30)


def replace_by_fifo(file):
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("damage", [cut, endless, Path.unlink, replace_by_fifo])
@pytest.mark.parametrize("name", [SEED, CREATED, CHECK])
def test_a_damaged_root_is_an_error_and_stays_as_it_is(state, name, damage):
    damage(state / ROOT_FOLDER / name)
    before = {file.name: file.stat().st_size for file in (state / ROOT_FOLDER).iterdir()}
    for use in (open_platform, open_or_create_platform):
        with raises("simulated-root-unusable", RootSeedError) as caught:
            use(state)
        assert caught.value.exit_code is ExitCode.UNUSABLE
    assert {file.name: file.stat().st_size for file in (state / ROOT_FOLDER).iterdir()} == before


@pytest.mark.parametrize(
    ("make", "code"),
    [
        pytest.param(Path.mkdir, "simulated-root-unusable", id="empty folder"),
        pytest.param(Path.touch, "state-directory-unusable", id="file"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "simulated-root-unusable", id="link to nothing"),
        pytest.param(lambda path: path.symlink_to(path), "state-directory-unusable", id="link to itself"),
    ],
)
def test_another_thing_in_its_place_is_an_error(tmp_path, make, code):
    make(tmp_path / ROOT_FOLDER)
    for use in (open_platform, open_or_create_platform):
        with raises(code, ConfcomError, "why"):
            use(tmp_path)
    assert names(tmp_path) == [ROOT_FOLDER]


def test_a_directory_that_cannot_be_made_or_written(tmp_path):
    """In /proc no user can make files, not even root."""
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file" / "state", Path("/proc/self")):
        with raises("state-directory-unusable", UnavailableError, "why", "remedy", naming=str(directory)):
            open_or_create_platform(directory)


def test_what_a_killed_process_left_does_not_disturb(tmp_path, clock):
    (tmp_path / f".{ROOT_FOLDER}.leftover").mkdir()
    assert open_or_create_platform(tmp_path, clock=clock).created
    assert open_platform(tmp_path)


def test_a_root_that_appears_between_two_reads_is_found(tmp_path, clock, monkeypatch):
    """Another process writes the root after this process has looked for the seed and not found it."""
    real, missed = os.open, []

    def late(path, *more, **options):
        if str(path).endswith(SEED) and not missed:
            missed.append(path)
            open_or_create_platform(tmp_path / "other", clock=clock)
            (tmp_path / "other" / ROOT_FOLDER).rename(tmp_path / ROOT_FOLDER)
            raise FileNotFoundError
        return real(path, *more, **options)

    monkeypatch.setattr(os, "open", late)
    assert not open_or_create_platform(tmp_path, clock=clock).created
