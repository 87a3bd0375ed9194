import json
from datetime import UTC, datetime

import pytest

from confcom.addon.chart_objects import STAGING_LABEL
from confcom.sgx.pck.platform_page import CertifiedTcb, PlatformPage, SgxKind
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import RootSeed
from testkit import cluster_objects as make
from testkit.fake_cluster import FakeCluster

SINCE = datetime(2026, 11, 28, tzinfo=UTC)
PLATFORM = SimulatedPlatform.of_root(RootSeed(bytes(32), make.CREATED_ROOT))


class Pages(FakeCluster):
    """A cluster whose simulated nodes' helpers serve `/platform`."""

    def __init__(self, *names):
        super().__init__([*make.installed(*names), make.root_secret()])
        self.tcb = CertifiedTcb.of(PLATFORM.pki.pck.certificate)
        for name in names:
            self.serve(name, self.tcb)
        self.helper = self.api.find("DaemonSet", "confcom-quote-helper")[0]
        spec = self.helper["spec"]["template"]["spec"]
        spec["volumes"] = [{"name": "simulated-root", "secret": {"secretName": "confcom-simulated-root"}}]

    def serve(self, node, tcb, kind=SgxKind.SIMULATED):
        self.show(node, PlatformPage(kind, tcb, SINCE).to_json().decode())

    def show(self, node, page):
        self.api.pages[f"quote-helper-{node}", "platform"] = page

    def stage(self, staging):
        self.helper["metadata"]["labels"][STAGING_LABEL] = staging

    def hardware(self, *names):
        """Hardware nodes, whose helpers were asked for no quote yet."""
        part = make.daemon_set("quote-helper", make.HARDWARE, args=())
        part["metadata"]["name"] = "confcom-quote-helper-hardware"
        self.api.put(part)
        for name in names:
            self.api.put(make.node(name, make.HARDWARE))
            pod = make.daemon("quote-helper", name)
            pod["metadata"]["ownerReferences"][0]["name"] = "confcom-quote-helper-hardware"
            self.api.put(pod)
            self.show(name, PlatformPage(SgxKind.HARDWARE).to_json().decode())

    def judged(self, *arguments, exit_code=0):
        done = self.run("tcb", *arguments, "-o", "json")
        assert done.exit_code == exit_code, done.output
        found = json.loads(done.stdout)
        assert next(iter(found)) == "schema"
        return found


@pytest.fixture
def cluster():
    return Pages("a", "b")
