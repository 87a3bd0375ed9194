"""Pools of simulated nodes: a device plugin for each, on its nodes only."""

import pytest

from confcom.addon.model.chart_objects import Component, Plan, component_of, pod_spec_of
from confcom.addon.model.node_selection import selects
from confcom.device_plugin.settings import parse_settings as plugin_settings
from testkit.chart_manifests import HELPER, PLUGIN, SIMULATED_LABEL, daemon, only_container
from testkit.fake_cluster.objects import node

POOL = "example.com/pool"
LARGE = {"name": "large", "nodeSelector": {POOL: "large"}, "epcMiB": 1_048_576}
SMALL = {"name": "small", "nodeSelector": {POOL: "small", "example.com/row": "b"}, "epcMiB": 28}
AFFINITY = {"matchExpressions": [{"key": "kept", "operator": "Exists"}]}
BESIDE = {"quoteHelper": {"enabled": False}}


@pytest.fixture
def render_pools(plain_render, values_file):
    def run(*pools, beside=False, **more):
        values = {"simulated": {"enabled": True, "besideHardware": beside, "pools": list(pools)}, **more}
        return plain_render(values=values_file(values))

    return run


@pytest.fixture
def refusal(plain_template, refused, values_file):
    def run(*pools, **simulated):
        values = {"simulated": {"enabled": True, "pools": list(pools)} | simulated}
        return refused(plain_template(values=values_file(values)))

    return run


def plugins_on(manifests, **labels):
    """The names of the device plugins that run on a node with the label of simulation and these."""
    here = node("n", {SIMULATED_LABEL: "true"} | {key.replace("_", "/"): value for key, value in labels.items()})
    plan = Plan(tuple(manifests.values()))
    found = [one for one in plan.plugins(simulated=True) if selects(pod_spec_of(one), here)]
    return [one["metadata"]["name"] for one in found]


def epc_of(manifests, name):
    args = only_container(daemon(manifests, name))["args"]
    return plugin_settings(args, prog="plugin", environ={}).simulated_epc_mib


def test_each_node_has_the_plugin_of_its_pool_and_no_other(render_pools):
    manifests = render_pools(LARGE, SMALL)
    assert plugins_on(manifests) == [PLUGIN]
    assert plugins_on(manifests, **{POOL: "large"}) == [f"{PLUGIN}-large"]
    assert plugins_on(manifests, **{POOL: "small", "example.com/row": "b"}) == [f"{PLUGIN}-small"]
    assert plugins_on(manifests, **{POOL: "small", "example.com/row": "a"}) == [PLUGIN]
    assert plugins_on(manifests, **{POOL: "another"}) == [PLUGIN]
    assert [epc_of(manifests, f"{PLUGIN}{name}") for name in ("", "-large", "-small")] == [168, 1_048_576, 28]


def test_a_pool_may_repeat_the_label_of_simulation(render_pools):
    repeated = {"name": "large", "nodeSelector": {SIMULATED_LABEL: "true", POOL: "large"}, "epcMiB": 28}
    assert plugins_on(render_pools(repeated), **{POOL: "large"}) == [f"{PLUGIN}-large"]


def test_one_helper_is_for_all_simulated_nodes(render_pools, render):
    assert daemon(render_pools(LARGE, SMALL), HELPER) == daemon(render(), HELPER)


def test_a_pool_changes_the_other_plugins_choice_of_nodes_only(render_pools, render):
    with_pool, without = (daemon(manifests, PLUGIN) for manifests in (render_pools(LARGE), render()))
    assert {key for key in with_pool if with_pool[key] != without.get(key)} == {"affinity"}


def test_the_users_affinity_stays(render_pools):
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [AFFINITY]}}
    manifests = render_pools(LARGE, SMALL, devicePlugin={"affinity": {"nodeAffinity": required}})
    assert plugins_on(manifests, kept="") == [PLUGIN]
    assert plugins_on(manifests) == []
    assert plugins_on(manifests, kept="", **{POOL: "large"}) == [f"{PLUGIN}-large"]


def test_beside_hardware(render_pools):
    manifests = render_pools(LARGE, beside=True, **BESIDE)
    names = {one["metadata"]["name"] for one in manifests.values() if one["kind"] == "DaemonSet"}
    assert names == {PLUGIN, f"{PLUGIN}-simulated", f"{PLUGIN}-simulated-large"}
    assert plugins_on(manifests, **{POOL: "large"}) == [f"{PLUGIN}-simulated-large"]
    args = only_container(daemon(manifests, f"{PLUGIN}-simulated-large"))["args"]
    assert "--epc-resource=simulated.confcom.internal/sgx_epc_mem_in_MiB" in args


def test_the_add_on_knows_the_pools_plugins(render_pools):
    found = [one for one in render_pools(LARGE, SMALL).values() if one["kind"] == "DaemonSet"]
    assert sorted(map(component_of, found)) == [*[Component.DEVICE_PLUGIN] * 3, Component.QUOTE_HELPER]
    labels = {one["metadata"]["labels"]["app.kubernetes.io/component"] for one in found}
    assert len(labels) == len(found), "two DaemonSets with one selector would adopt each other's Pods"


def test_a_pool_has_its_service_for_prometheus(render_pools):
    manifests = render_pools(LARGE, serviceMonitor={"enabled": True})
    assert (
        manifests["Service", f"{PLUGIN}-large"]["spec"]["selector"]
        == (manifests["DaemonSet", f"{PLUGIN}-large"]["spec"]["selector"]["matchLabels"])
    )


@pytest.mark.parametrize(
    ("pools", "simulated", "code"),
    [
        ([LARGE, SMALL | {"nodeSelector": {"example.com/row": "b"}}], {}, "pools-overlap"),
        ([LARGE, LARGE | {"name": "other"}], {}, "pools-overlap"),
        ([LARGE, SMALL | {"name": "large"}], {}, "pool-twice"),
        ([LARGE | {"nodeSelector": {SIMULATED_LABEL: "large"}}], {}, "pool-outside-simulation"),
        ([LARGE], {"enabled": False}, "pools-without-simulation"),
        ([LARGE | {"epcMiB": 6}], {}, "no-epc-left"),
    ],
)
def test_what_is_refused(refusal, pools, simulated, code):
    assert refusal(*pools, **simulated) == code


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Large"},
        {"name": "simulated"},
        {"name": "simulated-x"},
        {"name": "a" * 31},
        {"nodeSelector": {}},
        {"epcMiB": 1_048_577},
        {"other": 1},
    ],
)
def test_what_the_schema_refuses(plain_template, values_file, wrong):
    done = plain_template(values=values_file({"simulated": {"enabled": True, "pools": [LARGE | wrong]}}))
    assert done.returncode != 0
    assert "/simulated/pools/0" in done.stderr or "simulated.pools.0" in done.stderr
