"""Every Pod of a node asks for the largest answers, reads none of them and sleeps, while the helper restarts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.memory import limited_memory
from confcom.errors import UnavailableError
from testkit import sleeping_pods
from testkit.helper_process import start_helper
from testkit.sleeping_pods import Victim

PODS = 110
"""A kubelet's default."""
CONNECTIONS = 30
"""Of each Pod, in each life of the helper."""
MIB = 1 << 20
CONTAINER = 256 * MIB
RESTARTS, QUOTES = 10, 1000
LONGEST_SECONDS = 12.0


@pytest.fixture
def memory():
    """A control group that outlives the helper, as a Pod's does its container."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for Pods that are users and for a control group")
    try:
        with limited_memory(f"confcom-test-{os.getpid()}", CONTAINER) as group:
            yield group
    except (OSError, UnavailableError) as error:
        pytest.skip(f"no control group of memory can be made: {error}")


@pytest.fixture
def start(short_dir, memory):
    """Start a helper in the control group, as the chart does; each is ended afterwards."""
    short_dir.chmod(0o755)
    started = []

    def start_one():
        arguments = ("--memory-limit-mib", str(CONTAINER // MIB))
        helper = start_helper(*arguments, directory=short_dir, path=short_dir / "aesm.socket", inside=memory.command)
        started.append(helper.process)
        return helper

    yield start_one
    for process in started:
        process.kill()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pods_that_sleep_through_restarts_harm_no_other(start, memory, record_property):
    """No connection of theirs is ever closed by them, so what the kernel holds for it stays in the control group."""
    helper = start().wait_ready()
    restarts = []
    script = [sys.executable, sleeping_pods.__file__, str(helper.socket), str(PODS), str(CONNECTIONS)]
    with (
        subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as pods,
        Victim(helper.socket) as victim,
    ):
        for life in range(RESTARTS + 1):
            pods.stdin.write("burst\n")
            pods.stdin.flush()
            made = int(pods.stdout.readline())
            before = len(victim.quotes)
            wanted = QUOTES // (RESTARTS + 1) + 1
            deadline = time.monotonic() + 60
            while len(victim.quotes) < before + wanted and time.monotonic() < deadline:
                assert helper.process.poll() is None, f"life {life}: ended with {helper.process.returncode}"
                time.sleep(0.05)
            usage = [path.read_text() for path in memory._named("memory.usage_in_bytes", "memory.current")]
            print(f"life {life}: {made} connections, {len(victim.quotes) - before} quotes ({victim.failure}), memory {int(usage[0]) / MIB:.0f} MiB, highest {memory.highest / MIB:.0f}, killed {memory.killed}", flush=True)
            assert len(victim.quotes) >= before + wanted, f"life {life}: {victim.failure}"
            if life < RESTARTS:
                began = time.monotonic()
                helper.process.send_signal(signal.SIGKILL)
                helper.process.wait(30)
                helper = start().wait_ready()
                restarts.append((began, time.monotonic()))
        pods.stdin.close()
        pods.kill()
    beside = [one for one in victim.quotes if one.overlaps(restarts)]
    others = [one for one in victim.quotes if not one.overlaps(restarts)]
    print(f"{len(victim.quotes)} quotes; p99 {sleeping_pods.p99(others) * 1e3:.1f} ms, longest {max(o.ended - o.began for o in others) * 1e3:.0f} ms; beside a restart {len(beside)}, longest {max(o.ended - o.began for o in beside):.2f} s")
    assert memory.killed == 0
    assert {one.attempts for one in others} == {1}
    assert max(one.ended - one.began for one in beside) <= LONGEST_SECONDS
