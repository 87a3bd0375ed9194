"""Checks confinement, host access, node selection, names and daemons' arguments in all checked-in renders."""

import json
from pathlib import Path

import pytest
import yaml

import confcom
from confcom.addon.chart_objects import EPC_NAMES_POLICY, REMOVAL_ANNOTATION, staging_of, workloads_in
from confcom.addon.disable import POD_TERMINATION_SECONDS
from confcom.addon.simulated_root import DEFAULT_SECRET, VOLUME, secret_name
from confcom.controller.settings import parse_settings as controller_settings
from confcom.daemon.supervision import STOP_DEADLINE_SECONDS as HELPER_STOP_SECONDS
from confcom.device_plugin.main import STOP_SECONDS as PLUGIN_STOP_SECONDS
from confcom.device_plugin.resources import DEFAULT_NAMES, HELPERS, ResourceKind, ResourceSettings
from confcom.device_plugin.settings import DEFAULT_DEVICE_PLUGIN_DIRECTORY, DEFAULT_SIMULATED_EPC_MIB
from confcom.device_plugin.settings import parse_settings as plugin_settings
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings, ApiVersion, CapacitySupport
from confcom.kubernetes.names import INTEL_EPC, REAL, SIMULATED
from confcom.kubernetes.workload import Workload
from confcom.quote_helper.settings import DEFAULT_AESMD_SOCKET, ProviderKind
from confcom.quote_helper.settings import parse_settings as helper_settings
from confcom.quote_provider.state_directory import ROOT_FOLDER
from confcom.simulated_pcs.settings import parse_settings as pcs_settings
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.root_seed import CHECK, CREATED, SEED
from testkit.chart_golden import CHART, DIGEST, SETS, golden
from testkit.chart_manifests import (
    CONTROLLER,
    HELPER,
    PCS,
    PLUGIN,
    POLICY,
    containers,
    daemon,
    mounts_of,
    only_container,
    pod_of,
    pods,
    sgx_limits,
    volumes_of,
)

RELEASED = "sha256:" + "ef" * 32
"""Digest of an image in a release's chart."""
AESMD_DIRECTORY = "/var/run/aesmd"
"""Directory of aesmd's socket; the socket's path is compiled into Intel's aesmd and into applications."""
LONGEST_MESSAGE = 5 * 1024
"""Most bytes of an admission policy's message; the API server replaces a longer or multi-line message."""
NEW_FUNCTIONS = ("flatten", "lists.range", "distinct", "sort", "first", "last")
"""CEL functions that came with Kubernetes 1.34; older API servers refuse policies that use them."""


@pytest.fixture(params=SETS)
def manifests(request):
    return golden(request.param)


def daemon_sets(manifests, prefix=""):
    return {name: one for (kind, name), one in manifests.items() if kind == "DaemonSet" and name.startswith(prefix)}


def platform_of(manifest):
    return manifest["metadata"]["labels"]["confcom.internal/platform"]


def plugin_of(manifests, name=PLUGIN):
    return plugin_settings(only_container(daemon(manifests, name))["args"], prog="plugin", environ={})


def helper_of(manifests, name=HELPER):
    return helper_settings(only_container(daemon(manifests, name))["args"], prog="helper", environ={})


@pytest.mark.parametrize(
    ("settings", "helper"),
    [
        ((), f"@{RELEASED}"),
        (("image.tag=0.2.0",), ":0.2.0"),
        ((f"quoteHelper.image.digest={DIGEST}",), f"@{DIGEST}"),
        (("quoteHelper.image.repository=our/helper",), f":{confcom.__version__}"),
    ],
)
def test_a_releases_digest_gives_way_to_a_persons_own_choice(render, settings, helper):
    digests = f"image.digests.confcom/quote-helper={RELEASED}"
    manifests = render("simulated.enabled=true", digests, *settings)
    image = only_container(daemon(manifests, HELPER))["image"]
    assert image.partition("helper")[2] == helper


def test_containers_are_confined_but_for_documented_exceptions(manifests):
    exceptions = {"device-plugin": (0, []), "aesmd-directory": (0, ["CHOWN", "FOWNER"])}
    for pod in pods(manifests).values():
        for name, container in containers(pod).items():
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["memory"]
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["capabilities"]["drop"] == ["ALL"]
            assert "privileged" not in context
            usual = (10003 if name == "controller" else 10001, [])
            user, added = exceptions.get(name, usual)
            assert context["runAsNonRoot"] is (user != 0)
            assert (context["runAsUser"], context["runAsGroup"]) == (user, user)
            assert context["capabilities"].get("add", []) == added


def host_paths(pod):
    """Each container's mount path, and whether the mount is writable, keyed by path on the host."""
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in pod.get("volumes", []) if "hostPath" in volume}
    return {
        (volumes[name], mount["mountPath"], not mount.get("readOnly", False))
        for container in containers(pod).values()
        for name, mount in mounts_of(container).items()
        if name in volumes
    }


def test_host_access_is_what_is_documented(manifests):
    for name, pod in pods(manifests).items():
        assert not {"hostNetwork", "hostIPC", "shareProcessNamespace"} & pod.keys()
        assert pod["enableServiceLinks"] is False
        wanted = set()
        if name.startswith(PLUGIN):
            directory = volumes_of(pod)["device-plugins"]["hostPath"]
            assert directory["type"] == "Directory"
            wanted = {(directory["path"], str(DEFAULT_DEVICE_PLUGIN_DIRECTORY), True)}
            if platform_of(manifests["DaemonSet", name]) == "hardware":
                looked_at = plugin_of(manifests, name).host_root
                wanted |= {(path, f"{looked_at}{path}", False) for path in ("/sys", "/dev", "/proc/1/mountinfo")}
        elif name.startswith(HELPER):
            wanted = {(AESMD_DIRECTORY, AESMD_DIRECTORY, True)}
        else:
            assert "hostPID" not in pod
        assert host_paths(pod) == wanted


def test_only_the_job_and_the_controller_have_a_token(manifests):
    for (kind, _), one in manifests.items():
        if kind == "ServiceAccount":
            assert one["automountServiceAccountToken"] is False
    for name, pod in pods(manifests).items():
        assert pod["automountServiceAccountToken"] is name.startswith(CONTROLLER)
        assert ("ServiceAccount", pod["serviceAccountName"]) in manifests
        assert name.startswith(pod["serviceAccountName"])


def test_the_add_on_knows_each_daemon_set_and_its_platform(manifests):
    for name, one in daemon_sets(manifests).items():
        assert f"confcom-{Workload.parse(one).component}" == name.removesuffix("-simulated")
        simulated = platform_of(one) == "simulated"
        args = only_container(pod_of(one))["args"]
        assert ("--simulated" in args) is simulated
        assert one["spec"]["template"]["metadata"]["labels"]["confcom.internal/platform"] == platform_of(one)
        if not simulated:
            assert not [word for word in args if word.startswith(("--simulated", "--state-dir"))]


def test_the_network_policy_is_about_all_pods_and_what_enters(manifests):
    if ("NetworkPolicy", "confcom") not in manifests:
        return
    policy = manifests["NetworkPolicy", "confcom"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    pods = {
        key: one["spec"]["template"]["metadata"]["labels"]
        for key, one in manifests.items()
        if "template" in one.get("spec", {})
    }
    assert all(policy["podSelector"]["matchLabels"].items() <= labels.items() for labels in pods.values())
    (rule,) = policy["ingress"]
    controller = rule["from"][0]["podSelector"]["matchLabels"].items()
    chosen = {key for key, labels in pods.items() if controller <= labels.items()}
    assert chosen == pods.keys() & {("Deployment", "confcom-controller")}


def test_the_service_monitor_finds_all_that_is_scraped(manifests):
    services = {name: one for (kind, name), one in manifests.items() if kind == "Service" and name != PCS}
    if ("ServiceMonitor", "confcom") not in manifests:
        assert services == {}
        return
    monitor = manifests["ServiceMonitor", "confcom"]["spec"]
    (endpoint,) = monitor["endpoints"]
    scraped = {name: one for (kind, name), one in manifests.items() if kind in {"DaemonSet", "Deployment"}}
    scraped.pop(PCS, None)  # this service has no metrics
    assert services.keys() == scraped.keys()
    for name, service in services.items():
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert service["spec"]["selector"] == scraped[name]["spec"]["selector"]["matchLabels"]
        (port,) = service["spec"]["ports"]
        (offered,) = only_container(pod_of(scraped[name]))["ports"]
        assert (port["name"], port["targetPort"]) == (endpoint["port"], offered["name"])


def test_probes_ask_for_what_is_answered(manifests):
    settings = {PLUGIN: plugin_settings, HELPER: helper_settings, CONTROLLER: controller_settings, PCS: pcs_settings}
    for (kind, name), one in manifests.items():
        if kind in {"DaemonSet", "Deployment"}:
            container = only_container(pod_of(one))
            (port,) = container["ports"]
            parse = settings[name.removesuffix("-simulated")]
            assert parse(container["args"], prog="", environ={}).probe_address.port == port["containerPort"]
            assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port["name"]}
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
            annotations = one["spec"]["template"]["metadata"].get("annotations")
            assert annotations is None if name == PCS else annotations["prometheus.io/path"] == "/metrics"
            assert name == PCS or annotations["prometheus.io/port"] == str(port["containerPort"])


def test_the_new_one_serves_before_the_old_one_ends_in_time(manifests):
    """minReadySeconds is unset because its timer can get lost (see docs/explanation/updates-and-faults.md)."""
    for name, one in daemon_sets(manifests).items():
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        assert one["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
        assert "minReadySeconds" not in one["spec"]
        stop_seconds = PLUGIN_STOP_SECONDS
        if name.startswith(HELPER):
            # The scheduler and the kubelet may each need a minute to notice the successor.
            handover = helper_of(manifests, name).handover_seconds
            assert handover >= 180
            stop_seconds = HELPER_STOP_SECONDS + handover
        assert stop_seconds < pod_of(one)["terminationGracePeriodSeconds"] < POD_TERMINATION_SECONDS


def test_resources_have_one_platforms_names(manifests):
    beside = any(name.endswith("-simulated") for name in daemon_sets(manifests))
    for one in daemon_sets(manifests, PLUGIN).values():
        names = plugin_of(manifests, one["metadata"]["name"]).resources.names
        other = beside and platform_of(one) == "simulated"
        assert {str(kind): name for kind, name in names.items()} == {
            kind: getattr(SIMULATED if other else REAL, kind) for kind in map(str, ResourceKind)
        }


def test_the_plugin_sets_aside_what_two_helpers_need(manifests):
    helpers = {platform_of(one): one for one in daemon_sets(manifests, HELPER).values()}
    for one in daemon_sets(manifests, PLUGIN).values():
        resources = plugin_of(manifests, one["metadata"]["name"]).resources
        if platform_of(one) not in helpers:
            assert resources.helper_mib == 0
            continue
        helper = helpers[platform_of(one)]
        names = resources.names
        wanted = {names[ResourceKind.HELPER]: str(resources.helper_mib), names[ResourceKind.PROVISION]: "1"}
        assert resources.helper_mib > 0
        assert sgx_limits(pod_of(helper)) == ({"aesmd": wanted} if platform_of(one) == "hardware" else {})
        # An update runs the new Pod beside the old Pod, so the node must have room for both Pods.
        assert 1 + helper["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] <= HELPERS


V36, ON, OFF = ApiVersion(1, 36), CapacitySupport.SUPPORTED, CapacitySupport.POLICY_OFF
ACCOUNTING = {
    "simulated": AccountingSettings(api_server=V36, support=ON),
    "simulated-1.34": AccountingSettings(api_server=ApiVersion(1, 34), support=CapacitySupport.API_SERVER),
    "hardware-aesmd": AccountingSettings(),
    "simulated-1-tib": AccountingSettings(AccountingSetting.CAPACITY, V36, ON),
    "daemon-options": AccountingSettings(AccountingSetting.DEVICES, V36, OFF, max_epc_mib=4096),
    "beside-hardware-plugin": AccountingSettings(api_server=V36, support=CapacitySupport.CONTROLLER_OFF),
}


@pytest.mark.parametrize("name", ACCOUNTING)
def test_the_plugin_is_told_what_decides_how_epc_is_counted(name):
    assert plugin_of(golden(name)).resources.accounting == ACCOUNTING[name]


def test_simulated_helpers_mount_the_root_and_others_do_not(manifests):
    for one in daemon_sets(manifests, HELPER).values():
        parsed = Workload.parse(one)
        assert parsed.simulates is bool(secret_name([parsed])) is (platform_of(one) == "simulated")


def test_defaults_of_the_chart_are_those_of_the_daemons():
    plugin = plugin_of(golden("simulated"))
    usual = plugin_settings([], prog="plugin", environ={})
    assert plugin.simulated_epc_mib == DEFAULT_SIMULATED_EPC_MIB
    assert plugin.resources.names == DEFAULT_NAMES
    assert plugin.resources.helper_mib == ResourceSettings().helper_mib
    assert plugin.resources.reserve_mib == ResourceSettings().reserve_mib
    assert secret_name(workloads_in(golden("simulated").values())) == DEFAULT_SECRET
    assert (plugin.aesmd_mount, plugin.device_plugin_dir) == (True, usual.device_plugin_dir)
    arguments = only_container(daemon(golden("simulated"), HELPER))["args"]
    ours = [argument for argument in arguments if not argument.startswith("--log-quotes")]
    assert len(arguments) == len(ours) + 1
    assert helper_of(golden("simulated")) == helper_settings(ours, prog="helper", environ={})


def test_what_can_be_set_reaches_the_daemons():
    manifests = golden("daemon-options")
    plugin, helper = plugin_of(manifests), helper_of(manifests)
    assert (plugin.simulated_epc_mib, plugin.log_level, plugin.aesmd_mount) == (2048, "debug", False)
    assert (plugin.resources.reserve_mib, plugin.resources.helper_mib) == (1024, 5)
    assert (helper.simulated_qe_mrenclave, helper.simulated_qe_isvsvn) == (bytes.fromhex("ab" * 32), 0)
    assert (helper.identify_pods, helper.log_level, helper.log_quotes_per_peer) == (False, "debug", 0)
    assert daemon(manifests, HELPER)["hostPID"] is False
    assert secret_name(workloads_in(manifests.values())) == "our-root"
    large = golden("simulated-1-tib")
    assert plugin_of(large).simulated_epc_mib == 1_048_576
    controller = only_container(pod_of(large["Deployment", CONTROLLER]))
    assert controller_settings(controller["args"], prog="", environ={}).rules.maximum_mib == 2_097_152


def test_the_helpers_files_are_where_it_looks(manifests):
    for name, one in daemon_sets(manifests, HELPER).items():
        pod, settings = pod_of(one), helper_of(manifests, name)
        assert pod["hostPID"] is settings.identify_pods
        assert "--open-to-all-users" in only_container(pod)["args"]
        context = only_container(pod)["securityContext"]
        first = containers(pod)["aesmd-directory"]
        user = f"{context['runAsUser']}:{context['runAsGroup']}"
        assert first["command"] == ["sh", "-c", f"chmod 0755 {AESMD_DIRECTORY} && chown {user} {AESMD_DIRECTORY}"]
        assert first["image"] == only_container(pod)["image"]
        mounts = {mount["mountPath"]: mount for mount in only_container(pod)["volumeMounts"]}
        assert str(settings.socket.parent) == AESMD_DIRECTORY
        removal = mounts[str(settings.removal_file.parent)]
        field = {"fieldPath": f"metadata.annotations['{REMOVAL_ANNOTATION}']"}
        items = volumes_of(pod)[removal["name"]]["downwardAPI"]["items"]
        assert items == [{"path": settings.removal_file.name, "fieldRef": field}]
        if platform_of(one) == "simulated":
            root = str(settings.state_dir / ROOT_FOLDER)
            assert set(mounts) == {AESMD_DIRECTORY, root, removal["mountPath"]}
            assert mounts[root]["readOnly"] is True
            secret = volumes_of(pod)[VOLUME]["secret"]
            assert secret["items"] == [{"key": key, "path": key} for key in (SEED, CREATED, CHECK)]
            assert "optional" not in secret  # no helper may start without this Secret
            # The kubelet adds a permission for the group to the permissions of defaultMode.
            assert (secret["defaultMode"], pod["securityContext"]) == (0o400, {"fsGroup": 10001})


@pytest.mark.parametrize(("name", "tls"), [("daemon-options", True), ("placement", False)])
def test_the_simulated_pcs_reads_what_is_mounted_and_is_reached_at_its_port(name, tls):
    manifests = golden(name)
    pod, helper = pod_of(manifests["Deployment", PCS]), daemon(manifests, HELPER)
    container = only_container(pod)
    settings = pcs_settings(container["args"], prog="", environ={})
    mounts = {mount["mountPath"]: mount["readOnly"] for mount in container["volumeMounts"]}
    folder = "/etc/confcom/tls"
    files = (settings.tls_cert, settings.tls_key)
    assert files == ((Path(f"{folder}/tls.crt"), Path(f"{folder}/tls.key")) if tls else (None, None))
    assert mounts == {str(settings.state_dir / ROOT_FOLDER): True} | ({folder: True} if tls else {})
    assert volumes_of(pod)[VOLUME] == volumes_of(helper)[VOLUME]
    assert container["image"] == only_container(helper)["image"]
    assert container["command"][1:] == ["-m", pcs_settings.__module__.rpartition(".")[0]]
    assert pod["nodeSelector"] == helper["nodeSelector"]  # nodes without a helper must not get the seed
    assert settings.staging == staging_of(workloads_in(daemon_sets(manifests).values()))
    (port,) = manifests["Service", PCS]["spec"]["ports"]
    policy = manifests["NetworkPolicy", PCS]["spec"]
    assert "egress" not in policy
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (entry,) = policy["ingress"][0]["ports"]
    assert {("", port["targetPort"]), ("", entry["port"])} == {(settings.address.host, settings.address.port)}
    labels = manifests["Deployment", PCS]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"] == manifests["Service", PCS]["spec"]["selector"] == labels


def properties_of(schema):
    """Names and schemas of all properties below a part of the schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []:
        yield from properties_of(part)


def test_each_value_is_described():
    schema = json.loads((CHART / "values.schema.json").read_text())
    found = list(properties_of(schema))
    assert len(found) > 100
    described = {name for name, one in schema["$defs"].items() if "description" in one}
    missing = [n for n, one in found if "description" not in one and one.get("$ref", "")[8:] not in described]
    assert missing == []


def test_the_chart_names_no_host():
    """No address is the project's own yet: whoever adds one takes the release's (PROJECT_URL, IMAGE_REGISTRY)."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["icon"].startswith("data:image/svg+xml;base64,")
    assert not {"home", "sources"} & chart.keys()
    assert "artifacthub.io/images" not in chart["annotations"]
    changes = yaml.safe_load(chart["annotations"]["artifacthub.io/changes"])
    assert {one["kind"] for one in changes} <= {"added", "changed", "deprecated", "removed", "fixed", "security"}


def test_stagings_are_those_of_the_simulation():
    schema = json.loads((CHART / "values.schema.json").read_text())
    staging = schema["properties"]["simulated"]["properties"]["staging"]
    assert set(staging["enum"]) == set(Staging)
    assert yaml.safe_load((CHART / "values.yaml").read_text())["simulated"]["staging"] == Staging.NONE
    assert staging_of(workloads_in(golden("simulated").values())) is Staging.NONE


@pytest.mark.parametrize("name", ["hardware-aesmd", "hardware-collateral", "aks", "beside-hardware"])
def test_helper_and_aesmd_share_one_private_directory(name):
    manifests = golden(name)
    pod, settings = daemon(manifests, HELPER), helper_of(manifests)
    helper, aesmd = only_container(pod), containers(pod)["aesmd"]
    here, there = mounts_of(helper), mounts_of(aesmd)
    assert {name for name in here.keys() & there.keys() if not here[name].get("readOnly")} == {"aesmd-private"}
    assert volumes_of(pod)["aesmd-private"]["emptyDir"]["medium"] == "Memory"
    assert there["aesmd-private"]["mountPath"] == AESMD_DIRECTORY
    assert (settings.provider, settings.aesmd_socket) == (ProviderKind.AESMD, DEFAULT_AESMD_SOCKET)
    assert str(settings.aesmd_socket.parent) == here["aesmd-private"]["mountPath"]
    assert not any("secret" in volume for volume in pod["volumes"])
    # The container is a sidecar. It starts after the directory is made; only the sidecar's probe can end it.
    assert [one["name"] for one in pod["initContainers"]] == ["aesmd-directory", "aesmd"]
    assert aesmd["restartPolicy"] == "Always"
    assert not {"readinessProbe", "startupProbe", "lifecycle", "ports", "command"} & aesmd.keys()
    probe = aesmd["livenessProbe"]
    assert set(probe) & {"exec", "httpGet"} == {"exec"}
    # A slow start of the probe's shell also fails the probe; the helper's restart request lasts two minutes.
    assert 1 < probe["failureThreshold"] < 120 / (probe["periodSeconds"] + probe["timeoutSeconds"])


def test_a_test_root_is_the_helpers_alone():
    manifests = golden("hardware-collateral")
    pod, root = daemon(manifests, HELPER), helper_of(manifests).expected_root
    mounted = {name: mounts_of(one).get("expected-root") for name, one in containers(pod).items()}
    assert mounted.pop("quote-helper")["mountPath"] == str(root.parent)
    assert set(mounted.values()) == {None}
    assert volumes_of(pod)["expected-root"]["configMap"]["items"] == [{"key": "root.pem", "path": root.name}]
    assert helper_of(golden("hardware-aesmd")).expected_root is None


def selector_of(pod):
    """Label selector of the nodes that a Pod is for; only the first term of a node affinity counts."""
    if labels := pod.get("nodeSelector"):
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    written = {"In": "{key} in ({all})", "NotIn": "{key} notin ({all})", "Exists": "{key}", "DoesNotExist": "!{key}"}
    written |= {"Gt": "{key}>{all}", "Lt": "{key}<{all}"}
    return ",".join(
        written[one["operator"]].format(key=one["key"], all=",".join(one.get("values", ())))
        for one in required["nodeSelectorTerms"][0]["matchExpressions"]
    )


def test_the_controller_agrees_with_the_plugins(manifests):
    if ("Deployment", CONTROLLER) not in manifests:
        return
    arguments = only_container(pod_of(manifests["Deployment", CONTROLLER]))["args"]
    settings = controller_settings(arguments, prog="", environ={})
    plugins, ours = daemon_sets(manifests, PLUGIN), settings.installation
    names = {plugin_of(manifests, name).resources.names[ResourceKind.EPC] for name in plugins}
    assert set(settings.rules.resources) == names
    for one in plugins.values():
        assert f"--installation={ours.namespace}/{ours.name}" in only_container(pod_of(one))["args"]
        metadata = {"labels": one["spec"]["template"]["metadata"]["labels"], "namespace": ours.namespace}
        metadata["ownerReferences"] = [{"kind": "DaemonSet", "controller": True}]
        assert ours.has_plugin({"metadata": metadata})
        assert selector_of(pod_of(one)) in settings.node_selector
    limit = f"<= {settings.rules.maximum_mib})"
    expressions = manifests["ValidatingAdmissionPolicy", CONTROLLER]["spec"]["validations"]
    assert sum(limit in one["expression"] for one in expressions) == 2


def test_each_policy_is_bound_and_refusals_fail_closed(manifests):
    for (kind, name), one in manifests.items():
        if kind == "ValidatingAdmissionPolicy":
            binding = manifests[f"{kind}Binding", name]["spec"]
            (action,) = binding["validationActions"]
            assert binding["policyName"] == name
            assert one["spec"]["failurePolicy"] == {"Deny": "Fail", "Warn": "Ignore"}[action]
            for told in (rule.get("messageExpression", "") for rule in one["spec"]["validations"]):
                assert len(told.encode()) < LONGEST_MESSAGE
                assert "\n" not in told
            assert not any(f"{word}(" in str(one) for word in NEW_FUNCTIONS)
        elif kind == "MutatingAdmissionPolicy":
            assert (one["spec"]["failurePolicy"], one["spec"]["reinvocationPolicy"]) == ("Fail", "IfNeeded")
            assert manifests[f"{kind}Binding", name]["spec"] == {"policyName": name}
            assert "hostPath" not in str(one)


def test_policies_know_the_names_of_every_plugin(manifests):
    names = [plugin_of(manifests, name).resources.names for name in daemon_sets(manifests, PLUGIN)]
    kinds = {POLICY: tuple(ResourceKind), EPC_NAMES_POLICY: (ResourceKind.EPC, ResourceKind.ENCLAVE)}
    for (kind, policy), one in manifests.items():
        if kind.endswith("AdmissionPolicy") and policy in kinds:
            assert all(f'"{here[resource]}"' in str(one) for here in names for resource in kinds[policy])
    if rewriting := manifests.get(("MutatingAdmissionPolicy", EPC_NAMES_POLICY)):
        assert str(rewriting).count(f'"b": dyn("{INTEL_EPC}" in') == 1
