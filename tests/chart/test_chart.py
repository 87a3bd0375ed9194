import tomllib
from pathlib import Path

import pytest
import yaml

from confcom.daemon.supervision import STOP_DEADLINE_SECONDS as HELPER_STOP_SECONDS
from confcom.device_plugin.main import STOP_SECONDS as PLUGIN_STOP_SECONDS
from confcom.device_plugin.resources import DEFAULT_HELPER_MIB, DEFAULT_NAMES, HELPERS, ResourceKind, ResourceSettings
from confcom.device_plugin.settings import DEFAULT_SIMULATED_EPC_MIB
from confcom.device_plugin.settings import parse_settings as plugin_settings
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings, ApiVersion, CapacitySupport
from confcom.quote_helper.settings import parse_settings as helper_settings
from confcom.quote_provider.state_directory import STATE_FILE
from confcom.simulated_root.record import FINGERPRINT_KEY, RECORD_NAME, SECRET_NAME
from testkit.chart_manifests import (
    AESMD,
    EPC_POLICIES,
    HELPER,
    JOB_ACCOUNT,
    PLUGIN,
    POLICY,
    ROOT_HOOK_POLICY,
    ROOT_POLICY,
    containers,
    daemon,
    only_container,
    pod_of,
    pods,
)

ROOT = Path(__file__).parent.parent.parent
MIXED = "simulated.enabled=true,simulated.besideHardware=true"
EVERYTHING = f"{MIXED},serviceMonitor.enabled=true,networkPolicy.enabled=true"


@pytest.fixture(scope="module")
def manifests(render):
    return render()


@pytest.fixture(scope="module")
def job(manifests):
    ((name, manifest),) = [(name, manifest) for (kind, name), manifest in manifests.items() if kind == "Job"]
    assert name.startswith(JOB_ACCOUNT + "-")
    return manifest


@pytest.mark.parametrize(
    "settings", ["simulated.enabled=true", "quoteHelper.enabled=false", EVERYTHING, AESMD, f"{AESMD},{EVERYTHING}"]
)
def test_lint(helm, chart, settings):
    done = helm("lint", "--strict", chart, "--set", f"image.registry=registry.test,{settings}")
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_a_second_render_is_identical(template):
    assert template().stdout == template().stdout != ""


def test_nothing_else_is_installed(manifests):
    job_name = next(name for kind, name in manifests if kind == "Job")
    assert set(manifests) == {
        ("DaemonSet", PLUGIN),
        ("DaemonSet", HELPER),
        ("ServiceAccount", PLUGIN),
        ("ServiceAccount", HELPER),
        ("ServiceAccount", JOB_ACCOUNT),
        ("Role", JOB_ACCOUNT),
        ("RoleBinding", JOB_ACCOUNT),
        ("Job", job_name),
        *(
            (f"ValidatingAdmissionPolicy{kind}", name)
            for kind in ("", "Binding")
            for name in (POLICY, ROOT_POLICY, ROOT_HOOK_POLICY, *EPC_POLICIES)
        ),
    }
    placed = {kind for (kind, _), manifest in manifests.items() if manifest["metadata"].get("namespace") == "sgx"}
    assert {kind for kind, _ in manifests} - placed == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def test_versions_are_one():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts" / "confcom" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


# Security.


def test_every_container_is_confined_but_for_these_and_tells_in_its_status_why_it_failed(manifests):
    exceptions = {}
    for pod in pods(manifests).values():
        for name, container in containers(pod).items():
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["capabilities"]["drop"] == ["ALL"]
            assert "privileged" not in context
            added = context["capabilities"].get("add", [])
            if context["runAsNonRoot"]:
                assert (context["runAsUser"], context["runAsGroup"]) == (10001, 10001)
            if added or not context["runAsNonRoot"]:
                exceptions[name] = (context["runAsUser"], added)
    assert exceptions == {"device-plugin": (0, []), "aesmd-directory": (0, ["CHOWN", "FOWNER"])}


def host_paths(pod):
    return [volume["hostPath"]["path"] for volume in pod.get("volumes", []) if "hostPath" in volume]


def test_host_access_is_what_is_documented(manifests):
    for pod in pods(manifests).values():
        assert not {"hostNetwork", "hostIPC", "shareProcessNamespace"} & pod.keys()
        assert pod["enableServiceLinks"] is False
    paths = {name: host_paths(pod) for name, pod in pods(manifests).items()}
    assert {name: found for name, found in paths.items() if found} == {
        PLUGIN: ["/var/lib/kubelet/device-plugins"],
        HELPER: ["/var/run/aesmd"],
    }
    assert [name for name, pod in pods(manifests).items() if pod.get("hostPID")] == [HELPER]


def test_only_the_job_has_a_token_and_it_may_only_make_the_root_here(manifests, job):
    for kind, name in manifests:
        if kind == "ServiceAccount":
            assert manifests[kind, name]["automountServiceAccountToken"] is False
    tokens = {name: pod["automountServiceAccountToken"] for name, pod in pods(manifests).items()}
    assert tokens == {PLUGIN: False, HELPER: False, job["metadata"]["name"]: True}
    assert {pod["serviceAccountName"] for pod in pods(manifests).values()} == {PLUGIN, HELPER, JOB_ACCOUNT}
    role, binding = manifests["Role", JOB_ACCOUNT], manifests["RoleBinding", JOB_ACCOUNT]
    by_name = [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]]
    assert by_name == [
        (["secrets", "configmaps"], None, ["create"]),
        (["secrets"], [SECRET_NAME], ["get"]),
        (["configmaps"], [RECORD_NAME], ["get", "delete"]),
    ]
    assert {tuple(rule["apiGroups"]) for rule in role["rules"]} == {("",)}
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": JOB_ACCOUNT}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": JOB_ACCOUNT, "namespace": "sgx"}]


@pytest.mark.parametrize("seen", [True, False])
def test_pods_are_identified_where_their_processes_are_seen(render, seen):
    pod = daemon(render(f"quoteHelper.hostPID={str(seen).lower()}"), HELPER)
    assert pod["hostPID"] is seen
    assert helper_settings(only_container(pod)["args"], prog="helper", environ={}).identify_pods is seen


# The daemons read what the chart writes.


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_plugin_takes_its_arguments(render, level):
    container = only_container(daemon(render("simulated.epcMiB=28", f"logLevel={level}"), PLUGIN))
    settings = plugin_settings(container["args"], prog="plugin", environ={})
    assert (settings.simulated_epc_mib, settings.log_level) == (28, level)
    assert settings.probe_address.port == container["ports"][0]["containerPort"]
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == str(settings.device_plugin_dir)


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_helper_takes_its_arguments(render, level):
    pod = daemon(render(f"logLevel={level}"), HELPER)
    container = only_container(pod)
    settings = helper_settings(container["args"], prog="helper", environ={})
    assert (settings.log_level, settings.probe_address.port) == (level, container["ports"][0]["containerPort"])
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    read = {str(settings.state_dir), str(settings.published_root.parent)}
    assert set(mounts) == {str(settings.socket.parent), *read}
    assert all(mounts[path]["readOnly"] is True for path in read)
    assert settings.published_root.name == FINGERPRINT_KEY


def test_the_defaults_are_the_daemons(manifests):
    plugin = plugin_settings(only_container(daemon(manifests, PLUGIN))["args"], prog="plugin", environ={})
    assert plugin.simulated_epc_mib == DEFAULT_SIMULATED_EPC_MIB
    assert plugin.resources == ResourceSettings()
    assert plugin.aesmd_dir == plugin_settings([], prog="plugin", environ={}).aesmd_dir
    arguments = only_container(daemon(manifests, HELPER))["args"]
    ours = [argument for argument in arguments if not argument.startswith(("--stale", "--log-quotes"))]
    assert len(arguments) == len(ours) + 2
    assert helper_settings(arguments, prog="helper", environ={}) == helper_settings(ours, prog="helper", environ={})


def test_what_can_be_set_reaches_the_daemons(render):
    enclave = "ab" * 32
    manifests = render(
        "devicePlugin.maxEpcMiB=4096",
        "devicePlugin.aesmdMount=false",
        "simulated.epcMiB=2048",
        f"simulated.quotingEnclave.mrEnclave={enclave}",
        "simulated.quotingEnclave.isvSvn=0",
        "quoteHelper.staleReportWindowSeconds=31622400",
        "quoteHelper.logQuotesPerPeer=0",
        "devicePlugin.reserveEpcMiB=1024",
    )
    plugin = plugin_settings(only_container(daemon(manifests, PLUGIN))["args"], prog="plugin", environ={})
    assert (plugin.resources.accounting.max_epc_mib, plugin.resources.reserve_mib, plugin.aesmd_dir) == (
        4096,
        1024,
        None,
    )
    helper = helper_settings(only_container(daemon(manifests, HELPER))["args"], prog="helper", environ={})
    assert (helper.simulated_qe_mr_enclave, helper.simulated_qe_isv_svn) == (bytes.fromhex(enclave), 0)
    assert (helper.stale_report_window_seconds, helper.log_quotes_per_peer) == (31_622_400, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), AccountingSettings()),
        (("devicePlugin.accounting=devices",), AccountingSettings(setting=AccountingSetting.DEVICES)),
        (
            ("devicePlugin.apiServer=1.35",),
            AccountingSettings(api_server=ApiVersion(1, 35), support=CapacitySupport.API_SERVER),
        ),
        (("devicePlugin.maxEpcMiB=1048576",), AccountingSettings(max_epc_mib=1_048_576)),
        (
            ("devicePlugin.apiServer=1.36", "devicePlugin.accounting=capacity"),
            AccountingSettings(AccountingSetting.CAPACITY, ApiVersion(1, 36), CapacitySupport.SUPPORTED),
        ),
        (
            ("devicePlugin.apiServer=1.36", "controller.enabled=false"),
            AccountingSettings(api_server=ApiVersion(1, 36), support=CapacitySupport.CONTROLLER_OFF),
        ),
        (
            ("devicePlugin.apiServer=1.36", "admission.mutate=off"),
            AccountingSettings(api_server=ApiVersion(1, 36), support=CapacitySupport.POLICY_OFF),
        ),
    ],
)
def test_the_plugin_is_told_what_decides_how_epc_is_counted(render, values, expected):
    arguments = only_container(daemon(render(*values), PLUGIN))["args"]
    assert plugin_settings(arguments, prog="plugin", environ={}).resources.accounting == expected


# The helper's share of the node.


@pytest.mark.parametrize("mib", [DEFAULT_HELPER_MIB, 5])
def test_the_helper_asks_for_what_the_plugin_sets_aside(render, mib):
    manifests = render(f"quoteHelper.epcMiB={mib}")
    settings = plugin_settings(only_container(daemon(manifests, PLUGIN))["args"], prog="plugin", environ={})
    limits = only_container(daemon(manifests, HELPER))["resources"]["limits"]
    assert limits[DEFAULT_NAMES[ResourceKind.HELPER]] == str(mib)
    assert limits[DEFAULT_NAMES[ResourceKind.PROVISION]] == "1"
    assert DEFAULT_NAMES[ResourceKind.EPC] not in limits
    # An update runs the new one beside the old one: both must fit.
    surge = manifests["DaemonSet", HELPER]["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"]
    assert settings.resources.helper_mib * HELPERS >= mib * (1 + surge)


def test_without_a_helper_nothing_is_set_aside_or_made_for_it(render):
    manifests = render("quoteHelper.enabled=false")
    settings = plugin_settings(only_container(daemon(manifests, PLUGIN))["args"], prog="plugin", environ={})
    assert settings.resources.helper_mib == 0
    assert set(manifests) == {
        ("DaemonSet", PLUGIN),
        ("ServiceAccount", PLUGIN),
        *((f"ValidatingAdmissionPolicy{kind}", name) for kind in ("", "Binding") for name in (POLICY, *EPC_POLICIES)),
    }


def test_daemons_have_the_time_that_they_take_to_end(manifests):
    assert daemon(manifests, PLUGIN)["terminationGracePeriodSeconds"] > PLUGIN_STOP_SECONDS
    assert daemon(manifests, HELPER)["terminationGracePeriodSeconds"] > HELPER_STOP_SECONDS


@pytest.mark.parametrize("name", [PLUGIN, HELPER])
def test_the_new_one_serves_before_the_old_one_ends_and_no_timer_of_the_controller_is_needed(manifests, name):
    """With maxSurge it can lose the one that minReadySeconds needs: docs/explanation/updates-and-faults.md."""
    spec = manifests["DaemonSet", name]["spec"]
    rolling = {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert "minReadySeconds" not in spec


def test_the_helper_reads_the_clusters_root(manifests):
    pod = daemon(manifests, HELPER)
    secret = next(volume["secret"] for volume in pod["volumes"] if "secret" in volume)
    assert secret["secretName"] == SECRET_NAME
    assert secret["items"] == [{"key": STATE_FILE, "path": STATE_FILE}]
    # The kubelet adds the group's permission to what defaultMode says.
    assert secret["defaultMode"] == 0o400
    assert pod["securityContext"]["fsGroup"] == 10001


def test_the_directory_is_handed_to_the_helpers_user_and_opened_to_all(manifests):
    pod = daemon(manifests, HELPER)
    context = only_container(pod)["securityContext"]
    init = containers(pod)["aesmd-directory"]
    user = f"{context['runAsUser']}:{context['runAsGroup']}"
    assert init["command"] == ["sh", "-c", f"chmod 0755 /var/run/aesmd && chown {user} /var/run/aesmd"]
    assert init["image"] == only_container(pod)["image"]
    assert "--open-to-all-users" in only_container(pod)["args"]


@pytest.mark.parametrize("name", [PLUGIN, HELPER])
def test_probes_ask_for_what_is_answered(manifests, name):
    container = only_container(daemon(manifests, name))
    (port,) = container["ports"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    annotations = manifests["DaemonSet", name]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port["containerPort"]),
        "prometheus.io/path": "/metrics",
    }


# The simulated root.


def test_the_root_comes_before_everything_and_leaves_with_its_job(manifests):
    hooks = {}
    for (kind, name), manifest in manifests.items():
        annotations = manifest["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
            assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
            hooks[kind] = int(annotations["helm.sh/hook-weight"])
            assert name.startswith(JOB_ACCOUNT)
    policy, binding = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
    assert hooks[policy] < hooks[binding] < hooks["ServiceAccount"] == hooks["Role"]
    assert hooks["Role"] < hooks["RoleBinding"] < hooks["Job"]
    assert not any(kind == "Secret" for kind, _ in manifests)


def test_the_job_runs_from_the_helpers_image_on_any_node(manifests, job):
    pod = pod_of(job)
    assert only_container(pod)["command"] == ["python", "-m", "confcom.simulated_root"]
    assert only_container(pod)["image"] == only_container(daemon(manifests, HELPER))["image"]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert job["spec"]["activeDeadlineSeconds"] < 300


def test_another_pod_is_another_job(render):
    # A Job's Pod template cannot be changed, so that `kubectl apply` would fail.
    def name(*settings):
        return next(name for kind, name in render(*settings) if kind == "Job")

    assert name() == name("logLevel=debug") == name("devicePlugin.image.tag=v2")
    assert name() != name("quoteHelper.image.tag=v2")


def scalars(thing):
    """Everything in a manifest that is under one of these keys, or in a list there."""
    for key, value in thing.items() if isinstance(thing, dict) else enumerate(thing):
        if key in {"namespace", "app.kubernetes.io/instance"}:
            yield value
        elif key == "matchNames":
            yield from value
        elif isinstance(value, dict | list):
            yield from scalars(value)


def test_names_that_look_like_numbers_stay_text(helm, chart):
    sets = ["--set", f"image.registry=registry.test,{EVERYTHING}"]
    classes = ["--set-string", "devicePlugin.priorityClassName=1", "--set-string", "quoteHelper.priorityClassName=1"]
    done = helm("template", "1234", chart, "--namespace", "5678", *sets, *classes)
    assert done.returncode == 0, done.stderr
    manifests = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert set(scalars(manifests)) == {"1234", "5678"}
    named = [one["spec"]["template"]["spec"] for one in manifests if one["kind"] == "DaemonSet"]
    assert {pod["priorityClassName"] for pod in named} == {"1"}
