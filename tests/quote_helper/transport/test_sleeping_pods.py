"""While the helper restarts, all Pods of a node request the largest answers, read no answer, and sleep."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testkit import sleeping_pods
from testkit.memory_group import limited_memory
from testkit.sleeping_pods import Victim, p99

PODS = 110
"""Most Pods on a node by the kubelet's default."""
CONNECTIONS = 20
"""Connections that each Pod makes to each helper; their answers exceed the Pod's part of the memory."""
MIB = 1 << 20
CONTAINER = 256 * MIB
RESTARTS, QUOTES = 10, 1000
WAIT_SECONDS = 60.0
LONGEST_SECONDS = 12.0
"""Longest time for a quote during a restart; a request waits as long for the provider."""


@pytest.fixture
def memory():
    """A control group that outlives the helper, as a Pod's control group outlives a container."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for Pods that are users and for a control group")
    try:
        with limited_memory(f"confcom-test-{os.getpid()}", CONTAINER) as group:
            yield group
    except OSError as error:
        pytest.skip(f"no control group of memory can be made: {error}")


@pytest.fixture
def start(start_helper, short_dir, memory):
    """Starts a helper in the control group, which has the chart's memory limit."""
    short_dir.chmod(0o755)
    limit = ("--memory-limit-mib", str(CONTAINER // MIB))
    return lambda: start_helper(*limit, wrapper=memory.command(()), alterations=None).wait_ready()


@pytest.fixture
def sleeping(short_dir):
    """Starts Pods, and returns a function that makes all Pods send a burst. The fixture kills the Pods."""
    started = []

    def start_them(path):
        command = [sys.executable, sleeping_pods.__file__, str(path), str(PODS), str(CONNECTIONS)]
        pods = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        started.append(pods)

        def burst():
            pods.stdin.write("burst\n")
            pods.stdin.flush()
            return int(pods.stdout.readline())

        return burst

    yield start_them
    for pods in started:
        with pods:
            pods.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pods_that_sleep_through_restarts_harm_no_other(start, sleeping, memory):
    """The kernel's memory for a sleeping Pod's answers stays in the control group after the helper's end."""
    helper = start()
    burst = sleeping(helper.socket)
    restarts = []
    with Victim(helper.socket) as victim:
        for life in range(RESTARTS + 1):
            if life:
                began = time.monotonic()
                helper.process.kill()
                helper.process.wait(WAIT_SECONDS)
                helper = start()
                restarts.append((began, time.monotonic()))
            assert burst() == PODS * CONNECTIONS
            wanted = len(victim.quotes) + QUOTES // (RESTARTS + 1) + 1
            deadline = time.monotonic() + WAIT_SECONDS
            while len(victim.quotes) < wanted:
                assert helper.process.poll() is None, f"life {life}: the helper ended with {helper.process.returncode}"
                assert time.monotonic() < deadline, f"life {life}: no quotes; the last attempt: {victim.failure}"
                time.sleep(0.02)
    beside = [quote for quote in victim.quotes if quote.overlaps(restarts)]
    others = [quote for quote in victim.quotes if not quote.overlaps(restarts)]
    sys.stdout.write(
        f"{len(others)} quotes: p99 {p99(others) * 1e3:.1f} ms; {len(beside)} beside restarts: longest "
        f"{max(quote.seconds for quote in beside):.2f} s; memory at most {memory.highest // MIB} MiB\n"
    )
    assert memory.killed == 0
    assert {quote.attempts for quote in others} == {1}
    assert max(quote.seconds for quote in beside) <= LONGEST_SECONDS
