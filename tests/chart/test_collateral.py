"""Where hardware's certificates come from: sgx_default_qcnl.conf, who has it, proxy, CA, and the network."""

import json

import pytest

from testkit.chart_golden import SETS, golden
from testkit.chart_manifests import HELPER, containers, daemon, mounts_of, volumes_of

AESMD = "quoteHelper.aesmd.image.repository=our/aesmd"
COLLATERAL = "quoteHelper.collateral"
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
HARDWARE = ("hardware-aesmd", "hardware-collateral", "aks", "beside-hardware")
CUSTOM = {
    "pccs_url": "https://pccs.example.com/v4/",
    "use_secure_cert": False,
    "pck_cache_expire_hours": 0.5,
    "retry_times": 3,
    "new_option": {"of a later": ['version, "quoted" \\ and & <odd>\n{{ .Values }}', None, 2**40]},
}


def configuration(manifests):
    text = manifests["ConfigMap", "confcom-collateral"]["data"]["qcnl.conf"]
    # Intel's library reads what does not begin so as its older syntax.
    assert text.startswith("{")
    return json.loads(text)


def annotations(manifests, name=HELPER):
    return manifests["DaemonSet", name]["spec"]["template"]["metadata"]["annotations"]


def variables(container):
    return {one["name"]: one.get("value") for one in container.get("env", [])}


def aesmd_of(manifests):
    return containers(daemon(manifests, HELPER))["aesmd"]


def test_a_custom_configuration_is_taken_as_it_is(render):
    """It parses, whatever is in it."""
    custom = json.dumps({"preset": "custom", "custom": CUSTOM})
    assert configuration(render(AESMD, more=("--set-json", f"{COLLATERAL}={custom}"))) == CUSTOM


def test_another_configuration_or_root_is_another_pod():
    rendered = [golden(name) for name in HARDWARE]
    sums = {json.dumps(configuration(one)): annotations(one)["checksum/collateral"] for one in rendered}
    assert len(sums) == len(set(sums.values())) == 3
    assert [one for one in rendered if "checksum/expected-root" in annotations(one)] == [golden("hardware-collateral")]
    simulated = annotations(golden("beside-hardware"), f"{HELPER}-simulated")
    assert not [one for one in simulated if one.startswith("checksum")]


def test_a_private_ca_lies_over_the_systems():
    pod = daemon(golden("hardware-collateral"), HELPER)
    mounted = {name: mounts_of(one).get("ca-bundle") for name, one in containers(pod).items()}
    mount = mounted.pop("aesmd")
    assert (mount["mountPath"], mount["readOnly"]) == (SYSTEM_CA, True)
    assert set(mounted.values()) == {None}
    assert volumes_of(pod)["ca-bundle"]["configMap"] == {
        "name": "our-ca",
        "items": [{"key": "all.pem", "path": mount["subPath"]}],
    }
    assert "ca-bundle" not in volumes_of(daemon(golden("aks"), HELPER))


# The network.

RUN = ("DaemonSet", "Deployment", "Job")
DNS = {(None, protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)}
ANYWHERE, ON_THE_NODE, BY_PROXY = (None, "TCP", 443), ("169.254.169.254/32", "TCP", 80), (None, "TCP", 3128)
PROXY = f"{COLLATERAL}.proxy.https=http://proxy.example.com:3128"
AZURE = f"{COLLATERAL}.preset=azure"


def reached(manifests):
    """Address block, protocol and port of what may be connected to, without DNS."""
    found = set()
    for rule in manifests["NetworkPolicy", "confcom-collateral"]["spec"]["egress"]:
        (block,) = [one["ipBlock"]["cidr"] for one in rule.get("to", [])] or [None]
        found |= {(block, one["protocol"], one["port"]) for one in rule["ports"]}
    assert found >= DNS
    return found - DNS


def pccs(host):
    return f"{COLLATERAL}.preset=pccs,{COLLATERAL}.pccs.url=https://{host}:8081/sgx/certification/v4/"


@pytest.mark.parametrize(
    ("settings", "wanted", "no_proxy"),
    [
        ("", {ANYWHERE}, None),
        (pccs("pccs.example.com"), {(None, "TCP", 8081)}, None),
        (pccs("[fd00::1]"), {("fd00::1/128", "TCP", 8081)}, None),
        (f"{AZURE},{PROXY}", {ON_THE_NODE, BY_PROXY}, "169.254.169.254"),
        (
            f"{AZURE},{PROXY},{COLLATERAL}.proxy.no=a.example\\,.b.example",
            {ON_THE_NODE, BY_PROXY},
            "169.254.169.254,a.example,.b.example",
        ),
        (f"{PROXY},{COLLATERAL}.proxy.no=intel.com", {ANYWHERE}, "intel.com"),
        (f"{PROXY},{COLLATERAL}.proxy.no=tel.com", {BY_PROXY}, "tel.com"),
        (f"{COLLATERAL}.proxy.https=http://10.0.0.1", {("10.0.0.1/32", "TCP", 80)}, None),
        (f"{COLLATERAL}.proxy.http=http://10.0.0.1:3128", {ANYWHERE}, None),
        (f"{COLLATERAL}.preset=custom,{COLLATERAL}.custom.local_cache_only=true", set(), None),
    ],
)
def test_what_the_network_policy_lets_out(render, settings, wanted, no_proxy):
    manifests = render(AESMD, "networkPolicy.enabled=true", *filter(None, [settings]))
    assert reached(manifests) == wanted
    assert variables(aesmd_of(manifests)).get("no_proxy") == no_proxy


@pytest.mark.parametrize("name", SETS)
def test_it_is_about_the_hardware_helper_alone(name):
    manifests = golden(name)
    policy = manifests.get(("NetworkPolicy", "confcom-collateral"), {}).get("spec")
    assert bool(policy) is (name in HARDWARE and ("NetworkPolicy", "confcom") in manifests)
    if policy:
        wanted = policy["podSelector"]["matchLabels"].items()
        labels = {key: one["spec"]["template"]["metadata"]["labels"] for key, one in manifests.items() if key[0] in RUN}
        assert [key for key, one in labels.items() if wanted <= one.items()] == [("DaemonSet", HELPER)]
        # All others connect to nothing, the simulated helper among them.
        assert manifests["NetworkPolicy", "confcom"]["spec"]["egress"] == []
