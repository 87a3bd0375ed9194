import json

import pytest
from click.testing import CliRunner

from confcom.cli.add_on_options import Machine
from confcom.cli.group import cli
from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import FakeCluster
from testkit.fake_cluster.objects import SYSTEM

REGISTRY = "registry.test"


@pytest.fixture
def cluster():
    """Two nodes, one of which is to simulate."""
    return FakeCluster(objects=[make.node("a", make.SIMULATED), make.node("b")])


@pytest.fixture
def confcom(cluster):
    """The command on that cluster; the terminal is a pipe, and time passes only while it waits.

    Who enables with it names the registry, unless it is told another one, or none.
    """

    def call(*arguments, registry=REGISTRY, **more):
        if arguments[:1] == ("enable",) and registry:
            arguments = (*arguments, "--set", f"image.registry={registry}")
        machine = Machine(cluster.run, cluster.clock, cluster.sleep, terminal=False)
        return CliRunner().invoke(cli, list(map(str, arguments)), obj=machine, catch_exceptions=False, **more)

    return call


@pytest.fixture
def refused(confcom, cluster):
    """Enables, expects that exactly one check fails and nothing is changed, and gives the check's finding."""

    def call(*arguments, check, code, exit_code=ExitCode.REFUSED, registry=REGISTRY):
        done = confcom("enable", *arguments, "-o", "json", registry=registry)
        assert done.exit_code == exit_code, done.output
        document = json.loads(done.stdout)
        assert document["error"]["code"] == "preflight-failed"
        assert not cluster.revisions
        assert not cluster.find("DaemonSet", namespace=SYSTEM)
        failed = [one for one in document["findings"] if one["outcome"] == "failed"]
        assert [(one["check"], one["code"]) for one in failed] == [(check, code)]
        assert failed[0]["why"] or failed[0]["do"]
        return failed[0]

    return call
