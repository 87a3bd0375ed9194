import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from confcom.relay.instance import AesmdInstance
from confcom.relay.restart_policy import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REQUEST_FILE,
    RestartPolicy,
    request_restart,
)

DOCS = Path(__file__).parents[2] / "docs"
ONE, TWO = AesmdInstance(1, 10**9), AesmdInstance(2, 10**9)


def test_one_pause_doubles_until_a_self_test_passes(clock):
    policy, pause = RestartPolicy(clock), FIRST_PAUSE_SECONDS
    assert policy.seconds_until_due() == 0
    for _ in range(8):
        policy.restart(ONE)
        assert policy.seconds_until_due() == pause
        clock.now += pause
        assert policy.seconds_until_due() == 0
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    assert pause == LONGEST_PAUSE_SECONDS
    policy.restart(ONE)
    policy.reset()
    assert policy.seconds_until_due() == FIRST_PAUSE_SECONDS


def test_a_restart_is_under_way_while_its_request_is_valid(clock):
    policy = RestartPolicy(clock)
    assert not policy.is_being_restarted(ONE)
    policy.restart(ONE)
    assert policy.is_being_restarted(ONE)
    assert not policy.is_being_restarted(TWO)
    clock.now += FIRST_PAUSE_SECONDS
    assert not policy.is_being_restarted(ONE)


def test_the_request_names_the_socket_of_the_one_that_must_end(aesmd, request_file):
    request_restart(aesmd.path, AesmdInstance.at(aesmd.path))
    shown = subprocess.run(["stat", "-c", "%i %Z", aesmd.path], capture_output=True, text=True, check=True).stdout
    assert request_file.read_text() == shown
    assert [path.name for path in sorted(aesmd.path.parent.iterdir())] == ["aesm.socket", REQUEST_FILE]


def test_a_planted_link_is_not_written_through(aesmd, short_dir):
    victim = short_dir / "victim"
    victim.write_text("kept")
    aesmd.path.with_name(f".{REQUEST_FILE}").symlink_to(victim)
    request_restart(aesmd.path, AesmdInstance.at(aesmd.path))
    assert victim.read_text() == "kept"


def test_the_probe_on_the_page_ends_the_named_one_and_no_other(aesmd, request_file):
    page = (DOCS / "reference" / "quote-helper.md").read_text().partition("    - |\n")[2].partition("```")[0]
    script = page.replace("/var/run/aesmd", str(aesmd.path.parent))

    def healthy():
        return subprocess.run(["sh", "-c", script], check=False).returncode == 0

    assert healthy()
    instance = AesmdInstance.at(aesmd.path)
    request_restart(aesmd.path, instance)
    assert not healthy()
    old = time.time() - 121
    os.utime(request_file, (old, old))
    assert healthy()
    request_file.write_text(f"{replace(instance, inode=instance.inode + 1)}\n")
    assert healthy()
