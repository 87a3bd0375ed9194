"""The add-on's commands with helm 3, which their check of the versions lets pass."""

import json
import sys

import pytest
from e2e.hand_edits import EDITS, HELPER, HERE, add_to_template, set_image, undo_rollout

from confcom.errors import ExitCode
from e2e.add_on import EPC_MIB, SYSTEM, allocatable, names
from e2e.cluster import tools
from e2e.cluster.addresses import NODE_NAME
from e2e.images_workshop import CHART_REGISTRY

COMMAND_SECONDS = 240.0
"""For one command that changes the daemons, and waits for them."""


@pytest.fixture
def helm_3(bare):
    """The folder with helm 3."""
    folder = tools.built(tools.HELM_3)
    if folder is None:
        pytest.skip('helm 3 is not built: make e2e-tools ARGS="--helm-3"')
    return folder


@pytest.fixture
def run(cluster, helm_3):
    """Runs a program whose `helm` is helm 3."""

    def typed(*command, code=0):
        first = f"PATH={helm_3}:{cluster.environment['PATH']}"
        done = cluster.run(["env", first, *command], check=False, timeout=COMMAND_SECONDS)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return typed


@pytest.mark.timeout(600, func_only=True)
def test_enable_update_rollback_status_and_disable(cluster, run, tell):
    version = run("helm", "version", "--short").strip()
    tell(version)
    assert version.startswith("v3.")

    def confcom(*arguments):
        return run(sys.executable, "-m", "confcom", *arguments)

    def level():
        chosen = "--selector=app.kubernetes.io/component=quote-helper"
        (pod,) = cluster.kubectl_json("get", "pods", f"--namespace={SYSTEM}", chosen)["items"]
        return [word for word in pod["spec"]["containers"][0]["args"] if word.startswith("--log-level=")]

    first = json.loads(confcom("enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY, "--output=json"))
    assert (first["changed"], first["revision"]) == (True, 1)
    assert json.loads(confcom("enable", "--simulated", "--output=json"))["changed"] is False
    plugin = ("daemonset", "confcom-device-plugin", f"--namespace={SYSTEM}", "--show-managed-fields")
    writers = cluster.kubectl_json("get", *plugin)["metadata"]["managedFields"]
    assert ("helm", "Update") in {(one["manager"], one["operation"]) for one in writers}  # helm 4 would Apply
    before = level()
    assert json.loads(confcom("update", "--set", "logLevel=debug", "--output=json"))["changed"]
    assert level() == ["--log-level=debug"] != before
    assert json.loads(confcom("rollback", "--output=json"))["changed"]
    assert level() == before
    confcom("status")
    assert allocatable(cluster) == EPC_MIB
    document = json.loads(confcom("disable", "--no-wait", "--output=json"))
    assert document["removed"] is True
    assert not names(cluster, "daemonsets", SYSTEM)
    assert not run("helm", "list", "--all", "--short", f"--namespace={SYSTEM}")


def edited(cluster):
    """What of the helper's template is not the chart's, or is its level."""
    spec = cluster.kubectl_json("get", "daemonset", HELPER, HERE)["spec"]["template"]["spec"]
    main = spec["containers"][0]
    return len(spec["containers"]), main.get("env", []), spec["dnsPolicy"], main["image"].rpartition(":")[2]


@pytest.mark.timeout(900, func_only=True)
def test_what_somebody_edited_is_named_and_set_back(cluster, run, tell):
    def confcom(*arguments, **more):
        return run(sys.executable, "-m", "confcom", *arguments, **more)

    confcom("enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY)
    installed = edited(cluster)
    for edit in EDITS:
        edit.make(cluster)
        told = confcom("status", code=ExitCode.NOT_READY)
        assert all(part in told for part in edit.told), told
        confcom("enable")
        confcom("status")
        assert json.loads(confcom("enable", "--output=json"))["changed"] is False
        tell(edit.name)

    for command in (["update", "--set", "logLevel=debug"], ["rollback"]):
        set_image(cluster)
        add_to_template(cluster)
        assert edited(cluster) != installed
        confcom(*command)
        assert edited(cluster) == installed
        confcom("status")

    undo_rollout(cluster)
    assert "(by kubectl at " in confcom("status", code=ExitCode.NOT_READY)
    confcom("enable")
    confcom("status")
