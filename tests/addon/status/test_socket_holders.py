"""Who perhaps serves the AESM socket in the quote helper's place, as `status` names it."""

import ast
import inspect
import json
import re
from datetime import UTC, datetime

import pytest

from confcom.addon.daemons.daemon_log import own_reason
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.socket_holders import FOREIGN_SOCKET_CODES
from confcom.addon.status.status import add_on_status
from confcom.daemon.readiness_log import ABOUT, READINESS
from confcom.quote_helper.takeover import socket_inspection
from confcom.quote_helper.takeover.takeover_policy import Foreign, Instance, LiveHelper, decide
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import HARDWARE, SYSTEM

ME = Instance(started_ms=1, token=1)
FOREIGN = Foreign("another program serves there")


def logged(state=FOREIGN, *, replace_foreign=False):
    """What is taken from the log of a helper that sees this at the path."""
    decision = decide(state, me=ME, can_quote=False, replace_foreign=replace_foreign)
    line = {"message": "not ready", ABOUT: READINESS, "reason": decision.reason, "code": decision.code}
    return own_reason(json.dumps(line))


def mounting(name, path="/var/run/aesmd", *, on="a", read_only=False, status=None, namespace="sgx", labels=()):
    pod = make.pod(name, namespace=namespace, on=on, status=status, labels=dict(labels))
    pod["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": path}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/x", "readOnly": read_only}]
    return pod


def told(*pods, said=None):
    """The problem with the node's quote helper."""
    helper = make.pod("h", namespace=SYSTEM, on="a", labels=make.labels("quote-helper"), status=make.not_ready())
    plugin = make.pod("d", namespace=SYSTEM, on="a", labels=make.labels("device-plugin"))
    seen = Snapshot(
        SYSTEM,
        nodes=(make.node("a", HARDWARE), make.node("b", HARDWARE)),
        pods=(helper, plugin, *pods),
        said={"h": said or logged()},
    )
    found = add_on_status(seen, datetime.now(UTC))
    (problem,) = [
        one for node in found.nodes for one in node.problems if one.code in {"foreign-socket", "daemon-not-ready"}
    ]
    return problem


def named(problem):
    """The Pods that a problem with another program's socket names, in their order."""
    assert problem.code == "foreign-socket"
    return re.findall(r"\bsgx/[a-z0-9-]+", problem.text)


@pytest.mark.parametrize("path", ["/var/run/aesmd/", "/run/aesmd", "/var/run", "/"])
def test_a_pod_that_may_make_a_socket_there_is_named(path):
    assert named(told(mounting("aesmd-x7", path))) == ["sgx/aesmd-x7"]


def codes_of_foreign_sockets():
    """The codes that the helper's source gives to another program's socket."""
    calls = [one for one in ast.walk(ast.parse(inspect.getsource(socket_inspection))) if isinstance(one, ast.Call)]
    foreign = [one for one in calls if getattr(one.func, "id", "") == "Foreign"]
    return {keyword.value.value for one in foreign for keyword in one.keywords if keyword.arg == "code"}


def test_the_helpers_codes_of_a_foreign_socket_are_known():
    assert codes_of_foreign_sockets() == FOREIGN_SOCKET_CODES


@pytest.mark.parametrize("replace_foreign", [False, True])
def test_the_log_of_a_helper_is_understood(replace_foreign):
    said = logged(replace_foreign=replace_foreign)
    assert named(told(mounting("aesmd-x7"), said=said)) == ["sgx/aesmd-x7"]


@pytest.mark.parametrize(
    "pod",
    [
        mounting("client", read_only=True),
        mounting("client", "/var/run/aesmd/aesm.socket"),
        mounting("other", "/var/run/docker"),
        mounting("elsewhere", on="b"),
        mounting("ended", status={"phase": "Succeeded"}),
        mounting("ours", namespace=SYSTEM, labels=make.labels("quote-helper")),
        make.pod("plain", on="a"),
    ],
    ids=lambda pod: pod["metadata"]["name"],
)
def test_who_cannot_have_made_it_is_not_named(pod):
    assert named(told(pod)) == []


def test_a_tenants_pod_with_our_labels_is_named():
    assert named(told(mounting("sly", labels=make.labels("quote-helper")))) == ["sgx/sly"]


def test_several_are_named_and_many_are_counted():
    assert named(told(mounting("p0"), mounting("p1"))) == ["sgx/p0", "sgx/p1"]
    many = told(*(mounting(f"p{number}") for number in range(7)))
    assert named(many) == [f"sgx/p{number}" for number in range(5)]
    assert "2 more" in many.text


def test_who_is_named_after_the_service_comes_first():
    by_image = mounting("x")
    by_image["spec"]["containers"][0]["image"] = "registry.test/sgx-aesmd:2"
    pods = (mounting("client"), mounting("aesmd-x7"), by_image)
    assert named(told(*pods)) == ["sgx/aesmd-x7", "sgx/x", "sgx/client"]


def test_a_helper_that_waits_for_something_else_accuses_nobody():
    said = logged(LiveHelper(Instance(started_ms=2, token=2)))
    problem = told(mounting("aesmd-x7"), said=said)
    assert problem.code == "daemon-not-ready"
    assert "aesmd-x7" not in problem.text
