import base64
import json

import pytest

from confcom.kubernetes.objects import labels_of, node_of
from confcom.node_test.pod import TEST_LABEL
from confcom.sample_workload import DEFAULT_ENCLAVE_NAME
from confcom.sgx.report import report_data
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import RootSeed
from testkit import cluster_objects as make
from testkit.fake_cluster import FakeCluster

ROOT = RootSeed(bytes(32), make.CREATED_ROOT)


def ended(code=0):
    state = {"state": {"terminated": {"exitCode": code}}}
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [state]}


class Nodes:
    """The nodes' kubelets and the sample in test Pods; `troubles` maps nodes to a Pod's status, or to a log."""

    def __init__(self, cluster):
        self._cluster, self.troubles, self.most, self.seen, self.seed = cluster, {}, 0, {}, ROOT
        cluster.each = self.work

    def pods(self):
        return [one for one in self._cluster.api.find("Pod") if TEST_LABEL in labels_of(one)]

    def work(self):
        pods = self.pods()
        self.most = max(self.most, len(pods))
        for pod in pods:
            name, node = pod["metadata"]["name"], node_of(pod)
            self.seen[name] = pod
            trouble = self.troubles.get(node)
            if isinstance(trouble, dict):
                pod["status"] = trouble
            else:
                self._cluster.api.logs[name] = self._log(pod) if trouble is None else trouble
                pod["status"] = ended()

    def _log(self, pod):
        (container,) = pod["spec"]["containers"]
        if "--no-quote" in container.get("command", ()):
            return 'result: {"quote_ms": null}\n'
        challenge = bytes.fromhex(next(one["value"] for one in container["env"] if one["name"] == "CONFCOM_CHALLENGE"))
        quoting = SimulatedPlatform.of_root(self.seed, node_of(pod)).quoting_enclave()
        enclave = SimulatedEnclave.from_name(DEFAULT_ENCLAVE_NAME)
        quote, _ = quoting.quote(enclave.create_report(quoting.checker.target, report_data(challenge)), None)
        return f"quote: {base64.b64encode(quote).decode()}\nresult: {json.dumps({'quote_ms': 7.0})}\n"


@pytest.fixture
def cluster():
    made = FakeCluster([*make.installed("a", "b"), make.root_secret()])
    for one in made.api.find("DaemonSet", "confcom-quote-helper"):
        spec = one["spec"]["template"]["spec"]
        spec["volumes"] = [{"name": "simulated-root", "secret": {"secretName": "confcom-simulated-root"}}]
    return made


@pytest.fixture
def nodes(cluster):
    return Nodes(cluster)


@pytest.fixture
def run(cluster, nodes):
    def call(*arguments, exit_code=0):
        done = cluster.run("test", *arguments, "-o", "json")
        assert done.exit_code == exit_code, done.output
        return json.loads(done.stdout)

    return call
