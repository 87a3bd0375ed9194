import json
from types import SimpleNamespace

import click
import pytest

from confcom.errors import ExitCode
from testkit.cli_output import findings_of, run_confcom
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import WITH_AESMD
from testkit.fake_cluster.cluster import FakeCluster
from testkit.fake_cluster.objects import SYSTEM

REGISTRY = "registry.test"


class Confcom:
    """The command on a cluster in memory; the terminal is a pipe, and time passes only while it waits.

    Who enables with it names the registry, unless it is told another one, or none.
    """

    def __init__(self, cluster):
        self._cluster = cluster

    def __call__(self, *arguments, registry=REGISTRY, **more):
        if arguments[:1] == ("enable",) and registry:
            arguments = (*arguments, "--set", f"image.registry={registry}")
        return run_confcom(self._cluster, arguments, **more)

    def ok(self, *arguments, **more):
        """Expect that it succeeds."""
        done = self(*arguments, **more)
        assert done.exit_code == ExitCode.OK, done.output
        return done

    def document(self, *arguments, exit_code=ExitCode.OK, **more):
        """Return what it prints with `-o json`."""
        done = self(*arguments, "-o", "json", **more)
        assert done.exit_code == exit_code, done.output
        return json.loads(done.stdout)

    def error(self, exit_code, code, *arguments, **more):
        """Expect that it ends with this error, and return it."""
        error = self.document(*arguments, exit_code=exit_code, **more)["error"]
        assert (error["exit_code"], error["code"]) == (exit_code, code)
        return error

    def findings(self, *arguments, **more):
        """Return outcome and code of each check."""
        document = self.document(*arguments, **more)
        assert document.get("error", {"code": "preflight-failed"})["code"] == "preflight-failed"
        return findings_of(document)

    def unwell(self):
        """Return what status prints of a cluster where something is wrong."""
        return self.document("status", exit_code=ExitCode.NOT_READY)

    def problems(self):
        """Return the problems that status reports, which are some; each is told as text too."""
        document = self.unwell()
        assert len(document["problems"]) == len(document["problem_details"])
        return document["problem_details"]

    def problem(self, code, node=""):
        """Return the text of the only problem that status reports, with the node if it is of one."""
        (problem,) = self.problems()
        assert (problem["code"], problem["node"]) == (code, node)
        return problem["problem"]

    def doubt(self, code, node=""):
        """Return the text of the only thing that status does not compare; nothing else is wrong."""
        (doubt,) = self.document("status")["not_compared_details"]
        assert (doubt["code"], doubt["node"]) == (code, node)
        return doubt["problem"]


@pytest.fixture
def cluster():
    """Two nodes, one of which is to simulate."""
    return FakeCluster(objects=[make.node("a", make.SIMULATED), make.node("b")])


@pytest.fixture
def confcom(cluster):
    return Confcom(cluster)


@pytest.fixture
def enabled(confcom, cluster):
    confcom.ok("enable", "--simulated")
    return cluster


@pytest.fixture
def on_hardware(confcom, cluster):
    """One node with SGX hardware, whose quote helper relays to aesmd."""
    cluster.objects = [one for one in cluster.objects if one["kind"] != "Node"] + [make.node("m", make.HARDWARE)]
    confcom.ok("enable", *WITH_AESMD)
    return cluster


@pytest.fixture
def asked(enabled, monkeypatch):
    """Has `disable` ask a person, since there is a workload; this answers."""

    def by(answer):
        enabled.objects.append(make.pod("user", on="a", limits={make.EPC: 10}))
        terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("confcom.cli.commands.add_on.disable.sys", terminal)
        monkeypatch.setattr(click, "confirm", lambda *_, **__: answer())

    return by


@pytest.fixture
def refused(confcom, cluster):
    """Enables, expects that exactly one check fails, with these parts, and nothing is changed; gives its finding."""

    def call(*arguments, check, code, exit_code=ExitCode.REFUSED, registry=REGISTRY, **parts):
        document = confcom.document("enable", *arguments, exit_code=exit_code, registry=registry)
        assert document["error"]["code"] == "preflight-failed"
        assert not cluster.revisions
        assert not cluster.find("DaemonSet", namespace=SYSTEM)
        failed = [one for one in document["findings"] if one["outcome"] == "failed"]
        assert [(one["check"], one["code"]) for one in failed] == [(check, code)]
        assert failed[0]["why"] or failed[0]["do"]
        assert [part for part, text in parts.items() if text not in failed[0][part]] == []
        return failed[0]

    return call
