"""`confcom enable`, `status`, `update`, `rollback` and `disable` on the real cluster, as a person runs them there."""

import json
import re
import sys

import pytest

from confcom.errors import ExitCode
from e2e.add_on import DAEMONS, EPC, EPC_MIB, ROOT, SIMULATED_LABEL, SYSTEM, names
from e2e.cluster.addresses import NODE_NAME
from e2e.command_results import JSON, changes, codes_of, document_of
from e2e.images_workshop import CHART_REGISTRY
from e2e.waiting import until

FOUND_MIB = "168"
"""What the chart simulates, with what is set aside for quote helpers."""
UPDATE_SECONDS = 240.0
"""For one command that changes the daemons, and waits for them."""


def confcom(cluster, *arguments, code=ExitCode.OK):
    command = [sys.executable, "-m", "confcom", *arguments]
    done = cluster.run(command, check=False, timeout=UPDATE_SECONDS)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def pods(cluster, component):
    selector = f"--selector=app.kubernetes.io/component={component}"
    return cluster.kubectl_json("get", "pods", f"--namespace={SYSTEM}", selector)["items"]


@pytest.fixture
def enabled(bare):
    confcom(bare, "enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY)
    return bare


@pytest.mark.timeout(300, func_only=True)
def test_without_a_registry_nothing_is_changed(bare):
    done = confcom(bare, "enable", "--simulated-node", NODE_NAME, JSON, code=ExitCode.USAGE)
    assert "images-from-anywhere" in codes_of(done)
    assert "--set image.registry=REGISTRY" in done.stderr
    assert SIMULATED_LABEL not in bare.kubectl_json("get", "node", NODE_NAME)["metadata"]["labels"]
    assert not names(bare, "daemonsets", SYSTEM)
    assert not bare.helm("list", "--short", f"--namespace={SYSTEM}").stdout


@pytest.mark.timeout(300, func_only=True)
def test_too_little_memory_is_told_before_anything_is_changed(bare):
    little = ("--set", "quoteHelper.resources.limits.memory=16Mi")
    asked = ("enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY, *little, JSON)
    done = confcom(bare, *asked, code=ExitCode.USAGE)
    assert "memory-limit-too-small" in codes_of(done)
    assert "quoteHelper.resources.limits.memory" in done.stderr
    assert "128Mi" in done.stderr
    assert SIMULATED_LABEL not in bare.kubectl_json("get", "node", NODE_NAME)["metadata"]["labels"]
    assert not bare.helm("list", "--short", f"--namespace={SYSTEM}").stdout


@pytest.mark.timeout(300, func_only=True)
def test_enable_twice_and_status(bare):
    registry = ("--set", CHART_REGISTRY)
    done = confcom(bare, "enable", "--simulated", *registry, JSON, code=ExitCode.REFUSED)
    assert "no-nodes" in codes_of(done)
    assert f"{SIMULATED_LABEL}=true" in done.stderr
    assert not names(bare, "daemonsets", SYSTEM)

    first = json.loads(confcom(bare, "enable", "--simulated-node", NODE_NAME, *registry, "--output=json").stdout)
    assert (first["changed"], first["revision"]) == (True, 1)
    assert {(step["node"], step["step"]) for step in first["nodes"]} == {
        (NODE_NAME, "device plugin"),
        (NODE_NAME, "quote helper"),
        (NODE_NAME, "enclave memory"),
    }
    before = bare.kubectl_json("get", "pods", f"--namespace={SYSTEM}")["items"]
    again = json.loads(confcom(bare, "enable", "--simulated", "--output=json").stdout)
    assert (again["changed"], again["revision"]) == (False, 1)
    after = bare.kubectl_json("get", "pods", f"--namespace={SYSTEM}")["items"]
    assert {pod["metadata"]["uid"] for pod in after} == {pod["metadata"]["uid"] for pod in before}

    table = confcom(bare, "status").stdout
    (row,) = [line.split() for line in table.splitlines() if line.startswith(NODE_NAME)]
    counted = [FOUND_MIB, EPC_MIB, "0", EPC_MIB, "device", "(fits-devices)"]
    assert row == [NODE_NAME, "simulated", *counted, "ready", "0.1.0", "ready", "0.1.0", "yes"]

    document = json.loads(confcom(bare, "status", "--output=json").stdout)
    (node,) = document["nodes"]
    amount = int(EPC_MIB)
    accounting = node["epc"].pop("accounting")
    assert (accounting["kind"], accounting["choice"], accounting["held_back_mib"]) == ("device", "fits-devices", 0)
    has = dict.fromkeys(("offered_mib", "capacity_mib", "allocatable_mib", "free_mib"), amount)
    assert node["epc"] == {"resource": EPC, "found_mib": int(FOUND_MIB), "used_mib": 0, **has}
    assert node["provision_device"] == "yes"
    assert document["ok"] is True


@pytest.mark.timeout(300, func_only=True)
def test_kubectl_runs_it_as_its_plugin(enabled):
    def said(*program):
        return json.loads(enabled.run([*program, "status", "-o", "json"]).stdout)

    by_kubectl = said("kubectl", "confcom")
    assert by_kubectl == said("confcom")
    assert by_kubectl["ok"] is True
    assert [node["name"] for node in by_kubectl["nodes"]] == [NODE_NAME]


@pytest.mark.timeout(300, func_only=True)
def test_an_update_that_cannot_start_is_told_and_rolled_back(enabled):
    (serving,) = pods(enabled, "device-plugin")
    done = confcom(
        enabled,
        "update",
        *("--set", "devicePlugin.image.tag=not-there"),
        *("--set", "devicePlugin.image.pullPolicy=Never"),
        JSON,
        code=ExitCode.NOT_READY,
    )
    assert codes_of(done) >= {"daemons-not-ready"}
    assert "ErrImageNeverPull" in done.stderr
    assert serving["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in pods(enabled, "device-plugin")}
    seen = document_of(confcom(enabled, "status", JSON, code=ExitCode.NOT_READY))
    assert seen["update_in_progress"] is True
    assert [node["epc"]["allocatable_mib"] for node in seen["nodes"]] == [int(EPC_MIB)]

    assert changes(confcom(enabled, "rollback", JSON))
    (left,) = pods(enabled, "device-plugin")
    assert left["metadata"]["uid"] == serving["metadata"]["uid"]
    confcom(enabled, "status")


@pytest.mark.timeout(300, func_only=True)
def test_an_update_replaces_the_daemons_and_rollback_brings_back_what_was(enabled):
    (before,) = pods(enabled, "quote-helper")
    assert changes(confcom(enabled, "update", "--set", "logLevel=debug", JSON))
    (after,) = pods(enabled, "quote-helper")
    assert "--log-level=debug" in after["spec"]["containers"][0]["args"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    confcom(enabled, "rollback")
    (back,) = pods(enabled, "quote-helper")
    assert back["spec"]["containers"][0]["args"] == before["spec"]["containers"][0]["args"]


@pytest.mark.timeout(300, func_only=True)
def test_a_rollback_that_would_take_the_daemons_away_is_refused(enabled):
    key, new = SIMULATED_LABEL.replace(".", r"\."), "example.com/sgx"
    enabled.kubectl("label", "node", NODE_NAME, f"{new}=yes")
    try:
        confcom(
            enabled,
            "update",
            *("--set", f"simulated.nodeSelector.{key}=null"),
            *("--set-string", r"simulated.nodeSelector.example\.com/sgx=yes"),
        )
        enabled.kubectl("label", "node", NODE_NAME, f"{SIMULATED_LABEL}-")
        serving = {pod["metadata"]["uid"] for one in DAEMONS for pod in pods(enabled, one)}
        done = confcom(enabled, "rollback", JSON, code=ExitCode.REFUSED)
        assert "nodes-lose-daemons" in codes_of(done)
        label = f"kubectl label node {NODE_NAME} {SIMULATED_LABEL}=true"
        assert label in done.stderr
        assert serving == {pod["metadata"]["uid"] for one in DAEMONS for pod in pods(enabled, one)}
        enabled.run(label.split())
        assert changes(confcom(enabled, "rollback", JSON))
        confcom(enabled, "status")
    finally:
        enabled.kubectl("label", "node", NODE_NAME, f"{new}-")


@pytest.mark.timeout(300, func_only=True)
def test_status_says_what_is_wrong_while_the_api_server_is_away_and_when_a_daemon_is_gone(enabled):
    enabled.stop("apiserver")
    try:
        done = confcom(enabled, "status", JSON, code=ExitCode.UNAVAILABLE)
    finally:
        enabled.start("apiserver")
    assert codes_of(done) == {"cluster-request-failed"}
    until(enabled.ready, "the API server is back")

    enabled.kubectl("delete", "daemonset", "confcom-quote-helper", f"--namespace={SYSTEM}", "--cascade=foreground")
    selector = "--selector=app.kubernetes.io/component=quote-helper"
    enabled.kubectl("wait", "--for=delete", "pods", selector, f"--namespace={SYSTEM}", "--timeout=60s")
    done = confcom(enabled, "status", JSON, code=ExitCode.NOT_READY)
    assert codes_of(done) == {"object-missing"}
    (node,) = document_of(done)["nodes"]
    assert (node["quote_helper"], node["provision_device"]) == ([], "no helper")
    confcom(enabled, "update", "--set", "logLevel=info")


@pytest.mark.timeout(300, func_only=True)
def test_a_namespace_that_refuses_the_daemons_is_told_before_anything_is_changed(bare):
    namespace = "confcom-strict"
    bare.kubectl("create", "namespace", namespace)
    try:
        level = "pod-security.kubernetes.io/enforce=baseline"
        bare.kubectl("label", "namespace", namespace, level)
        arguments = ["enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY, f"--namespace={namespace}", JSON]
        done = confcom(bare, *arguments, code=ExitCode.REFUSED)
        assert "pod-security-too-strict" in codes_of(done)
        assert SIMULATED_LABEL not in bare.kubectl_json("get", "node", NODE_NAME)["metadata"]["labels"]
        assert not bare.helm("list", "--short", f"--namespace={namespace}").stdout
    finally:
        bare.kubectl("delete", "namespace", namespace)


@pytest.mark.timeout(300, func_only=True)
def test_the_documented_roles_are_enough_to_look(enabled, tmp_path):
    page = (ROOT / "docs" / "how-to" / "let-people-look.md").read_text()
    plain, record = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    document = json.loads(enabled.kubectl("config", "view", "--raw", "--flatten", "--output=json").stdout)
    document["users"][0]["user"] |= {"as": "somebody", "as-groups": ["confcom-viewers"]}
    mine = tmp_path / "somebody.json"
    mine.write_text(json.dumps(document))
    status = ["env", f"KUBECONFIG={mine}", sys.executable, "-m", "confcom", "status", "--output=json"]
    assert enabled.run(status, check=False).returncode == ExitCode.UNAVAILABLE
    try:
        enabled.kubectl("apply", "--filename=-", input=plain)
        seen = json.loads(enabled.run(status).stdout)
        assert seen["ok"] is True
        assert "secrets is forbidden" in " ".join(seen["not_compared"])
        enabled.kubectl("apply", "--filename=-", input=record)
        assert json.loads(enabled.run(status).stdout)["not_compared"] == []
    finally:
        for manifests in (plain, record):
            enabled.kubectl("delete", "--filename=-", "--ignore-not-found", input=manifests)


@pytest.mark.timeout(300, func_only=True)
def test_who_may_only_look_is_told_which_permissions_are_missing(bare, tmp_path):
    bare.kubectl("create", "clusterrolebinding", "case-viewer", "--clusterrole=view", "--user=eve")
    try:
        config = bare.kubectl("config", "view", "--raw", "--flatten", "--output=json").stdout
        document = json.loads(config)
        document["users"][0]["user"]["as"] = "eve"
        mine = tmp_path / "eve.json"
        mine.write_text(json.dumps(document))
        command = ["env", f"KUBECONFIG={mine}", sys.executable, "-m", "confcom", "enable", "--simulated"]
        done = bare.run(command, check=False)
        assert done.returncode != ExitCode.OK
        assert "create daemonsets.apps in confcom-system" in done.stderr
        assert "list secrets in confcom-system" in done.stderr
        assert not names(bare, "daemonsets", SYSTEM)
    finally:
        bare.kubectl("delete", "clusterrolebinding", "case-viewer")


@pytest.mark.timeout(300, func_only=True)
def test_a_controller_that_cannot_start_is_told_long_before_the_deadline(enabled):
    broken = ("--set", "controller.image.repository=confcom/none", "--timeout", "3600", JSON)
    done = confcom(enabled, "update", *broken, code=ExitCode.NOT_READY)
    assert codes_of(done) == {"controller-not-ready"}
    assert "confcom/none" in document_of(done)["error"]["why"]
    seen = confcom(enabled, "status", JSON, code=ExitCode.NOT_READY)
    assert codes_of(seen) == {"controller-not-ready"}
    (problem,) = document_of(seen)["problems"]
    assert "another one serves meanwhile" in problem
    confcom(enabled, "rollback")
    confcom(enabled, "status")
