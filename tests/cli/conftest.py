import json

import pytest

from confcom.errors import ExitCode
from testkit import cluster_objects as make
from testkit.fake_chart import REGISTRY, new_cluster


class Confcom:
    """Runs commands on a cluster in memory. Output goes to a pipe, and `enable` gets the test registry."""

    def __init__(self, cluster):
        self._cluster = cluster

    def __call__(self, *arguments, registry=REGISTRY, **more):
        named = ["--set", f"image.registry={registry}"] if arguments[0] == "enable" and registry else []
        return self._cluster.run(*arguments, *named, **more)

    def ok(self, *arguments, **more):
        done = self(*arguments, **more)
        assert done.exit_code == ExitCode.OK, done.output
        return done

    def document(self, *arguments, exit_code=ExitCode.OK, **more):
        done = self(*arguments, "-o", "json", **more)
        assert done.exit_code == exit_code, done.output
        return json.loads(done.stdout)

    def error(self, exit_code, code, *arguments, **more):
        error = self.document(*arguments, exit_code=exit_code, **more)["error"]
        assert (error["exit_code"], error["code"]) == (exit_code, code)
        return error


@pytest.fixture
def cluster():
    """A cluster without the add-on, where node `a` is for simulation, and node `b` has no SGX."""
    return new_cluster(make.node("a", make.SIMULATED), make.node("b"))


@pytest.fixture
def confcom(cluster):
    return Confcom(cluster)


@pytest.fixture
def enabled(confcom, cluster):
    confcom.ok("enable", "--simulated")
    return cluster
