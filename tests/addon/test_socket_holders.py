"""Who perhaps serves the AESM socket in the quote helper's place, as `status` names it."""

from datetime import UTC, datetime

import pytest

from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.status import add_on_status
from confcom.quote_helper.takeover.takeover_policy import Foreign, Instance, decide
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import HARDWARE, SYSTEM

ME = Instance(started_ms=1, token=1)
NOBODY = "no Pod of this node mounts its directory to write there"


def reason(*, replace_foreign=False, sight="another program serves there"):
    """As the helper says it."""
    return decide(Foreign(sight), me=ME, can_quote=False, replace_foreign=replace_foreign).reason


def mounting(name, path="/var/run/aesmd", *, on="a", read_only=False, status=None, labels=()):
    pod = make.pod(name, namespace="sgx", on=on, status=status, labels=dict(labels))
    pod["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": path}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/x", "readOnly": read_only}]
    return pod


def told(*pods, said=None):
    """What is said of the node's quote helper."""
    helper = make.pod("h", namespace=SYSTEM, on="a", labels=make.labels("quote-helper"), status=make.not_ready())
    plugin = make.pod("d", namespace=SYSTEM, on="a", labels=make.labels("device-plugin"))
    seen = Snapshot(
        SYSTEM,
        nodes=(make.node("a", HARDWARE), make.node("b", HARDWARE)),
        pods=(helper, plugin, *pods),
        said={"h": said or reason()},
    )
    found = add_on_status(seen, datetime.now(UTC))
    return next(problem for node in found.nodes for problem in node.problems if "quote helper h" in problem)


@pytest.mark.parametrize("path", ["/var/run/aesmd", "/var/run/aesmd/", "/run/aesmd", "/var/run", "/run", "/var", "/"])
def test_a_pod_that_may_make_a_socket_there_is_named(path):
    problem = told(mounting("aesmd-x7", path))
    assert problem.endswith(
        f"it says: {reason()}: perhaps the Pod sgx/aesmd-x7, which mounts its directory to write there"
    )


@pytest.mark.parametrize(
    "said",
    [reason(sight="a program of uid 7 serves there under a quote helper's name"), reason(replace_foreign=True)],
)
def test_whatever_the_helper_knows_of_the_foreign_socket(said):
    assert "perhaps the Pod sgx/aesmd-x7" in told(mounting("aesmd-x7"), said=said)


@pytest.mark.parametrize(
    "pod",
    [
        mounting("client", read_only=True),
        mounting("client", "/var/run/aesmd/aesm.socket"),
        mounting("other", "/var/run/docker"),
        mounting("elsewhere", on="b"),
        mounting("ended", status={"phase": "Succeeded"}),
        mounting("ours", labels=make.labels("quote-helper")),
        make.pod("plain", on="a"),
    ],
    ids=lambda pod: pod["metadata"]["name"],
)
def test_who_cannot_have_made_it_is_not_named(pod):
    problem = told(pod)
    assert NOBODY in problem
    assert "perhaps a program of the node itself serves it" in problem
    assert pod["metadata"]["name"] not in problem.partition(NOBODY)[2]


def test_several_are_named_and_many_are_counted():
    assert "perhaps the Pods sgx/p0, sgx/p1, which mount its" in told(mounting("p0"), mounting("p1"))
    assert "sgx/p3, sgx/p4 and 2 more" in told(*(mounting(f"p{number}") for number in range(7)))


def test_who_is_named_after_the_service_comes_first():
    by_image = mounting("x")
    by_image["spec"]["containers"][0]["image"] = "registry.test/sgx-aesmd:2"
    pods = (mounting("client"), mounting("aesmd-x7"), by_image)
    assert "perhaps the Pods sgx/aesmd-x7, sgx/x, sgx/client, which" in told(*pods)


def test_a_helper_that_waits_for_something_else_accuses_nobody():
    problem = told(mounting("aesmd-x7"), said="a newer quote helper serves")
    assert "aesmd-x7" not in problem
    assert NOBODY not in problem
