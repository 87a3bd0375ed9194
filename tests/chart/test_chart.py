import tomllib
from pathlib import Path

import pytest
import yaml

from confcom.addon.kubectl import DEFAULT_NAMESPACE
from confcom.addon.platform_secret import SECRET_NAME
from confcom.device_plugin.settings import DEFAULT_SIMULATED_EPC_MIB
from confcom.device_plugin.settings import parse_settings as plugin_settings
from confcom.quote_helper.settings import parse_settings as helper_settings
from confcom.quote_provider.state_directory import STATE_FILE

ROOT = Path(__file__).parent.parent.parent
PLUGIN = "confcom-device-plugin"
HELPER = "confcom-quote-helper"
JOB_ACCOUNT = "confcom-simulated-root"
NFD_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"


def pod_of(manifest):
    return manifest["spec"]["template"]["spec"]


def pods(manifests):
    return {name: pod_of(manifest) for (kind, name), manifest in manifests.items() if kind in {"DaemonSet", "Job"}}


def containers(pod):
    return {container["name"]: container for container in [*pod.get("initContainers", []), *pod["containers"]]}


def only_container(pod):
    (container,) = pod["containers"]
    return container


def daemon(manifests, name):
    return pod_of(manifests["DaemonSet", name])


@pytest.fixture(scope="module")
def manifests(render):
    return render()


@pytest.fixture(scope="module")
def job(manifests):
    ((name, manifest),) = [(name, manifest) for (kind, name), manifest in manifests.items() if kind == "Job"]
    assert name.startswith(JOB_ACCOUNT + "-")
    return manifest


def test_lint(helm, chart):
    done = helm("lint", "--strict", chart, "--set", "simulated.enabled=true")
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_simulation_is_never_on_by_itself(helm, chart):
    done = helm("template", "confcom", chart)
    assert done.returncode != 0
    assert "DaemonSet" not in done.stdout
    assert "simulated.enabled is false" in done.stderr
    assert "prove nothing about hardware" in done.stderr
    assert "--set simulated.enabled=true" in done.stderr


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
    }
    assert all(manifest["metadata"]["namespace"] == "sgx" for manifest in manifests.values())


def test_versions_are_one():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts" / "confcom" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


# Security.


def test_every_container_is_confined_and_its_exceptions_are_these(manifests):
    exceptions = {}
    for pod in pods(manifests).values():
        for name, container in containers(pod).items():
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
    assert exceptions == {"device-plugin": (0, []), "aesmd-directory": (0, ["CHOWN"])}


def test_host_access_is_what_is_documented(manifests):
    paths = {}
    for name, pod in pods(manifests).items():
        assert not {"hostNetwork", "hostIPC", "shareProcessNamespace"} & pod.keys()
        assert pod["enableServiceLinks"] is False
        paths[name] = [volume["hostPath"]["path"] for volume in pod.get("volumes", []) if "hostPath" in volume]
    assert {name: found for name, found in paths.items() if found} == {
        PLUGIN: ["/var/lib/kubelet/device-plugins"],
        HELPER: ["/var/run/aesmd"],
    }
    assert [name for name, pod in pods(manifests).items() if pod.get("hostPID")] == [HELPER]


def test_only_the_job_has_a_token_and_it_may_only_create_secrets_here(manifests, job):
    for kind, name in manifests:
        if kind == "ServiceAccount":
            assert manifests[kind, name]["automountServiceAccountToken"] is False
    tokens = {name: pod["automountServiceAccountToken"] for name, pod in pods(manifests).items()}
    assert tokens == {PLUGIN: False, HELPER: False, job["metadata"]["name"]: True}
    assert {pod["serviceAccountName"] for pod in pods(manifests).values()} == {PLUGIN, HELPER, JOB_ACCOUNT}
    role, binding = manifests["Role", JOB_ACCOUNT], manifests["RoleBinding", JOB_ACCOUNT]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
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
    assert set(mounts) == {str(settings.socket.parent), str(settings.state_dir)}
    assert mounts[str(settings.state_dir)]["readOnly"] is True


def test_the_default_epc_is_the_plugins(manifests):
    settings = plugin_settings(only_container(daemon(manifests, PLUGIN))["args"], prog="plugin", environ={})
    assert settings.simulated_epc_mib == DEFAULT_SIMULATED_EPC_MIB


def test_the_helper_reads_the_clusters_root(manifests):
    pod = daemon(manifests, HELPER)
    secret = next(volume["secret"] for volume in pod["volumes"] if "secret" in volume)
    assert secret["secretName"] == SECRET_NAME
    assert secret["items"] == [{"key": STATE_FILE, "path": STATE_FILE}]
    # The kubelet adds the group's permission to what defaultMode says.
    assert secret["defaultMode"] == 0o400
    assert pod["securityContext"]["fsGroup"] == 10001


def test_the_directory_is_handed_to_the_helpers_user(manifests):
    pod = daemon(manifests, HELPER)
    context = only_container(pod)["securityContext"]
    init = containers(pod)["aesmd-directory"]
    assert init["command"] == ["chown", f"{context['runAsUser']}:{context['runAsGroup']}", "/var/run/aesmd"]
    assert init["image"] == only_container(pod)["image"]


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
    assert hooks["ServiceAccount"] == hooks["Role"] < hooks["RoleBinding"] < hooks["Job"]
    assert not any(kind == "Secret" for kind, _ in manifests)


def test_the_job_runs_from_the_helpers_image_on_any_node(manifests, job):
    pod = pod_of(job)
    assert only_container(pod)["command"] == ["python", "-m", "confcom.addon.simulated_root"]
    assert only_container(pod)["image"] == only_container(daemon(manifests, HELPER))["image"]
    assert NFD_LABEL not in pod["nodeSelector"]
    assert job["spec"]["activeDeadlineSeconds"] < 300


def test_another_pod_is_another_job(render):
    # A Job's Pod template cannot be changed, so that `kubectl apply` would fail.
    def name(*settings):
        return next(name for kind, name in render(*settings) if kind == "Job")

    assert name() == name("logLevel=debug") == name("devicePlugin.image.tag=v2")
    assert name() != name("quoteHelper.image.tag=v2")


# Values.


def test_images(render):
    manifests = render(
        "devicePlugin.image.registry=registry.example.com:5000/mirror",
        "devicePlugin.image.tag=v2",
        "quoteHelper.image.repository=our/helper",
        "quoteHelper.image.pullPolicy=Never",
    )
    plugin, helper = (only_container(daemon(manifests, name)) for name in (PLUGIN, HELPER))
    assert plugin["image"] == "registry.example.com:5000/mirror/confcom/device-plugin:v2"
    assert plugin["imagePullPolicy"] == "IfNotPresent"
    assert helper["image"] == "our/helper:0.1.0"
    assert helper["imagePullPolicy"] == "Never"


def test_nodes(render, tmp_path):
    assert {str(daemon(render(), name)["nodeSelector"]) for name in (PLUGIN, HELPER)} == {str({NFD_LABEL: "true"})}
    values = tmp_path / "values.yaml"
    taint = {"key": "sgx", "operator": "Exists"}
    values.write_text(yaml.safe_dump({"nodeSelector": {NFD_LABEL: None, "a.b/sgx": "yes"}, "tolerations": [taint]}))
    manifests = render(values=values)
    for name in (PLUGIN, HELPER):
        assert daemon(manifests, name)["nodeSelector"] == {"a.b/sgx": "yes"}
    assert all(pod["tolerations"] == [taint] for pod in pods(manifests).values())


def test_kubelet_directory_and_resources(render):
    pod = daemon(render("kubelet.rootDir=/opt/k0s/kubelet", "devicePlugin.resources.limits.memory=1Gi"), PLUGIN)
    (volume,) = pod["volumes"]
    assert volume["hostPath"] == {"path": "/opt/k0s/kubelet/device-plugins", "type": "Directory"}
    assert only_container(pod)["resources"]["limits"]["memory"] == "1Gi"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("simulated.enabled=maybe", "at '/simulated/enabled': got string, want boolean"),
        ("simulated.epcMiB=lots", "at '/simulated/epcMiB': got string, want integer"),
        ("simulated.epcMiB=0", "at '/simulated/epcMiB': minimum: got 0, want 1"),
        ("simulated.epcMiB=4096", "at '/simulated/epcMiB': maximum: got 4,096, want 2,048"),
        ("simulatd.epcMiB=1", "additional properties 'simulatd' not allowed"),
        ("quoteHelper.image.tags=v1", "at '/quoteHelper/image': additional properties 'tags' not allowed"),
        ("logLevel=loud", "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error'"),
        ("devicePlugin.image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("devicePlugin.image.registry=https://example.com", "at '/devicePlugin/image/registry': 'https://example.com'"),
        ("devicePlugin.image.tag=a b", "at '/devicePlugin/image/tag': 'a b'"),
        ("kubelet.rootDir=kubelet", "at '/kubelet/rootDir': 'kubelet'"),
        ("kubelet.rootDir=/var/lib/kubelet/", "at '/kubelet/rootDir': '/var/lib/kubelet/'"),
        ("quoteHelper.hostPID=1", "at '/quoteHelper/hostPID': got number, want boolean"),
        ("devicePlugin.resources.limits.memory=much", "at '/devicePlugin/resources/limits/memory': 'much'"),
        ("tolerations=all", "at '/tolerations': got string, want array"),
    ],
)
def test_wrong_values_are_refused_with_their_place(template, setting, message):
    done = template(setting)
    assert done.returncode != 0
    assert "DaemonSet" not in done.stdout
    assert message in done.stderr


def test_no_selector_is_not_every_node(template, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"nodeSelector": {NFD_LABEL: None}}))
    done = template(values=values)
    assert done.returncode != 0
    assert "at '/nodeSelector': minProperties: got 0, want 1" in done.stderr


def test_notes_say_what_is_next(helm, chart):
    done = helm(
        "install",
        "mine",
        chart,
        "--namespace",
        DEFAULT_NAMESPACE,
        "--set",
        "simulated.enabled=true",
        "--dry-run=client",
    )
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "prove nothing about hardware" in notes
    assert f"kubectl label node NODE {NFD_LABEL}=true" in notes
    assert f"confcom simulation export --namespace {DEFAULT_NAMESPACE}" in notes
    assert f"{DEFAULT_NAMESPACE}/{SECRET_NAME}" in notes
