import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.errors import ConfcomError, ExitCode, UnavailableError
from confcom.quote_provider.state_directory import STATE_FILE, exposure, open_or_create_platform, open_platform
from confcom.simulation.platform import MAX_STATE_SIZE, PlatformStateError, SimulatedPlatform
from testkit.programs import run_python
from testkit.raised import raises


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_created_once_then_found(tmp_path, clock):
    state_dir = tmp_path / "missing" / "state"
    first = open_or_create_platform(state_dir, clock=clock)
    stored = (state_dir / STATE_FILE).read_bytes()
    second = open_or_create_platform(state_dir, clock=clock)

    assert (first.created, second.created) == (True, False)
    assert first.platform == second.platform == open_platform(state_dir)
    assert (state_dir / STATE_FILE).read_bytes() == stored


def test_nothing_is_readable_for_others_and_nothing_is_left_over(tmp_path, clock):
    state_dir = tmp_path / "state"
    before = os.umask(0)
    try:
        open_or_create_platform(state_dir, clock=clock)
    finally:
        os.umask(before)
    assert mode(state_dir) == 0o700
    assert mode(state_dir / STATE_FILE) == 0o600
    assert names(state_dir) == [STATE_FILE]
    assert (state_dir / STATE_FILE).stat().st_nlink == 1


def test_clock_and_randomness_are_the_callers(tmp_path, clock, now, random_bytes):
    first = open_or_create_platform(tmp_path / "first", clock=clock, random_bytes=random_bytes).platform
    second = open_or_create_platform(tmp_path / "second", clock=clock, random_bytes=random_bytes).platform
    assert first == second == SimulatedPlatform.create(random_bytes(32), now)


def test_without_injection_every_platform_is_another(tmp_path):
    first = open_or_create_platform(tmp_path / "first").platform
    second = open_or_create_platform(tmp_path / "second").platform
    assert first.root_fingerprint != second.root_fingerprint


def test_whoever_comes_second_takes_the_first_ones_platform(tmp_path, clock):
    """Deterministic race: another process finishes between our look and our write."""
    others = []

    def draw_while_another_creates(size: int) -> bytes:
        others.append(open_or_create_platform(tmp_path, clock=clock))
        return bytes(size)

    ours = open_or_create_platform(tmp_path, clock=clock, random_bytes=draw_while_another_creates)
    assert others[0].created
    assert not ours.created
    assert ours.platform == others[0].platform
    assert names(tmp_path) == [STATE_FILE]


def test_processes_that_start_at_once_end_with_one_root(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from confcom.quote_provider.state_directory import open_or_create_platform\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "stored = open_or_create_platform(Path(sys.argv[1]))\n"
        "print(stored.created, stored.platform.root_fingerprint)\n"
    )
    state_dir = tmp_path / "state"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(state_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate()[0].split() for process in processes]

    assert [process.returncode for process in processes] == [0] * 4
    assert [created for created, _ in results].count("True") == 1
    assert {fingerprint for _, fingerprint in results} == {open_platform(state_dir).root_fingerprint}
    assert names(state_dir) == [STATE_FILE]


def test_mounted_secret_works_read_only_and_through_links(tmp_path, clock):
    """A Secret's volume: ..data points to a dated directory, and each key is a link into ..data."""
    made = open_or_create_platform(tmp_path / "made", clock=clock).platform
    dated = tmp_path / "mounted" / "..2026_11_24"
    dated.mkdir(parents=True)
    (dated / STATE_FILE).write_bytes((tmp_path / "made" / STATE_FILE).read_bytes())
    (dated / STATE_FILE).chmod(0o444)
    (tmp_path / "mounted" / "..data").symlink_to(dated.name)
    (tmp_path / "mounted" / STATE_FILE).symlink_to(f"..data/{STATE_FILE}")
    dated.chmod(0o555)
    (tmp_path / "mounted").chmod(0o555)
    try:
        stored = open_or_create_platform(tmp_path / "mounted", clock=clock)
        assert not stored.created
        assert stored.platform == made
    finally:
        (tmp_path / "mounted").chmod(0o755)
        dated.chmod(0o755)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601])
def test_a_platform_that_others_can_get_at_is_told(tmp_path, clock, bits):
    open_or_create_platform(tmp_path / "state", clock=clock)
    assert exposure(tmp_path / "state") is None
    (tmp_path / "state" / STATE_FILE).chmod(bits)
    assert f" {bits:04o}" in exposure(tmp_path / "state")
    assert f"chmod 600 {tmp_path}/state/{STATE_FILE}" in exposure(tmp_path / "state")


@pytest.mark.parametrize(("bits", "told"), [(0o755, False), (0o775, True), (0o703, True)])
def test_a_directory_in_which_others_can_write_is_told(tmp_path, clock, bits, told):
    open_or_create_platform(tmp_path / "state", clock=clock)
    (tmp_path / "state").chmod(bits)
    warning = exposure(tmp_path / "state")
    assert (warning is not None) == told
    if told:
        assert f" {bits:04o}" in warning
        assert f"chmod 700 {tmp_path}/state" in warning


def test_modes_on_a_read_only_file_system_say_nothing(tmp_path, clock, monkeypatch):
    open_or_create_platform(tmp_path, clock=clock)
    (tmp_path / STATE_FILE).chmod(0o644)
    real = os.statvfs(tmp_path)
    read_only = os.statvfs_result((*real[:8], real.f_flag | os.ST_RDONLY, *real[9:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: read_only)
    assert exposure(tmp_path) is None


def test_nothing_is_told_where_no_platform_is(tmp_path):
    tmp_path.chmod(0o777)
    assert exposure(tmp_path) is None


def test_opening_never_creates(tmp_path):
    with raises("no-simulated-platform", UnavailableError, "why") as caught:
        open_platform(tmp_path / "state")
    assert "confcom simulation create" in caught.value.remedy
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    assert names(tmp_path) == []


@pytest.mark.parametrize("kept", [0, 1, 100, -2])
def test_a_cut_file_is_an_error_and_stays_as_it_is(tmp_path, clock, kept):
    open_or_create_platform(tmp_path, clock=clock)
    file = tmp_path / STATE_FILE
    cut = file.read_bytes()[:kept]
    file.write_bytes(cut)
    for use in (open_platform, open_or_create_platform):
        with pytest.raises(PlatformStateError) as caught:
            use(tmp_path)
        assert caught.value.exit_code is ExitCode.UNUSABLE
    assert file.read_bytes() == cut


def test_an_endless_file_is_not_read_to_its_end(tmp_path):
    with (tmp_path / STATE_FILE).open("wb") as file:
        file.truncate(100 * MAX_STATE_SIZE)
    with raises("platform-unusable", PlatformStateError) as caught:
        open_platform(tmp_path)
    assert caught.value.__cause__.error_code == "too-long"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (Path.mkdir, "not-a-regular-file"),
        (os.mkfifo, "not-a-regular-file"),
        (lambda path: path.symlink_to("nowhere"), "dangling-link"),
    ],
    ids=["directory", "fifo", "link to nothing"],
)
def test_something_else_in_its_place_is_an_error_and_never_a_wait(tmp_path, make, code):
    path = tmp_path / STATE_FILE
    make(path)
    for use in (open_platform, open_or_create_platform):
        with raises(code, ConfcomError, "why", "remedy") as caught:
            use(tmp_path)
        assert str(path) in caught.value.what
    assert names(tmp_path) == [STATE_FILE]


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for use in (open_platform, open_or_create_platform):
        with raises("state-directory-unusable", UnavailableError, "why", "remedy") as caught:
            use(tmp_path / "file" / "state")
        assert isinstance(caught.value.__cause__, NotADirectoryError)


def test_a_directory_that_cannot_be_written_is_an_error():
    """/proc refuses new files to everyone, root included."""
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc, where nobody can make files")
    with raises("state-directory-unusable", UnavailableError) as caught:
        open_or_create_platform(Path("/proc/self"))
    assert "/proc/self" in caught.value.what


def test_a_file_that_may_not_be_read_is_an_error(tmp_path, clock):
    """In a process of its own, which gives up root if it has it: root reads every file."""
    open_or_create_platform(tmp_path, clock=clock)
    (tmp_path / STATE_FILE).chmod(0)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from confcom.errors import UnavailableError\n"
        "from confcom.quote_provider.state_directory import open_or_create_platform\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: open_or_create_platform(Path(sys.argv[1]))\n"
        "except UnavailableError as error: print(error.error_code, type(error.__cause__).__name__)\n"
    )
    result = run_python("-c", program, tmp_path)
    assert result.stdout.split() == ["state-directory-unusable", "PermissionError"]


def test_what_a_killed_process_left_does_not_disturb(tmp_path, clock):
    (tmp_path / f".{STATE_FILE}.leftover").write_text("half a platform")
    assert open_or_create_platform(tmp_path, clock=clock).created
    assert open_platform(tmp_path)
