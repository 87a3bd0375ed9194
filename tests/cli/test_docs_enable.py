"""The commands in docs/how-to/enable-the-add-on.md, run in their order on a cluster in memory.

As a program (python tests/cli/test_docs_enable.py) it writes into the page what they print.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from testkit.cli_output import run_confcom
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import chart_of_1_36
from testkit.fake_cluster.cluster import FakeCluster
from testkit.fake_cluster.objects import EPC

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "enable-the-add-on.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
WRONG, MISSING = "registry.test/confcom/quote-helper:0.3.0", "registry.test/confcom/quote-helper:0.4.0"
"""Images of the helper: one whose quotes are wrong, and one that no registry has."""
COMPLAINT = {
    "level": "warning",
    "message": "not ready",
    "about": "readiness",
    "reason": "the quote of the self-test is wrong, because it carries another report; report this with the log",
}


def complain(cluster):
    for pod in cluster.find("Pod"):
        if pod["spec"]["containers"][0]["image"] == WRONG:
            cluster.logs[pod["metadata"]["name"]] = json.dumps(COMPLAINT)


def cluster_of(*objects):
    return FakeCluster(objects=list(objects), chart=chart_of_1_36)


class Story:
    """One cluster for the whole page, as its reader has it."""

    def __init__(self):
        self.cluster = cluster_of(make.node("worker-1"), make.node("worker-2"))
        labels = {"pod-security.kubernetes.io/enforce": "baseline"}
        self.cluster.objects.append({"kind": "Namespace", "metadata": {"name": "strict", "labels": labels}})
        self.cluster.broken_images[WRONG] = make.not_ready("quote-helper")
        self.cluster.broken_images[MISSING] = make.waiting("ImagePullBackOff", f'Back-off pulling image "{MISSING}"')
        self.cluster.on_tick = complain

    def run(self, line):
        program, *arguments = shlex.split(line)
        assert program == "confcom"
        if arguments[0] == "disable":
            self.cluster.objects.append(
                make.pod("sgx-test-x7b", on="worker-1", owner=("Job", "sgx-test"), limits={EPC: 10})
            )
        cluster = self.cluster
        if "worker-3" in arguments:  # of a cluster where nothing is enabled yet
            cluster = cluster_of(make.node("worker-3"))
        if "strict" in arguments:
            nodes = [make.node("worker-1", make.SIMULATED), make.node("worker-2")]
            cluster = cluster_of(*nodes, *self.cluster.find("Namespace"))
        return run_confcom(cluster, arguments).output

    def block(self, text):
        commands = [line for line in text.splitlines() if line.startswith("$ ")]
        return "".join(f"{line}\n{self.run(line.removeprefix('$ '))}" for line in commands)


def retold():
    story = Story()
    return BLOCK.sub(lambda match: f"```console\n{story.block(match[1])}```", PAGE.read_text())


def test_every_command_prints_what_the_page_says():
    assert retold() == PAGE.read_text()


def test_the_reference_has_every_commands_help():
    script = ROOT / "scripts" / "cli_reference.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    PAGE.write_text(retold())
