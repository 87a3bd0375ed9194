"""The quote helper's Pod on nodes with SGX hardware: who has the devices, who shares a directory, who may do what."""

import pytest

from confcom.device_plugin.resources import DEFAULT_NAMES, HELPERS, ResourceKind
from confcom.device_plugin.settings import parse_settings as plugin_settings
from confcom.quote_helper.settings import DEFAULT_AESMD_SOCKET, ProviderKind
from confcom.quote_helper.settings import parse_settings as helper_settings
from testkit.chart_manifests import (
    AESMD,
    HELPER,
    NFD_LABEL,
    PLUGIN,
    containers,
    daemon,
    mounts_of,
    only_container,
    sgx_limits,
    volumes_of,
)

MIXED = ("simulated.enabled=true", "simulated.besideHardware=true")
SMALL_NODE_MIB = 28
"""EPC of the smallest node: Azure's DC1s_v2."""
AESMD_DIRECTORY = "/var/run/aesmd"
"""Compiled into Intel's aesmd, and where applications look."""
TEST_ROOT = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def aesmd(plain_render):
    return plain_render(AESMD)


def sidecar_of(manifests):
    return containers(daemon(manifests, HELPER))["aesmd"]


def settings_of(manifests, name=HELPER):
    return helper_settings(only_container(daemon(manifests, name))["args"], prog="helper", environ={})


# Who has the devices.


@pytest.mark.parametrize("settings", [(AESMD,), (*MIXED, AESMD)])
def test_the_devices_are_one_containers(plain_render, settings):
    pod = daemon(plain_render(*settings, "quoteHelper.epcMiB=5"), HELPER)
    asked = {DEFAULT_NAMES[ResourceKind.HELPER]: "5", DEFAULT_NAMES[ResourceKind.PROVISION]: "1"}
    assert sgx_limits(pod) == {"aesmd": asked}


@pytest.mark.parametrize("settings", [(AESMD,), (*MIXED, AESMD)])
def test_the_plugin_sets_aside_what_two_helpers_need(plain_render, settings):
    manifests = plain_render(*settings)
    plugin = plugin_settings(only_container(daemon(manifests, PLUGIN))["args"], prog="plugin", environ={})
    (limits,) = sgx_limits(daemon(manifests, HELPER)).values()
    needed = int(limits[DEFAULT_NAMES[ResourceKind.HELPER]])
    surge = manifests["DaemonSet", HELPER]["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"]
    assert plugin.resources.helper_mib == needed
    assert needed * (1 + surge) <= needed * HELPERS < SMALL_NODE_MIB


def test_without_a_helper_on_hardware_nothing_is_set_aside_there(plain_render):
    for settings in (("quoteHelper.enabled=false", AESMD), MIXED):
        manifests = plain_render(*settings)
        assert "--helper-epc-mib=0" in only_container(daemon(manifests, PLUGIN))["args"]
        assert ("DaemonSet", HELPER) not in manifests
        assert not any(kind == "ConfigMap" for kind, _ in manifests)


# The private socket.


def test_the_two_share_one_directory_that_nobody_else_has(aesmd):
    pod = daemon(aesmd, HELPER)
    here, there = mounts_of(only_container(pod)), mounts_of(sidecar_of(aesmd))
    shared = {name for name in here.keys() & there.keys() if not here[name].get("readOnly")}
    assert shared == {"aesmd-private"}
    assert volumes_of(pod)["aesmd-private"]["emptyDir"]["medium"] == "Memory"
    assert there["aesmd-private"]["mountPath"] == AESMD_DIRECTORY
    settings = settings_of(aesmd)
    assert settings.provider is ProviderKind.AESMD
    assert str(settings.aesmd_socket.parent) == here["aesmd-private"]["mountPath"]
    assert settings.aesmd_socket == DEFAULT_AESMD_SOCKET
    # Our own socket is in the node's directory, which aesmd does not have.
    assert here["aesmd"]["mountPath"] == str(settings.socket.parent) == AESMD_DIRECTORY
    assert volumes_of(pod)["aesmd"]["hostPath"]["path"] == AESMD_DIRECTORY
    assert "aesmd" not in there


def test_aesmd_is_a_sidecar_that_starts_after_the_directory_is_made(aesmd):
    pod = daemon(aesmd, HELPER)
    assert [one["name"] for one in pod["initContainers"]] == ["aesmd-directory", "aesmd"]
    sidecar = sidecar_of(aesmd)
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["args"] == ["--no-daemon", "--no-syslog", "--supported_attestation_types=ECDSA"]
    assert "command" not in sidecar
    assert sidecar["image"] == "registry.test/our/aesmd:0.1.0"
    assert {"restartPolicy"} & only_container(pod).keys() == set()


def test_nothing_but_its_own_probe_ends_aesmd(aesmd):
    sidecar = sidecar_of(aesmd)
    assert not {"readinessProbe", "startupProbe", "lifecycle", "ports"} & sidecar.keys()
    probe = sidecar["livenessProbe"]
    assert "exec" in probe
    assert "httpGet" not in probe
    # A shell that is slow to start counts as a failure; the request lasts for two minutes.
    assert probe["failureThreshold"] > 1
    assert probe["failureThreshold"] * (probe["periodSeconds"] + probe["timeoutSeconds"]) < 120


# What every container may.


def test_every_container_is_confined(aesmd):
    exceptions = {}
    for name, container in containers(daemon(aesmd, HELPER)).items():
        context = container["securityContext"]
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in context
        if context["capabilities"].get("add") or not context["runAsNonRoot"]:
            exceptions[name] = context["capabilities"]["add"]
        else:
            assert (context["runAsUser"], context["runAsGroup"]) == (10001, 10001)
    assert exceptions == {"aesmd-directory": ["CHOWN", "FOWNER"]}


def test_of_the_host_it_has_the_directory_alone_and_no_secret(aesmd):
    pod = daemon(aesmd, HELPER)
    kinds = {name: next(kind for kind in volume if kind != "name") for name, volume in volumes_of(pod).items()}
    assert [name for name, kind in kinds.items() if kind == "hostPath"] == ["aesmd"]
    assert set(kinds.values()) <= {"hostPath", "emptyDir", "configMap"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostIPC", "shareProcessNamespace"} & pod.keys()


def test_nothing_of_the_simulated_platform_is_there(aesmd):
    arguments = only_container(daemon(aesmd, HELPER))["args"]
    assert not [one for one in arguments if one.startswith(("--simulated", "--state-dir", "--published-root"))]
    assert not any("simulated" in name for _, name in aesmd)


def test_the_group_is_joined_if_it_is_given(plain_render):
    assert "securityContext" not in daemon(plain_render(AESMD), HELPER)
    pod = daemon(plain_render(AESMD, "quoteHelper.sgxPrvGroup=123"), HELPER)
    assert pod["securityContext"] == {"supplementalGroups": [123]}


def test_the_group_is_not_the_simulated_nodes(plain_render):
    pod = daemon(plain_render(*MIXED, AESMD, "quoteHelper.sgxPrvGroup=123"), f"{HELPER}-simulated")
    assert "supplementalGroups" not in pod["securityContext"]


def test_every_containers_memory_is_limited(aesmd):
    limits = {name: one["resources"]["limits"]["memory"] for name, one in containers(daemon(aesmd, HELPER)).items()}
    assert limits == {"aesmd-directory": "256Mi", "aesmd": "256Mi", "quote-helper": "256Mi"}


# The test root.


def test_a_test_root_is_given_to_the_helper_alone(plain_render, values_file):
    manifests = plain_render(AESMD, values=values_file({"quoteHelper": {"expectedRoot": TEST_ROOT}}))
    assert manifests["ConfigMap", "confcom-expected-root"]["data"] == {"root.pem": TEST_ROOT}
    pod = daemon(manifests, HELPER)
    root = settings_of(manifests).expected_root
    mounted = {name: mounts_of(one).get("expected-root") for name, one in containers(pod).items()}
    assert mounted.pop("quote-helper")["mountPath"] == str(root.parent) == "/etc/confcom/expected-root"
    assert set(mounted.values()) == {None}
    assert volumes_of(pod)["expected-root"]["configMap"]["items"] == [{"key": "root.pem", "path": root.name}]


def test_without_a_test_root_the_expected_one_is_intels(aesmd):
    assert settings_of(aesmd).expected_root is None
    assert ("ConfigMap", "confcom-expected-root") not in aesmd


# Both kinds of nodes.


def test_beside_simulated_nodes_each_has_its_own_and_the_simulated_ones_stay_as_they_are(plain_render):
    before, after = plain_render(*MIXED), plain_render(*MIXED, AESMD)
    hardware = after["DaemonSet", HELPER]
    assert hardware["metadata"]["labels"]["confcom.internal/platform"] == "hardware"
    assert daemon(after, HELPER)["nodeSelector"] == {NFD_LABEL: "true"}
    assert {one for one in after if one not in before} == {("DaemonSet", HELPER), ("ConfigMap", "confcom-collateral")}
    changed = [one for one in before if before[one] != after[one]]
    assert changed == [("DaemonSet", PLUGIN)]


def test_the_selectors_of_the_two_differ(plain_render):
    manifests = plain_render(*MIXED, AESMD)
    selectors = [manifests["DaemonSet", name]["spec"]["selector"] for name in (HELPER, f"{HELPER}-simulated")]
    assert selectors[0] != selectors[1]


def test_on_aks_the_helper_goes_where_the_plugin_goes_and_asks_azure(plain_render, aks):
    manifests = plain_render(AESMD, values=aks)
    assert daemon(manifests, HELPER)["affinity"] == daemon(manifests, PLUGIN)["affinity"]
    assert "THIM" in manifests["ConfigMap", "confcom-collateral"]["data"]["qcnl.conf"]


def test_an_update_is_as_that_of_the_simulated_one(aesmd, render):
    assert (
        aesmd["DaemonSet", HELPER]["spec"]["updateStrategy"] == render()["DaemonSet", HELPER]["spec"]["updateStrategy"]
    )


def test_the_rest_of_its_arguments_are_those_of_the_simulated_one(aesmd, render):
    def common(manifests):
        own = ("--simulated", "--state-dir", "--published-root", "--provider", "--aesmd-socket")
        return [one for one in only_container(daemon(manifests, HELPER))["args"] if not one.startswith(own)]

    assert common(aesmd) == common(render())
