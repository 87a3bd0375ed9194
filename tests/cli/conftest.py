import pytest
from click.testing import CliRunner
from fake_cluster import objects as make
from fake_cluster.cluster import FakeCluster

from confcom.cli.add_on_options import Machine
from confcom.cli.group import cli


@pytest.fixture
def cluster():
    """Two nodes, one of which is to simulate."""
    return FakeCluster(objects=[make.node("a", make.SIMULATED), make.node("b")])


@pytest.fixture
def confcom(cluster):
    """The command on that cluster; the terminal is a pipe, and time passes only while it waits."""

    def call(*arguments, **more):
        machine = Machine(cluster.run, cluster.clock, cluster.sleep, terminal=False)
        return CliRunner().invoke(cli, list(map(str, arguments)), obj=machine, catch_exceptions=False, **more)

    return call
