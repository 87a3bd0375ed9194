"""Which nodes get which Pods, under which names: hardware, simulated, both; and where else Pods may be told to go."""

import json

import pytest
import yaml

from confcom.device_plugin.resources import DEFAULT_NAMES, ResourceKind
from confcom.device_plugin.settings import DEFAULT_DEVICE_PLUGIN_DIRECTORY
from confcom.device_plugin.settings import parse_settings as plugin_settings
from testkit.chart_manifests import HELPER, NFD_LABEL, PLUGIN, SIMULATED_LABEL, daemon, only_container, pods

HARDWARE = "quoteHelper.enabled=false"
BESIDE = "simulated.besideHardware=true"
TAINT = {"key": "sgx", "operator": "Exists"}


def settings_of(manifests, name):
    return plugin_settings(only_container(daemon(manifests, name))["args"], prog="plugin", environ={})


def daemon_sets(manifests):
    return {name for kind, name in manifests if kind == "DaemonSet"}


def test_simulated_nodes_are_those_that_somebody_labelled_so(render):
    manifests = render()
    assert daemon_sets(manifests) == {PLUGIN, HELPER}
    for name in (PLUGIN, HELPER):
        assert daemon(manifests, name)["nodeSelector"] == {SIMULATED_LABEL: "true"}
        assert manifests["DaemonSet", name]["metadata"]["labels"]["confcom.internal/platform"] == "simulated"
    assert settings_of(manifests, PLUGIN).simulated_epc_mib


def test_hardware_nodes_get_the_plugin_alone(plain_render):
    manifests = plain_render(HARDWARE)
    assert daemon_sets(manifests) == {PLUGIN}
    assert daemon(manifests, PLUGIN)["nodeSelector"] == {NFD_LABEL: "true"}
    assert settings_of(manifests, PLUGIN).simulated_epc_mib is None
    assert not any("simulated" in name for _, name in manifests)


def test_on_hardware_the_plugin_looks_at_the_host_and_changes_nothing(plain_render):
    pod = daemon(plain_render(HARDWARE), PLUGIN)
    root = plugin_settings(only_container(pod)["args"], prog="plugin", environ={}).host_root
    mounts = {mount["name"]: mount for mount in only_container(pod)["volumeMounts"]}
    seen = {}
    for volume in pod["volumes"]:
        mount = mounts[volume["name"]]
        if mount.get("readOnly"):
            seen[volume["hostPath"]["path"]] = mount["mountPath"]
    assert seen == {path: f"{root}{path}" for path in ("/sys", "/dev", "/proc/1/mountinfo")}
    assert [name for name, mount in mounts.items() if not mount.get("readOnly")] == ["device-plugins"]


def test_beside_hardware_every_simulated_resource_has_another_name(render):
    manifests = render(BESIDE)
    assert daemon_sets(manifests) == {PLUGIN, f"{PLUGIN}-simulated", f"{HELPER}-simulated"}
    real, simulated = (settings_of(manifests, name).resources.names for name in (PLUGIN, f"{PLUGIN}-simulated"))
    assert real == DEFAULT_NAMES
    assert set(simulated) == set(ResourceKind)
    assert all(name.startswith("simulated.confcom.internal/") for name in simulated.values())
    limits = only_container(daemon(manifests, f"{HELPER}-simulated"))["resources"]["limits"]
    assert {simulated[ResourceKind.HELPER], simulated[ResourceKind.PROVISION]} < set(limits)
    assert not set(real.values()) & set(limits)


def test_beside_hardware_each_node_gets_one_platforms_daemons(render):
    manifests = render(BESIDE)
    assert daemon(manifests, PLUGIN)["nodeSelector"] == {NFD_LABEL: "true"}
    assert settings_of(manifests, PLUGIN).simulated_epc_mib is None
    selectors = []
    for name in (f"{PLUGIN}-simulated", f"{HELPER}-simulated"):
        assert daemon(manifests, name)["nodeSelector"] == {SIMULATED_LABEL: "true"}
    for name in daemon_sets(manifests):
        spec = manifests["DaemonSet", name]["spec"]
        chosen = spec["selector"]["matchLabels"]
        assert chosen.items() <= spec["template"]["metadata"]["labels"].items()
        selectors.append(chosen)
    # No DaemonSet may take another's Pods for its own.
    assert len({tuple(sorted(selector.items())) for selector in selectors}) == len(selectors)


def test_simulated_nodes_change_nothing_for_hardware(plain_render, render):
    alone, beside = plain_render(HARDWARE), render(BESIDE)
    assert alone["DaemonSet", PLUGIN] == beside["DaemonSet", PLUGIN]


def test_a_selector_of_ones_own(plain_render, values_file):
    values = values_file({"nodeSelector": {NFD_LABEL: None, "a.b/sgx": "yes"}})
    assert daemon(plain_render(HARDWARE, values=values), PLUGIN)["nodeSelector"] == {"a.b/sgx": "yes"}
    values = values_file({"simulated": {"nodeSelector": {SIMULATED_LABEL: None, "a.b/fake": "yes"}}})
    assert daemon(plain_render("simulated.enabled=true", values=values), HELPER)["nodeSelector"] == {"a.b/fake": "yes"}


def test_aks(plain_render, aks):
    pod = daemon(plain_render(HARDWARE, values=aks), PLUGIN)
    assert "nodeSelector" not in pod
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    ((key, sizes),) = [(one["key"], one["values"]) for one in term["matchExpressions"] if one["operator"] == "In"]
    assert key == "node.kubernetes.io/instance-type"
    assert {"Standard_DC2s_v2", "Standard_DC8_v2", "Standard_DC48ds_v3"} < set(sizes)
    assert len(set(sizes)) == len(sizes)


def test_terms_are_for_hardware_nodes(render, aks):
    manifests = render(BESIDE, values=aks)
    assert daemon(manifests, f"{HELPER}-simulated")["nodeSelector"] == {SIMULATED_LABEL: "true"}
    assert "affinity" not in daemon(manifests, f"{HELPER}-simulated")
    assert "nodeSelector" not in daemon(manifests, PLUGIN)


@pytest.mark.parametrize(
    ("component", "name", "other"), [("devicePlugin", PLUGIN, HELPER), ("quoteHelper", HELPER, PLUGIN)]
)
def test_placement_of_one_component(render, values_file, component, name, other):
    spread = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    own = {"affinity": spread, "tolerations": [{"key": "own", "operator": "Exists"}], "priorityClassName": "calm"}
    manifests = render(values=values_file({"tolerations": [TAINT], component: own}))
    pod = daemon(manifests, name)
    assert (pod["affinity"], pod["priorityClassName"]) == (spread, "calm")
    assert pod["tolerations"] == [TAINT, *own["tolerations"]]
    assert not {"affinity", "priorityClassName"} & daemon(manifests, other).keys()
    assert all(one["tolerations"] == [TAINT] for pod_name, one in pods(manifests).items() if pod_name != name)


def test_terms_and_affinity_are_both_kept(plain_render, values_file, aks):
    terms = yaml.safe_load((aks).read_text())
    spread = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    pod = daemon(plain_render(HARDWARE, values=values_file({**terms, "devicePlugin": {"affinity": spread}})), PLUGIN)
    assert set(pod["affinity"]) == {"nodeAffinity", "podAntiAffinity"}


def test_kubelet_directory_and_resources(render):
    manifests = render("kubelet.rootDir=/opt/rke/kubelet", "devicePlugin.resources.limits.memory=1Gi")
    pod = daemon(manifests, PLUGIN)
    (volume,) = pod["volumes"]
    assert volume["hostPath"] == {"path": "/opt/rke/kubelet/device-plugins", "type": "Directory"}
    assert only_container(pod)["resources"]["limits"]["memory"] == "1Gi"


def test_the_kubelets_root_dir_is_not_said_to_move_its_directory(render, chart):
    (volume,) = daemon(render(), PLUGIN)["volumes"]
    assert volume["hostPath"]["path"] == str(DEFAULT_DEVICE_PLUGIN_DIRECTORY)
    schema = json.loads((chart / "values.schema.json").read_text())
    told = schema["properties"]["kubelet"]["properties"]["rootDir"]["description"]
    assert "`/var/lib/kubelet` whatever the kubelet's `--root-dir` says" in told
    pages = (chart.parents[1] / "docs").rglob("*.md")
    assert not [page for page in pages if "rootDir=/var/lib/k0s" in page.read_text()]


def test_resources_of_the_helper_join_what_it_needs_of_sgx(render):
    limits = only_container(daemon(render("quoteHelper.resources.limits.memory=1Gi"), HELPER))["resources"]["limits"]
    assert limits == {
        "memory": "1Gi",
        DEFAULT_NAMES[ResourceKind.HELPER]: "3",
        DEFAULT_NAMES[ResourceKind.PROVISION]: "1",
    }
