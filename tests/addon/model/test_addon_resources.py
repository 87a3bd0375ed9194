"""The names of the resources are those that the device plugin offers and that the chart gives it."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from confcom.addon.cluster.helm import chart_folder
from confcom.addon.model.resources import REAL, SIMULATED, set_of, uses_ours
from confcom.addon.preflight.permissions import (
    USUAL_HOOK_KINDS,
    USUAL_KINDS,
    Permission,
    needed,
    plural,
)
from confcom.device_plugin.resources import DEFAULT_NAMES

CHART = Path(__file__).parents[3] / "charts" / "confcom"


def test_the_plugins_own_names():
    assert {str(kind): name for kind, name in DEFAULT_NAMES.items()} == dataclasses.asdict(REAL)


def test_the_charts_names_of_simulated_nodes_beside_hardware():
    text = (CHART / "templates" / "_helpers.tpl").read_text()
    for kind in ("epc", "enclave", "provision", "helper"):
        assert f'"{kind}" {json.dumps(getattr(SIMULATED, kind))}' in text


def test_the_chart_comes_with_the_program():
    assert chart_folder() == CHART


def test_plurals():
    kinds = ("DaemonSet", "NetworkPolicy", "PriorityClass", "Ingress", "Job")
    assert [plural(kind) for kind in kinds] == ["daemonsets", "networkpolicies", "priorityclasses", "ingresses", "jobs"]
    assert plural("ValidatingAdmissionPolicy") == "validatingadmissionpolicies"


def test_the_usual_kinds_are_those_of_the_chart():
    optional = {"NetworkPolicy", "Service", "ServiceMonitor", "Deployment", "ClusterRole", "ClusterRoleBinding"}
    optional |= {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
    kinds = {
        template.name: set(re.findall(r"^kind: (\w+)", template.read_text(), re.MULTILINE))
        for template in (CHART / "templates").glob("*.yaml")
    }
    assert {kind for _, kind in USUAL_KINDS} == set().union(*kinds.values()) - optional
    assert {kind for _, kind in USUAL_HOOK_KINDS} == kinds.pop("simulated-root.yaml")
    assert set(USUAL_HOOK_KINDS) <= set(USUAL_KINDS)


def test_every_permission_is_asked_for_once():
    kinds = [("apps", "DaemonSet"), ("", "Secret"), ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy")]
    asked = needed(kinds, [("batch", "Job")], "sgx", namespace_is_there=False, labels_nodes=True)
    assert len(set(asked)) == len(asked)
    assert {
        Permission("create", "namespaces"),
        Permission("patch", "nodes"),
        Permission("delete", "daemonsets", "apps", "sgx"),
        Permission("create", "validatingadmissionpolicies", "admissionregistration.k8s.io"),
        Permission("get", "daemonsets", "apps", "sgx"),
        Permission("list", "events", "", "sgx"),
        Permission("list", "controllerrevisions", "apps", "sgx"),
        Permission("get", "namespaces", "", "sgx"),
        Permission("watch", "jobs", "batch", "sgx"),
        Permission("list", "jobs", "batch"),
    } <= set(asked)
    assert Permission("list", "jobs", "batch", "sgx") not in asked  # where it is asked for everywhere
    assert not [one for one in asked if (one.verb, one.group) == ("update", "apps")]
    attributes = Permission("patch", "nodes/status").review()["spec"]["resourceAttributes"]
    assert attributes == {"verb": "patch", "resource": "nodes", "subresource": "status"}


@pytest.mark.parametrize(
    ("resources", "uses"),
    [
        ({}, False),
        ({"limits": {REAL.epc: "1"}}, True),
        ({"limits": {REAL.provision: 1}}, True),
        ({"requests": {REAL.enclave: "1"}}, True),
        ({"limits": {REAL.provision: "0", REAL.epc: 0}}, False),
        ({"limits": {REAL.provision: "0", REAL.epc: "2"}}, True),
        ({"limits": {"nvidia.com/gpu": "1"}}, False),
    ],
)
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_who_uses_our_resources(resources, uses, kind):
    assert uses_ours({"spec": {kind: [{"resources": resources}]}}) is uses


@pytest.mark.parametrize(
    ("capacity", "allocatable", "names"),
    [
        ({}, {}, REAL),
        ({SIMULATED.epc: "0"}, {SIMULATED.epc: "0"}, SIMULATED),
        ({REAL.epc: "162", SIMULATED.epc: "0"}, {REAL.epc: "162", SIMULATED.epc: "0"}, REAL),
        ({REAL.epc: "0", SIMULATED.epc: "162"}, {REAL.epc: "0", SIMULATED.epc: "162"}, SIMULATED),
        ({REAL.epc: "162", SIMULATED.epc: "162"}, {REAL.epc: "0", SIMULATED.epc: "162"}, SIMULATED),
        ({REAL.epc: "162", SIMULATED.epc: "162"}, {REAL.epc: "162", SIMULATED.epc: "0"}, REAL),
        ({REAL.epc: "0", SIMULATED.epc: "162"}, {REAL.epc: "0", SIMULATED.epc: "0"}, SIMULATED),
    ],
)
def test_a_nodes_names_are_those_that_it_offers(capacity, allocatable, names):
    assert set_of({"status": {"capacity": capacity, "allocatable": allocatable}}) is names
