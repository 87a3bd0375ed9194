"""Values that the chart refuses: templates/checks.yaml gives a code, the schema gives the value's place."""

import json
import re

import jsonschema
import pytest
import yaml

from confcom.quote_helper.settings import MIN_MEMORY_LIMIT_MIB
from testkit import fake_chart
from testkit.chart_golden import AKS, CHART, DIGEST, NFD_LABEL, SIMULATED_LABEL, TEST_ROOT
from tests.chart.conftest import split

SIMULATED = "simulated.enabled=true"
MIXED = f"{SIMULATED},simulated.besideHardware=true"
HELPERLESS = "quoteHelper.enabled=false"
AESMD = "quoteHelper.aesmd.image.repository=our/aesmd"
COLLATERAL = "quoteHelper.collateral"
CUSTOM = f"{COLLATERAL}.custom"
CONTROLLED = f"{SIMULATED},admission.mutate=on"
MEMORY = "resources.limits.memory"
REQUIRED = (
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key=a"
)
NO_AESMD = "aesmd-image-missing"
LITTLE = "memory-limit-too-small"


SAME_LABELS = ",".join(
    f"{section}nodeSelector.{label}=null,{section}nodeSelector.a=b"
    for section, label in (
        ("", NFD_LABEL.replace(".", "\\.")),
        ("simulated.", SIMULATED_LABEL.replace(".", "\\.")),
    )
)


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ("", NO_AESMD, [f"--set {SIMULATED}", f"--set {HELPERLESS}"]),
        ("quoteHelper.aesmd.image.tag=v2", NO_AESMD, []),
        (f"{MIXED},quoteHelper.aesmd.image.digest={DIGEST}", NO_AESMD, []),
        ("simulated.besideHardware=true", "beside-hardware-without-simulation", [f"--set {SIMULATED}"]),
        (f"{MIXED},{SAME_LABELS}", "same-nodes-twice", []),
        ("devicePlugin.accounting=capacity", "capacity-not-supported", ["--set-string admission.mutate=on"]),
        (f"{SIMULATED},simulated.epcMiB=6", "no-epc-left", ["simulated.epcMiB is 6", "6 MiB"]),
        (
            f"{SIMULATED},simulated.epcMiB=28,devicePlugin.reserveEpcMiB=22",
            "no-epc-left",
            ["simulated.epcMiB is 28", "devicePlugin.reserveEpcMiB is 22"],
        ),
        (f"{SIMULATED},quoteHelper.{MEMORY}={MIN_MEMORY_LIMIT_MIB - 1}Mi", LITTLE, [f"quoteHelper.{MEMORY} is 127Mi"]),
        (f"{SIMULATED},devicePlugin.{MEMORY}=63.9Mi", LITTLE, [f"devicePlugin.{MEMORY} is 63.9Mi", "64Mi"]),
        (f"{CONTROLLED},controller.{MEMORY}=127Mi", LITTLE, [f"controller.{MEMORY} is 127Mi"]),
        (f"{AESMD},quoteHelper.aesmd.{MEMORY}=63Mi", LITTLE, [f"quoteHelper.aesmd.{MEMORY} is 63Mi"]),
        (f"{AESMD},quoteHelper.{MEMORY}=127Mi", LITTLE, []),
        (
            f"{SIMULATED},quoteHelper.resources.requests.memory=1Gi",
            "memory-request-above-limit",
            ["quoteHelper.resources.requests.memory is 1Gi", "256Mi"],
        ),
        (f"{AESMD},quoteHelper.aesmd.resources.requests.memory=1Gi", "memory-request-above-limit", []),
        (f"{SIMULATED},provision.policy=false,provision.namespaces[0]=a", "namespaces-without-policy", []),
        *((f"{AESMD},{COLLATERAL}.preset={one}", "collateral-url-missing", []) for one in ("pccs", "custom")),
        (f"{AESMD},{COLLATERAL}.preset=custom,{CUSTOM}.PCCS_URL=https://a/", "collateral-url-missing", []),
        (f"{AESMD},{COLLATERAL}.preset=custom,{CUSTOM}.collateral_service=https://a/", "collateral-url-missing", []),
        *(
            (f"{AKS.name},{AESMD},{one}.{REQUIRED}", "two-node-conditions", [f"{one}.affinity"])
            for one in ("devicePlugin", "quoteHelper")
        ),
    ],
)
def test_values_that_contradict_each_other(template, refused, settings, code, said):
    file, values = split(settings)
    done = template(*values.split(","), values=file)
    assert refused(done) == code
    assert [part for part in said if part not in done.stderr] == []


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        (SIMULATED, ["devicePlugin", "quoteHelper"]),
        (f"{SIMULATED},devicePlugin.image.digest={DIGEST}", ["quoteHelper"]),
        (f"{SIMULATED},devicePlugin.image.digest={DIGEST},quoteHelper.image.repository=our/a.b/x", ["quoteHelper"]),
        (HELPERLESS, ["devicePlugin"]),
        (AESMD, ["devicePlugin", "quoteHelper", "quoteHelper.aesmd"]),
        ("quoteHelper.aesmd.image.repository=a.example/our/aesmd", ["devicePlugin", "quoteHelper"]),
        (f"{AESMD},quoteHelper.aesmd.image.registry=a.example", ["devicePlugin", "quoteHelper"]),
    ],
)
def test_an_image_from_anywhere(template, refused, settings, lacking):
    """An image without a registry comes from docker.io, where confcom/... belongs to somebody else."""
    done = template(*settings.split(","), registry="", more=("--is-upgrade",))
    assert refused(done) == "images-from-anywhere"
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert "--set image.registry=REGISTRY" in lines
    assert " ".join(f"--set {daemon}.image.digest=sha256:DIGEST" for daemon in lacking) in lines


def test_the_chart_in_memory_has_the_charts_words(template):
    """docs/how-to/enable-the-add-on.md quotes these messages."""
    from_anywhere = template(SIMULATED, "admission.mutate=on", registry="")
    for done, words in ((from_anywhere, fake_chart.FROM_ANYWHERE), (template(), fake_chart.NO_AESMD)):
        assert [part for part in words.values() if part not in done.stderr] == []


@pytest.mark.parametrize(
    "settings",
    [
        f"{SIMULATED},simulated.epcMiB=7",
        f"{SIMULATED},quoteHelper.{MEMORY}={MIN_MEMORY_LIMIT_MIB}Mi",
        f"{SIMULATED},quoteHelper.{MEMORY}=131072Ki",
        f"{SIMULATED},quoteHelper.{MEMORY}=0.125Gi",
        f"{SIMULATED},quoteHelper.{MEMORY}=135M",
        f"{SIMULATED},quoteHelper.{MEMORY}={128 * 2**20}",
        f"{SIMULATED},quoteHelper.{MEMORY}=null",
        f"{CONTROLLED},controller.{MEMORY}=128Mi",
        f"{HELPERLESS},quoteHelper.{MEMORY}=16Mi",
        f"{AESMD},quoteHelper.aesmd.{MEMORY}=64Mi,quoteHelper.{MEMORY}=128Mi",
        f"{SIMULATED},{COLLATERAL}.preset=pccs",
        f"{HELPERLESS},devicePlugin.{REQUIRED}",
        f"{SIMULATED},image.registry=docker.io",
    ],
)
def test_values_that_are_just_right(template, settings):
    done = template(*settings.split(","))
    assert done.returncode == 0, done.stderr


def test_names_that_look_like_numbers_stay_text(helm):
    options = f"image.registry=registry.test,{MIXED},serviceMonitor.enabled=true"
    classes = ("--set-string", "devicePlugin.priorityClassName=9999,quoteHelper.priorityClassName=9999")
    done = helm("template", "1234", CHART, "--namespace", "5678", "--set", options, *classes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"1234"') > done.stdout.count("kind: ")
    assert not re.findall(r": (?:1234|5678|9999)\b", done.stdout)
    assert "[5678]" not in done.stdout


def test_a_kubernetes_without_the_policys_api_is_refused(template):
    done = template(SIMULATED, more=("--kube-version", "1.29.9"))
    assert done.returncode != 0
    assert "kubeVersion: >=1.30.0-0" in done.stderr


# Helm applies the chart's schema; here a validator in this process applies the schema to a table.

RESOURCES = {"limits": {"sgx.intel.com/epc": 1}}
OURS = ("devicePlugin", "controller", "quoteHelper")
NOT_A_URL = "https://pccs/sgx/certification/v4/?a=b"
KEY = TEST_ROOT.replace("CERTIFICATE", "PRIVATE KEY")
BY_SCHEMA = [
    ("simulatd", {"epcMiB": 1}),
    ("nodeSelector", {}),
    ("nodeSelectorTerms", [{"matchExpressions": [{"key": "a"}]}]),
    ("tolerations", "all"),
    ("tolerations", [{"effect": "Never"}]),
    ("logLevel", "loud"),
    ("simulated.enabled", "maybe"),
    ("simulated.nodeSelector", {}),
    ("simulated.epcMiB", 0),
    ("simulated.epcMiB", 1_048_577),
    ("simulated.besideHardware", 1),
    ("simulated.quotingEnclave.mrEnclave", "12"),
    ("simulated.quotingEnclave.isvSvn", 65_536),
    ("simulated.staging", "UpToDate"),
    ("simulated.collateral.serve", "yes"),
    ("simulated.collateral.tlsSecret", "a b"),
    ("provision.namespaces", ["Not_A_Name"]),
    ("image.registri", "x"),
    ("image.pullSecrets", ["login"]),
    ("image.pullPolicy", "Sometimes"),
    ("image.registry", "https://example.com"),
    ("image.tag", "a b"),
    ("devicePlugin.maxEpcMiB", 1_048_577),
    ("devicePlugin.accounting", "both"),
    ("devicePlugin.apiServer", "v1.36"),
    ("devicePlugin.reserveEpcMiB", -1),
    ("devicePlugin.aesmdMount", "no"),
    ("devicePlugin.resources.limits.memory", "much"),
    ("devicePlugin.priorityClassName", "A B"),
    ("devicePlugin.affinity", {"nodeafinity": {}}),
    ("devicePlugin.tolerations", [{"efect": "NoSchedule"}]),
    *((f"{one}.image.{key}", "v1") for one in OURS for key in ("registry", "tag", "pullPolicy")),
    ("quoteHelper.image.digest", "sha256:12"),
    ("quoteHelper.epcMiB", 0),
    ("quoteHelper.logQuotesPerPeer", 60_001),
    ("quoteHelper.logQuotesPerPeer", "many"),
    ("quoteHelper.resources", RESOURCES),
    ("quoteHelper.provider", "sgx"),
    ("quoteHelper.sgxPrvGroup", "sgx_prv"),
    ("quoteHelper.sgxPrvGroup", 0),
    ("quoteHelper.sgxPrvGroup", 2**31),
    ("quoteHelper.aesmd.image.repository", "Our/aesmd"),
    ("quoteHelper.aesmd.image.digest", "sha256:1"),
    ("quoteHelper.aesmd.command", "sh"),
    ("quoteHelper.aesmd.resources", RESOURCES),
    ("quoteHelper.expectedRoot", "root.pem"),
    ("quoteHelper.expectedRoot", KEY),
    ("quoteHelper.expectedRoot", TEST_ROOT + KEY),
    ("quoteHelper.expectedRoot", KEY + TEST_ROOT),
    (f"{COLLATERAL}.preset", "google"),
    (f"{COLLATERAL}.url", "https://a/"),
    (f"{COLLATERAL}.pccs.url", "http://pccs/sgx/certification/v4/"),
    (f"{COLLATERAL}.pccs.url", "https://pccs:8081/"),
    (f"{COLLATERAL}.pccs.url", NOT_A_URL),
    (f"{COLLATERAL}.caBundle", "our-ca"),
    (f"{COLLATERAL}.caBundle.key", "a/b"),
    (f"{COLLATERAL}.proxy.https", "proxy:3128"),
    (f"{COLLATERAL}.proxy.ftp", "http://proxy"),
    (CUSTOM, "text"),
    (f"{CUSTOM}.pccs_url", "https://a/v4"),
    (f"{CUSTOM}.pccs_url", "localhost"),
    (f"{CUSTOM}.use_secure_cert", "no"),
    (f"{CUSTOM}.retry_times", 6),
    (f"{CUSTOM}.retry_delay", 10),
    (f"{CUSTOM}.pccs_api_version", 3),
    (f"{CUSTOM}.pck_cache_expire_hours", 2161),
    (f"{CUSTOM}.custom_request_options", {"get_cert": {"headers": {"metadata": 1}}}),
    (f"{CUSTOM}.custom_request_options", {"get_crl": {"headers": {"a": "b"}}}),
    ("networkPolicy.prometheus", [{"pods": "a"}]),
    ("networkPolicy.apiServer", [{}]),
]


def places_refused(path, value):
    """Places in the values at which the schema refuses this one change of the chart's defaults."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    *parents, last = path
    place = values
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    schema = json.loads((CHART / "values.schema.json").read_text())
    return {tuple(error.absolute_path) for error in jsonschema.Draft202012Validator(schema).iter_errors(values)}


@pytest.mark.parametrize(("path", "value"), BY_SCHEMA, ids=[f"{path}={value}"[:60] for path, value in BY_SCHEMA])
def test_a_wrong_value_is_refused_at_its_place(path, value):
    steps = tuple(path.split("."))
    places = places_refused(steps, value)
    assert places
    assert all(place[: len(steps)] == steps[: len(place)] for place in places)


def test_helm_applies_the_schema(template):
    done = template(SIMULATED, "simulated.epcMiB=1048577")
    assert done.returncode != 0
    assert "DaemonSet" not in done.stdout
    assert "at '/simulated/epcMiB': maximum" in done.stderr
