"""`confcom enable`, `status`, `update` and `rollback` on the real cluster, run as a person runs them."""

import json
import re

import pytest

from confcom.errors import ExitCode
from e2e.add_on import EPC, EPC_MIB, HELPER, HERE, PLUGIN, SIMULATED_LABEL, SYSTEM, daemons
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import JSON, changes, codes_of, confcom, document_of, status_of
from e2e.images import CHART_REGISTRY, reference
from e2e.waiting import until

FOUND_MIB = "168"
"""MiB of EPC that the chart simulates, including the part that is set aside for quote helpers."""
ENABLE = ("enable", "--simulated-node", NODE_NAME)
REGISTRY = ("--set", CHART_REGISTRY)
HELPERS = f"daemonset/confcom-{HELPER}"
OTHER = reference("sample-workload")
"""Another image, from which no helper starts; the old Pods stay until the next change."""
POLICY = "validatingadmissionpolicybinding/confcom-pods"
WEAKER = json.dumps({"spec": {"validationActions": ["Warn"]}})
EDITS = (
    (("set", "image", HELPERS, f"{HELPER}={OTHER}"), "object-changed", OTHER),
    (("patch", POLICY, "--type=merge", f"--patch={WEAKER}"), "object-changed", "validationActions"),
    (("delete", POLICY), "object-missing", "confcom-pods"),
    (("delete", HELPERS), "object-missing", f"confcom-{HELPER}"),
)
"""Changes that kubectl makes, each with the code and a word with which `status` reports the change."""

pytestmark = pytest.mark.timeout(600, func_only=True)


def test_missing_permissions_are_named_before_a_change(bare):
    bare.kubectl("create", "namespace", SYSTEM, check=False)
    bare.kubectl("create", "clusterrolebinding", "case-viewer", "--clusterrole=view", "--user=eve")
    try:
        done = confcom(bare, "enable", "--simulated", "--as=eve", JSON, code=ExitCode.UNAVAILABLE)
        plan = confcom(bare, "enable", "--simulated", "--dry-run", "--as=eve", code=ExitCode.UNAVAILABLE)
    finally:
        bare.kubectl("delete", "clusterrolebinding", "case-viewer")
    assert codes_of(done) == {"forbidden"}
    assert '"leases"' in document_of(done)["error"]["why"]
    for permission in ("create daemonsets.apps", "list secrets", "create leases.coordination.k8s.io"):
        assert f"{permission} in {SYSTEM}" in plan.stderr
    assert SIMULATED_LABEL not in bare.kubectl_json("get", "node", NODE_NAME)["metadata"]["labels"]
    assert not bare.helm("list", "--short", "--all-namespaces").stdout


def test_enable_twice_and_status(bare):
    first = document_of(confcom(bare, *ENABLE, *REGISTRY, JSON))
    assert (first["changed"], first["revision"]) == (True, 1)
    assert first["cluster"] == status_of(bare)["cluster"]
    before = bare.kubectl_json("get", "pods", HERE)["items"]
    again = document_of(confcom(bare, "enable", "--simulated", JSON))
    assert (again["changed"], again["revision"]) == (False, 1)
    after = bare.kubectl_json("get", "pods", HERE)["items"]
    assert {pod["metadata"]["uid"] for pod in after} == {pod["metadata"]["uid"] for pod in before}

    status = confcom(bare, "status", "--wait")
    context, server = (first["cluster"][key] for key in ("context", "server"))
    assert status.stderr.splitlines()[0] == f"cluster: {context} ({server})"
    table = status.stdout
    (row,) = [line.split() for line in table.splitlines() if line.startswith(NODE_NAME)]
    counted = [FOUND_MIB, EPC_MIB, "0", EPC_MIB, "device", "(fits-devices)"]
    assert row == [NODE_NAME, "simulated", *counted, "ready", "0.1.0", "ready", "0.1.0"]

    document = status_of(bare)
    (node,) = document["nodes"]
    amount = int(EPC_MIB)
    accounting = node["epc"].pop("accounting")
    assert (accounting["kind"], accounting["choice"], accounting["held_back_mib"]) == ("device", "fits-devices", 0)
    has = dict.fromkeys(("offered_mib", "capacity_mib", "allocatable_mib", "free_mib"), amount)
    assert node["epc"] == {"resource": EPC, "found_mib": int(FOUND_MIB), "used_mib": 0, **has}
    assert document["ok"] is True


def test_kubectl_runs_it_as_its_plugin(installed):
    by_kubectl = json.loads(installed.run(["kubectl", "confcom", "status", JSON]).stdout)
    assert by_kubectl == status_of(installed)
    assert by_kubectl["ok"] is True
    assert [node["name"] for node in by_kubectl["nodes"]] == [NODE_NAME]


def test_update_and_rollback_replace_the_daemons(installed):
    (before,) = daemons(installed, HELPER)
    assert changes(confcom(installed, "update", "--set", "logLevel=debug", JSON))
    (after,) = daemons(installed, HELPER)
    assert "--log-level=debug" in after["spec"]["containers"][0]["args"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert changes(confcom(installed, "rollback", JSON))
    (back,) = daemons(installed, HELPER)
    assert back["spec"]["containers"][0]["args"] == before["spec"]["containers"][0]["args"]


@pytest.mark.parametrize(("component", "value"), [(PLUGIN, "devicePlugin"), ("controller", "controller")])
def test_an_update_that_cannot_start_is_rolled_back(installed, component, value):
    (serving,) = daemons(installed, component)
    broken = f"--set={value}.image.repository=confcom/not-there"
    # `confcom` must report the problem long before its deadline.
    done = confcom(installed, "update", broken, "--timeout=3600", JSON, code=ExitCode.NOT_READY)
    assert "daemons-not-ready" in codes_of(done)
    assert re.search("ErrImagePull|ImagePullBackOff", done.stderr)
    assert serving["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in daemons(installed, component)}
    seen = document_of(confcom(installed, "status", JSON, code=ExitCode.NOT_READY))
    assert [node["epc"]["allocatable_mib"] for node in seen["nodes"]] == [int(EPC_MIB)]

    assert changes(confcom(installed, "rollback", JSON))
    until(lambda: len(daemons(installed, component)) == 1, "the Pod that cannot start is gone")
    (left,) = daemons(installed, component)
    assert left["metadata"]["uid"] == serving["metadata"]["uid"]
    confcom(installed, "status")


def test_hand_edits_are_named_and_set_back(installed):
    for edit, code, named in EDITS:
        installed.kubectl(*edit, HERE)
        seen = document_of(confcom(installed, "status", JSON, code=ExitCode.NOT_READY))
        assert any(one["code"] == code and named in one["problem"] for one in seen["problem_details"]), seen
        assert changes(confcom(installed, "enable", JSON))
        confcom(installed, "status")
    # Annotations of other managers are kept, also the annotation with which kubectl restarts Pods.
    installed.kubectl("rollout", "restart", HERE, HELPERS)
    installed.kubectl("rollout", "status", HERE, HELPERS)
    assert not changes(confcom(installed, "enable", JSON))
    confcom(installed, "status")
