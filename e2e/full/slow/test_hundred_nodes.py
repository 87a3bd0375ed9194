"""Updates of a hundred nodes, which kwok reports, on the real API server and controllers: none stands still."""

import contextlib
import shutil
import sys
import time

import pytest

from e2e.add_on import ROOT, SYSTEM, is_ready, uninstall
from e2e.cluster import tools
from e2e.faked_nodes import TOLERATIONS, faked_nodes, offer
from e2e.images_workshop import CHART_REGISTRY

NODES = 100
UPDATES = 3
COMMAND_SECONDS = 1500.0
"""For one update: a faked node takes two to four seconds, one after the other."""
WAIT_SECONDS = 30
"""minReadySeconds of a chart that has it: long enough to begin an update within it."""
STOOD_STILL = (
    "The update of the DaemonSet confcom-device-plugin stalled with every Pod ready: "
    "confcom triggered its reconciliation"
)


@pytest.fixture(scope="module")
def kwok():
    return tools.build(tools.KWOK) / "kwok"


@pytest.fixture
def faked(bare, kwok, tmp_path):
    """Adds so many nodes, which have the add-on's daemons and go with them."""
    count = 0

    def add(number):
        nonlocal count
        count = number
        return running.enter_context(faked_nodes(bare, kwok, number, tmp_path))

    with contextlib.ExitStack() as running:
        yield add
        if count:
            uninstall(bare)  # while there is somebody to end the pods


@pytest.fixture
def confcom(cluster):
    """Runs the command, which must succeed; returns what it told on the way."""

    def typed(*arguments):
        done = cluster.run([sys.executable, "-m", "confcom", *arguments], check=False, timeout=COMMAND_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr

    return typed


def enable(cluster, confcom, names, *options):
    chosen = ("--simulated", f"--set={CHART_REGISTRY}", *options, *(f"--set={one}" for one in TOLERATIONS))
    confcom("enable", *chosen, "--no-wait")
    offer(cluster, names)
    confcom("enable", *chosen)


def plugins(cluster):
    chosen = "--selector=app.kubernetes.io/component=device-plugin"
    return cluster.kubectl_json("get", "pods", f"--namespace={SYSTEM}", chosen)["items"]


def level_of(pod):
    return next(word for word in pod["spec"]["containers"][0]["args"] if word.startswith("--log-level="))


@pytest.mark.timeout((UPDATES + 1) * COMMAND_SECONDS, func_only=True)
def test_a_hundred_nodes_are_updated_three_times(cluster, faked, confcom, tell):
    names = faked(NODES)
    enable(cluster, confcom, names)
    for number in range(UPDATES):
        level, began = ("debug", "info")[number % 2], time.monotonic()
        told = confcom("update", "--set", f"logLevel={level}")
        tell(f"update {number + 1} of {NODES} nodes: {time.monotonic() - began:.0f} s")
        assert STOOD_STILL not in told
        pods = plugins(cluster)
        assert sorted(pod["spec"]["nodeName"] for pod in pods) == sorted(names)
        assert {level_of(pod) for pod in pods} == {f"--log-level={level}"}
        assert all(map(is_ready, pods))


@pytest.fixture
def waiting_chart(tmp_path):
    """The chart with minReadySeconds, as it had once."""
    chart = tmp_path / "chart"
    shutil.copytree(ROOT / "charts" / "confcom", chart)
    template = chart / "templates" / "device-plugin.yaml"
    strategy = "  updateStrategy:"
    text = template.read_text()
    assert text.count(strategy) == 1
    template.write_text(text.replace(strategy, f"  minReadySeconds: {WAIT_SECONDS}\n{strategy}"))
    return chart


@pytest.mark.timeout(COMMAND_SECONDS, func_only=True)
def test_an_update_that_the_controller_leaves_is_reconciled_again(cluster, faked, confcom, waiting_chart, tell):
    names = faked(3)
    chart = f"--chart={waiting_chart}"
    enable(cluster, confcom, names, chart)
    # A pod that was not ready for a moment sets the DaemonSet's only timer, and the update's pods come before it ends.
    (blinking,) = [pod for pod in plugins(cluster) if pod["spec"]["nodeName"] == names[-1]]
    patch = '{"status": {"conditions": [{"type": "Ready", "status": "False"}]}}'
    where = (blinking["metadata"]["name"], f"--namespace={SYSTEM}")
    cluster.kubectl("patch", "pod", *where, "--subresource=status", f"--patch={patch}")
    cluster.kubectl("wait", "pod", *where, "--for=condition=Ready")
    time.sleep(2)  # a condition's time has whole seconds
    began = time.monotonic()
    told = confcom("update", chart, "--set", "logLevel=debug")
    tell(f"3 nodes: {time.monotonic() - began:.0f} s")
    assert STOOD_STILL in told
    assert {level_of(pod) for pod in plugins(cluster)} == {"--log-level=debug"}
    cluster.run([sys.executable, "-m", "confcom", "status"])  # fails if anything is wrong
