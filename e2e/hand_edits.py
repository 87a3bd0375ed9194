"""What people do by hand to what the chart installed, with kubectl alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from e2e.add_on import SYSTEM
from e2e.cluster import Cluster
from e2e.images_workshop import references

HERE = f"--namespace={SYSTEM}"
HELPER, PLUGIN, POLICY = "confcom-quote-helper", "confcom-device-plugin", "confcom-provision"
LATEST = references("quote-helper")[1]
"""The helper's image under another tag: it starts, and nothing fails."""


@dataclass(frozen=True, slots=True)
class HandEdit:
    """One thing that somebody does.

    Args:
        name: for the case.
        make: does it.
        told: parts of what `confcom status` must say of it.
    """

    name: str
    make: Callable[[Cluster], object]
    told: tuple[str, ...]


def set_image(cluster: Cluster) -> None:
    """Another tag, with `kubectl set image`."""
    cluster.kubectl("set", "image", HERE, f"daemonset/{HELPER}", f"quote-helper={LATEST}")


def patch_args(cluster: Cluster) -> None:
    """Other arguments and another limit, with `kubectl patch`."""
    level = ["--log-level=error" if word.startswith("--log-level=") else word for word in _args(cluster, PLUGIN)]
    container = {"name": "device-plugin", "args": level, "resources": {"limits": {"memory": "300Mi"}}}
    _patch(cluster, "daemonset", PLUGIN, {"spec": {"template": {"spec": {"containers": [container]}}}})


def add_to_template(cluster: Cluster) -> None:
    """What the chart does not have: a variable, a container, and another DNS policy."""
    cluster.kubectl("set", "env", HERE, f"daemonset/{HELPER}", "--containers=quote-helper", "DEBUG=1")
    extra = {
        "name": "debug",
        "image": LATEST,
        "command": ["sleep", "3600"],
        "resources": {"limits": {"memory": "16Mi"}},
    }
    _patch(
        cluster, "daemonset", HELPER, {"spec": {"template": {"spec": {"dnsPolicy": "Default", "containers": [extra]}}}}
    )


def edit_probe(cluster: Cluster) -> None:
    """A number, with `kubectl edit`."""
    editor = "KUBE_EDITOR=sed -i s/failureThreshold:.*/failureThreshold:\\ 77/"
    cluster.run(["env", editor, "kubectl", "edit", HERE, f"daemonset/{PLUGIN}"])


def remove_field(cluster: Cluster) -> None:
    """A setting whose default is the opposite, with `kubectl patch`."""
    gone = [{"op": "remove", "path": "/spec/template/spec/automountServiceAccountToken"}]
    cluster.kubectl("patch", "daemonset", HELPER, HERE, "--type=json", f"--patch={json.dumps(gone)}")


def undo_rollout(cluster: Cluster) -> None:
    """The DaemonSet's former template, with `kubectl rollout undo`; there has to be one."""
    cluster.kubectl("rollout", "undo", HERE, f"daemonset/{HELPER}")


def delete_binding(cluster: Cluster) -> None:
    """The policy is not in force any more."""
    cluster.kubectl("delete", "validatingadmissionpolicybinding", POLICY)


def weaken_policy(cluster: Cluster) -> None:
    """The policy only warns, and fails open."""
    _patch(cluster, "validatingadmissionpolicybinding", POLICY, {"spec": {"validationActions": ["Warn"]}}, "merge")
    _patch(cluster, "validatingadmissionpolicy", POLICY, {"spec": {"failurePolicy": "Ignore"}}, "merge")


def delete_account(cluster: Cluster) -> None:
    """Pods that exist go on, and no other can be made."""
    cluster.kubectl("delete", "serviceaccount", "confcom-quote-helper", HERE)


EDITS = (
    HandEdit(
        "set image", set_image, (f"containers[quote-helper].image is {LATEST} instead of ", "(by kubectl-set at ")
    ),
    HandEdit(
        "patch",
        patch_args,
        (
            "containers[device-plugin].args has --log-level=error and lacks --log-level=info (by kubectl-patch at ",
            "containers[device-plugin].resources.limits.memory is 300Mi instead of ",
        ),
    ),
    HandEdit(
        "added to the template",
        add_to_template,
        (
            "containers[quote-helper].env[DEBUG] was added (by kubectl-set at ",
            "containers[debug] was added (by kubectl-patch at ",
            "dnsPolicy was added (by kubectl-patch at ",
        ),
    ),
    HandEdit("edit", edit_probe, ("Probe.failureThreshold is 77 instead of ", "(by kubectl-edit at ")),
    HandEdit("removed field", remove_field, ("automountServiceAccountToken is missing",)),
    HandEdit("deleted binding", delete_binding, (f"ValidatingAdmissionPolicyBinding {POLICY} is missing",)),
    HandEdit(
        "weakened policy",
        weaken_policy,
        ("spec.validationActions has Warn and lacks Deny", "spec.failurePolicy is Ignore instead of Fail"),
    ),
    HandEdit("deleted account", delete_account, ("the ServiceAccount confcom-quote-helper is missing",)),
)


def _args(cluster: Cluster, daemon: str) -> list[str]:
    spec = cluster.kubectl_json("get", "daemonset", daemon, HERE)["spec"]["template"]["spec"]
    words: list[str] = spec["containers"][0]["args"]
    return words


def _patch(cluster: Cluster, kind: str, name: str, patch: object, how: str = "strategic") -> None:
    cluster.kubectl("patch", kind, name, HERE, f"--type={how}", f"--patch={json.dumps(patch)}")
