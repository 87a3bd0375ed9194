"""Runs the commands in docs/how-to/enable-the-add-on.md in the page's order on a cluster in memory.

The program `python tests/cli/test_docs_enable.py` writes the output of the commands into the page.
"""

import json
import re
import shlex

from testkit import cluster_objects as make
from testkit.cluster_objects import EPC, SYSTEM
from testkit.documentation import ROOT
from testkit.fake_chart import new_cluster
from testkit.fake_helm import golden_manifests
from testkit.working_daemons import settle

PAGE = ROOT / "docs" / "how-to" / "enable-the-add-on.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
REPEATED = re.compile(r"((?:  ok       \S.*\n){3,}|(?:  \.\.  \d+ s of .*\n){3,})")
"""Checks without problem, and seconds of waiting: the page shows `...` in their place, but the first time."""
WRONG = "registry.test/confcom/quote-helper:0.3.0"
"""An image of the quote helper that makes wrong quotes."""
BROKEN = {WRONG: make.not_ready("quote-helper")}
FIRST_REPORT_SECONDS = 5.0
"""Seconds until the kubelet shows a new resource; this is also the pause after each command."""
COMPLAINT = {
    "level": "warning",
    "message": "not ready",
    "about": "readiness",
    "reason": "no verifier accepts the quote of the self-test, because the attestation key did not sign it; report "
    "this bug with the log",
}


def cluster_of(*objects):
    """A cluster whose controllers and kubelets act only while a command waits."""
    made = new_cluster(*objects)
    made.context, made.server = "lab", "https://lab.test:6443"
    made.helm.ready = False

    def work():
        known = [one["metadata"]["name"] for one in made.api.find("Node") if EPC in one["status"]["capacity"]]
        settle(made.api, BROKEN)
        for node in made.api.find("Node"):
            if node["metadata"]["name"] not in known and made.time < FIRST_REPORT_SECONDS:
                for part in ("capacity", "allocatable"):
                    node["status"][part].pop(EPC, None)
        for pod in made.api.find("Pod", None, SYSTEM):
            if pod["spec"]["containers"][0]["image"] == WRONG:
                made.api.logs[pod["metadata"]["name"]] = json.dumps(COMPLAINT)

    made.each = work
    return made


def enforce_baseline(cluster):
    """Let the API server refuse the daemons' Pods with the message of Pod Security admission."""
    for daemon in golden_manifests("simulated", "strict"):
        if daemon["kind"] == "DaemonSet":
            name, spec = f"{daemon['metadata']['name']}-preflight", daemon["spec"]["template"]["spec"]
            volumes = [f'"{one["name"]}"' for one in spec["volumes"] if "hostPath" in one]
            volumes = f"hostPath volumes (volume{'s' * (len(volumes) > 1)} {', '.join(volumes)})"
            found = ", ".join(["host namespaces (hostPID=true)"] * spec.get("hostPID", False) + [volumes])
            message = f'pods "{name}" is forbidden: violates PodSecurity "baseline:latest": {found}'
            cluster.api.refuse(lambda request, name=name: name.encode() in request.content, 403, message)


class Story:
    """Runs all commands of the page on one cluster, as a reader does."""

    def __init__(self):
        self.cluster = cluster_of(make.node("worker-1"), make.node("worker-2"))
        labels = {"pod-security.kubernetes.io/enforce": "baseline"}
        self.shown = False
        self.strict = {"kind": "Namespace", "metadata": {"name": "strict", "labels": labels}}

    def run(self, line):
        program, *arguments = shlex.split(line)
        assert program == "confcom"
        if arguments[0] == "disable":
            self.cluster.api.put(make.pod("sgx-test-x7b", on="worker-1", owner=("Job", "sgx-test"), limits={EPC: 10}))
        cluster = self.cluster
        if "worker-3" in arguments:  # the page shows this command for a cluster without the add-on
            cluster = cluster_of(make.node("worker-3"))
        if "strict" in arguments:
            cluster = cluster_of(make.node("worker-1", make.SIMULATED), make.node("worker-2"), self.strict)
            enforce_baseline(cluster)
        output = cluster.run(*arguments).output
        cluster.sleep(FIRST_REPORT_SECONDS)
        return output

    def block(self, text):
        commands = [line for line in text.splitlines() if line.startswith("$ ")]
        told = "".join(f"{line}\n{self.run(line.removeprefix('$ '))}" for line in commands)
        shown, self.shown = self.shown, True
        return REPEATED.sub("  ...\n", told) if shown else told


def retold():
    story = Story()
    return BLOCK.sub(lambda match: f"```console\n{story.block(match[1])}```", PAGE.read_text())


def test_every_command_prints_what_the_page_says():
    assert retold() == PAGE.read_text()


if __name__ == "__main__":
    PAGE.write_text(retold())
