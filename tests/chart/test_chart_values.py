"""What can be set, what is refused and how, and what a person reads afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest

from confcom.addon.cluster.kubectl import DEFAULT_NAMESPACE
from confcom.quote_helper.settings import MIN_MEMORY_LIMIT_MIB
from confcom.simulated_root.record import SECRET_NAME
from testkit.chart_manifests import HELPER, NFD_LABEL, PLUGIN, SIMULATED_LABEL, daemon, only_container, pods

ROOT = Path(__file__).parent.parent.parent
DIGEST = "sha256:" + "0123456789abcdef" * 4


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
    assert helper["image"] == "registry.test/our/helper:0.1.0"
    assert helper["imagePullPolicy"] == "Never"


def test_one_registry_for_all_and_its_secrets(render):
    manifests = render(
        "image.registry=a.example", "quoteHelper.image.registry=b.example", "image.pullSecrets[0].name=login"
    )
    assert only_container(daemon(manifests, PLUGIN))["image"] == "a.example/confcom/device-plugin:0.1.0"
    assert only_container(daemon(manifests, HELPER))["image"] == "b.example/confcom/quote-helper:0.1.0"
    assert [pod["imagePullSecrets"] for pod in pods(manifests).values()] == [[{"name": "login"}]] * 3


@pytest.mark.parametrize(("tag", "reference"), [("", f"@{DIGEST}"), ("v2", f":v2@{DIGEST}")])
def test_a_digest_decides(render, tag, reference):
    manifests = render(f"quoteHelper.image.digest={DIGEST}", f"quoteHelper.image.tag={tag}")
    assert only_container(daemon(manifests, HELPER))["image"] == f"registry.test/confcom/quote-helper{reference}"


# An image without a registry is one of docker.io, where confcom/... belongs to somebody else.

FROM_ANYWHERE = "images-from-anywhere"
PLUGIN_DIGEST, HELPER_DIGEST = (f"{daemon}.image.digest={DIGEST}" for daemon in ("devicePlugin", "quoteHelper"))
PLUGIN_REGISTRY, HELPER_REGISTRY = "devicePlugin.image.registry=a.example", "quoteHelper.image.registry=b.example"
PLUGIN_IMAGE, HELPER_IMAGE = "confcom/device-plugin:0.1.0", "confcom/quote-helper:0.1.0"
HELPERLESS = "quoteHelper.enabled=false"


def images_of(manifests):
    return {name: only_container(pod)["image"] for name, pod in pods(manifests).items()}


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        ((), {"devicePlugin": "confcom/device-plugin", "quoteHelper": "confcom/quote-helper"}),
        ((PLUGIN_REGISTRY,), {"quoteHelper": "confcom/quote-helper"}),
        ((HELPER_REGISTRY,), {"devicePlugin": "confcom/device-plugin"}),
        ((PLUGIN_DIGEST,), {"quoteHelper": "confcom/quote-helper"}),
        ((HELPER_DIGEST,), {"devicePlugin": "confcom/device-plugin"}),
        ((HELPERLESS,), {"devicePlugin": "confcom/device-plugin"}),
        ((HELPERLESS, HELPER_DIGEST), {"devicePlugin": "confcom/device-plugin"}),
        ((PLUGIN_DIGEST, "quoteHelper.image.repository=our/helper"), {"quoteHelper": "our/helper"}),
        ((PLUGIN_DIGEST, "quoteHelper.image.repository=our/a.b/helper"), {"quoteHelper": "our/a.b/helper"}),
        ((PLUGIN_DIGEST, "quoteHelper.image.tag=v2"), {"quoteHelper": "confcom/quote-helper"}),
    ],
    ids=" ".join,
)
def test_an_image_from_anywhere_is_refused_with_what_to_write(template, refused, settings, lacking):
    done = template(*settings, registry="")
    assert refused(done) == FROM_ANYWHERE
    assert f" {' and '.join(lacking.values())}.\n" in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert "--set image.registry=REGISTRY" in lines
    assert " ".join(f"--set {daemon}.image.digest=sha256:DIGEST" for daemon in lacking) in lines


@pytest.mark.parametrize(
    ("settings", "plugin", "helper"),
    [
        (("image.registry=docker.io",), f"docker.io/{PLUGIN_IMAGE}", f"docker.io/{HELPER_IMAGE}"),
        ((PLUGIN_REGISTRY, HELPER_REGISTRY), f"a.example/{PLUGIN_IMAGE}", f"b.example/{HELPER_IMAGE}"),
        ((PLUGIN_REGISTRY, HELPER_DIGEST), f"a.example/{PLUGIN_IMAGE}", f"confcom/quote-helper@{DIGEST}"),
        ((PLUGIN_DIGEST, HELPER_DIGEST), f"confcom/device-plugin@{DIGEST}", f"confcom/quote-helper@{DIGEST}"),
        (
            ("devicePlugin.image.repository=a.example/b/plugin", "quoteHelper.image.repository=localhost/helper"),
            "a.example/b/plugin:0.1.0",
            "localhost/helper:0.1.0",
        ),
    ],
)
def test_an_image_whose_registry_or_content_is_named(plain_render, settings, plugin, helper):
    images = images_of(plain_render("simulated.enabled=true", *settings, registry=""))
    (job,) = [name for name in images if name.startswith("confcom-simulated-root-")]
    assert images == {PLUGIN: plugin, HELPER: helper, job: helper}


def test_the_helpers_image_is_not_asked_for_where_it_does_not_run(plain_render):
    images = images_of(plain_render(HELPERLESS, PLUGIN_REGISTRY, registry=""))
    assert images == {PLUGIN: f"a.example/{PLUGIN_IMAGE}"}


def test_an_upgrade_of_a_release_without_a_registry_is_refused_the_same(template, refused):
    assert refused(template(registry="", more=("--is-upgrade",))) == FROM_ANYWHERE


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("simulated.enabled=maybe", "at '/simulated/enabled': got string, want boolean"),
        ("simulated.epcMiB=lots", "at '/simulated/epcMiB': got string, want integer"),
        ("simulated.epcMiB=0", "at '/simulated/epcMiB': minimum: got 0, want 1"),
        ("simulated.epcMiB=1048577", "at '/simulated/epcMiB': maximum"),
        ("simulated.besideHardware=1", "at '/simulated/besideHardware': got number, want boolean"),
        ("simulated.quotingEnclave.mrEnclave=12", "at '/simulated/quotingEnclave/mrEnclave'"),
        ("simulated.quotingEnclave.isvSvn=65536", "at '/simulated/quotingEnclave/isvSvn': maximum: got 65,536"),
        ("simulatd.epcMiB=1", "additional properties 'simulatd' not allowed"),
        ("image.registri=x", "at '/image': additional properties 'registri' not allowed"),
        ("image.pullSecrets[0]=login", "at '/image/pullSecrets/0': got string, want object"),
        ("quoteHelper.image.tags=v1", "at '/quoteHelper/image': additional properties 'tags' not allowed"),
        ("quoteHelper.image.digest=sha256:12", "at '/quoteHelper/image/digest': 'sha256:12'"),
        ("quoteHelper.enabled=on", "at '/quoteHelper/enabled': got string, want boolean"),
        ("quoteHelper.epcMiB=0", "at '/quoteHelper/epcMiB': minimum: got 0, want 1"),
        ("quoteHelper.hostPID=1", "at '/quoteHelper/hostPID': got number, want boolean"),
        ("quoteHelper.logQuotesPerPeer=60001", "at '/quoteHelper/logQuotesPerPeer': maximum"),
        ("quoteHelper.staleReportWindowSeconds=-1", "at '/quoteHelper/staleReportWindowSeconds': minimum"),
        ("logLevel=loud", "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error'"),
        ("devicePlugin.image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("devicePlugin.image.registry=https://example.com", "at '/devicePlugin/image/registry': 'https://example.com'"),
        ("devicePlugin.image.tag=a b", "at '/devicePlugin/image/tag': 'a b'"),
        ("devicePlugin.maxEpcMiB=1048577", "at '/devicePlugin/maxEpcMiB': maximum"),
        ("devicePlugin.accounting=both", "at '/devicePlugin/accounting': value must be one of"),
        ("devicePlugin.apiServer=v1.36", "at '/devicePlugin/apiServer': 'v1.36'"),
        ("devicePlugin.reserveEpcMiB=-1", "at '/devicePlugin/reserveEpcMiB': minimum"),
        ("devicePlugin.aesmdMount=no", "at '/devicePlugin/aesmdMount': got string, want boolean"),
        ("devicePlugin.resources.limits.memory=much", "at '/devicePlugin/resources/limits/memory': 'much'"),
        (
            "quoteHelper.resources.limits.sgx\\.intel\\.com/epc=1",
            "additional properties 'sgx.intel.com/epc' not allowed",
        ),
        ("devicePlugin.priorityClassName=A B", "at '/devicePlugin/priorityClassName': 'A B'"),
        ("devicePlugin.affinity.nodeafinity=1", "additional properties 'nodeafinity' not allowed"),
        (
            "devicePlugin.tolerations[0].efect=NoSchedule",
            "at '/devicePlugin/tolerations/0': additional properties 'efect'",
        ),
        ("kubelet.rootDir=kubelet", "at '/kubelet/rootDir': 'kubelet'"),
        ("kubelet.rootDir=/var/lib/kubelet/", "at '/kubelet/rootDir': '/var/lib/kubelet/'"),
        ("tolerations=all", "at '/tolerations': got string, want array"),
        ("tolerations[0].effect=Never", "value must be one of 'NoSchedule', 'PreferNoSchedule', 'NoExecute'"),
        ("nodeSelectorTerms[0].matchExpressions[0].key=a", "missing property 'operator'"),
        ("provision.policy=off", "at '/provision/policy': got string, want boolean"),
        ("provision.namespaces[0]=Not_A_Name", "at '/provision/namespaces/0': 'Not_A_Name'"),
        ("serviceMonitor.interval=often", "at '/serviceMonitor/interval': 'often'"),
        ("networkPolicy.from[0].pods=a", "at '/networkPolicy/from/0': additional properties 'pods' not allowed"),
    ],
)
def test_wrong_values_are_refused_with_their_place(template, setting, message):
    done = template(setting)
    assert done.returncode != 0
    assert "DaemonSet" not in done.stdout
    assert message in done.stderr


@pytest.mark.parametrize(("section", "label"), [((), NFD_LABEL), (("simulated",), SIMULATED_LABEL)])
def test_no_selector_is_not_every_node(template, values_file, section, label):
    values = {"nodeSelector": {label: None}}
    for name in section:
        values = {name: values}
    done = template(values=values_file(values))
    assert done.returncode != 0
    place = "/".join(("", *section, "nodeSelector"))
    assert f"at '{place}': minProperties: got 0, want 1" in done.stderr


@pytest.mark.parametrize(
    ("settings", "code", "parts"),
    [
        (
            (),
            "aesmd-image-missing",
            [
                "--set quoteHelper.aesmd.image.repository=REPOSITORY",
                "--set simulated.enabled=true",
                "--set quoteHelper.enabled=false",
                "docs/how-to/build-images.md",
            ],
        ),
        (("simulated.besideHardware=true",), "beside-hardware-without-simulation", ["--set simulated.enabled=true"]),
        (
            (
                "simulated.enabled=true",
                "simulated.besideHardware=true",
                "nodeSelector.confcom\\.internal/simulated-sgx=true",
                "nodeSelector.feature\\.node\\.kubernetes\\.io/cpu-security\\.sgx\\.enabled=null",
            ),
            "same-nodes-twice",
            [],
        ),
        (("devicePlugin.accounting=capacity",), "capacity-not-supported", ["--set-string admission.mutate=on"]),
        (("simulated.enabled=true", "simulated.epcMiB=6"), "no-epc-left", ["simulated.epcMiB is 6", "6 MiB"]),
        (
            ("simulated.enabled=true", "simulated.epcMiB=28", "devicePlugin.reserveEpcMiB=22"),
            "no-epc-left",
            ["simulated.epcMiB is 28", "devicePlugin.reserveEpcMiB is 22"],
        ),
        (
            ("simulated.enabled=true", "quoteHelper.resources.limits.memory=16Mi"),
            "memory-limit-too-small",
            ["quoteHelper.resources.limits.memory is 16Mi", "128Mi"],
        ),
        (
            ("simulated.enabled=true", "devicePlugin.resources.limits.memory=63.9Mi"),
            "memory-limit-too-small",
            ["devicePlugin.resources.limits.memory is 63.9Mi", "64Mi"],
        ),
        (
            ("simulated.enabled=true", "quoteHelper.resources.requests.memory=1Gi"),
            "memory-request-above-limit",
            ["quoteHelper.resources.requests.memory is 1Gi", "256Mi"],
        ),
        (
            ("simulated.enabled=true", "provision.policy=false", "provision.namespaces[0]=a"),
            "namespaces-without-policy",
            [],
        ),
    ],
)
def test_values_that_contradict_each_other_are_explained(plain_template, refused, settings, code, parts):
    typed = ["--set-string" if "internal/simulated-sgx" in one else "--set" for one in settings]
    done = plain_template(more=[word for pair in zip(typed, settings, strict=True) for word in pair])
    assert refused(done) == code
    assert [part for part in parts if part not in done.stderr] == []


def test_the_smallest_memory_of_the_helper_is_the_programs_own(plain_template, refused):
    def limited_to(mib):
        return plain_template("simulated.enabled=true", f"quoteHelper.resources.limits.memory={mib}Mi")

    assert limited_to(MIN_MEMORY_LIMIT_MIB).returncode == 0
    assert refused(limited_to(MIN_MEMORY_LIMIT_MIB - 1)) == "memory-limit-too-small"


@pytest.mark.parametrize("memory", [128 * 2**20, "131072Ki", "0.125Gi", "135M", None])
def test_enough_memory_however_it_is_written(plain_template, values_file, memory):
    resources = {"limits": {"memory": memory}, "requests": {"memory": 1000}}
    values = values_file({"simulated": {"enabled": True}, "quoteHelper": {"resources": resources}})
    done = plain_template(values=values)
    assert done.returncode == 0, done.stderr


def test_the_memory_of_a_helper_that_does_not_run_is_not_looked_at(plain_template):
    assert not plain_template("quoteHelper.enabled=false", "quoteHelper.resources.limits.memory=16Mi").returncode


def test_two_conditions_for_nodes_are_refused(plain_template, refused, values_file, aks):
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    values = values_file({"devicePlugin": {"affinity": required}, "quoteHelper": {"enabled": False}})
    done = plain_template(values=values, more=("--values", aks))
    assert refused(done) == "two-node-conditions"
    assert plain_template(values=values).returncode == 0


def test_just_enough_epc(render):
    assert ("DaemonSet", PLUGIN) in render("simulated.epcMiB=7")


def test_a_kubernetes_without_the_policys_api_is_refused(template):
    done = template(more=("--kube-version", "1.29.9"))
    assert done.returncode != 0
    assert "kubeVersion: >=1.30.0-0" in done.stderr


def test_globals_of_a_chart_around_this_one_do_no_harm(render):
    assert render("global.anything=1") == render()


# What is read afterwards.


@pytest.fixture(scope="module")
def notes(helm, chart):
    def read(*settings):
        chosen = [word for setting in ("image.registry=registry.test", *settings) for word in ("--set", setting)]
        done = helm("install", "mine", chart, "--namespace", DEFAULT_NAMESPACE, *chosen, "--dry-run=client")
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    return read


def test_notes_say_what_is_next(notes):
    text = notes("simulated.enabled=true")
    assert "prove nothing about hardware" in text
    assert f"kubectl label node NODE {SIMULATED_LABEL}=true" in text
    assert f"confcom status --namespace {DEFAULT_NAMESPACE}" in text
    assert f"confcom simulation export --namespace {DEFAULT_NAMESPACE}" in text
    assert f"{DEFAULT_NAMESPACE}/{SECRET_NAME}" in text


def test_notes_say_what_uninstall_cannot_do(notes):
    for settings in (("simulated.enabled=true",), ("quoteHelper.enabled=false",)):
        text = notes(*settings)
        assert "Plain `helm uninstall mine` cannot" in text
        assert f"confcom disable --namespace {DEFAULT_NAMESPACE}" in text


def test_notes_of_hardware_say_nothing_of_simulation(notes):
    text = notes("quoteHelper.enabled=false")
    assert f"{NFD_LABEL}=true" in text
    assert "There is no quote helper" in text
    assert "simulat" not in text.lower()


def test_notes_beside_hardware_name_the_other_resource(notes):
    text = notes("simulated.enabled=true", "simulated.besideHardware=true", "provision.namespaces[0]=trusted")
    assert "simulated.confcom.internal/sgx_epc_mem_in_MiB" in text
    assert f"in {DEFAULT_NAMESPACE}, trusted only" in text
    assert "daemonset/confcom-quote-helper-simulated" in text


def test_the_reference_has_every_value():
    command = [sys.executable, ROOT / "scripts" / "chart_values.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
