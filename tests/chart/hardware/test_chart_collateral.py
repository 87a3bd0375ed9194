"""Where hardware's certificates come from: sgx_default_qcnl.conf by preset, who has it, proxy, CA, and the network."""

import json

import pytest

from testkit.chart_manifests import AESMD, HELPER, containers, daemon, mounts_of, volumes_of

COLLATERAL = "quoteHelper.collateral"
CONFIGURATION = "/etc/sgx_default_qcnl.conf"
CACHE = "/var/cache/collateral"
INTEL = "https://api.trustedservices.intel.com/sgx/certification/v4/"
AZURE_CACHE = "https://global.acccache.azure.net/sgx/certification/v4/"
THIM = "http://169.254.169.254/metadata/THIM/sgx/certification/v4/"
PCCS = "https://pccs.example.com:8081/sgx/certification/v4/"
ALIBABA, ALIBABA_VPC = (
    f"https://sgx-dcap-server{one}.cn-hongkong.aliyuncs.com/sgx/certification/v4/" for one in ("", "-vpc")
)
COMMON = {
    "use_secure_cert": True,
    "retry_times": 1,
    "retry_delay": 1,
    "pck_cache_expire_hours": 168,
    "verify_collateral_cache_expire_hours": 168,
}
BY_AZURE = COMMON | {
    "local_pck_url": THIM,
    "pccs_url": AZURE_CACHE,
    "collateral_service": INTEL,
    "pccs_api_version": "3.1",
    "pck_cache_expire_hours": 48,
    "verify_collateral_cache_expire_hours": 48,
    "custom_request_options": {
        "get_cert": {"headers": {"metadata": "true"}, "params": {"api-version": "2021-07-22-preview"}}
    },
}
BY_INTEL = COMMON | {"pccs_url": INTEL, "collateral_service": INTEL, "pccs_api_version": "3.1"}
REGION = f"{COLLATERAL}.alibaba.region=cn-hongkong"
PROXY = f"{COLLATERAL}.proxy.https=http://proxy.example.com:3128"
CA = f"{COLLATERAL}.caBundle.configMap=our-ca"
DNS_PORTS = {("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)}


def preset(name):
    return f"{COLLATERAL}.preset={name}"


@pytest.fixture(scope="module")
def with_everything(plain_render):
    return plain_render(AESMD, preset("azure"), PROXY, CA, f"{COLLATERAL}.proxy.http=http://10.0.0.1")


def configuration(manifests):
    text = manifests["ConfigMap", "confcom-collateral"]["data"]["qcnl.conf"]
    # Intel's library reads what does not begin so as its older syntax.
    assert text.startswith("{")
    return json.loads(text)


def annotations(manifests, name=HELPER):
    return manifests["DaemonSet", name]["spec"]["template"]["metadata"]["annotations"]


def variables(container):
    return {one["name"]: one.get("value") for one in container.get("env", [])}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), BY_INTEL),
        ((preset("azure"),), BY_AZURE),
        ((preset("pccs"), f"{COLLATERAL}.pccs.url={PCCS}"), COMMON | {"pccs_url": PCCS}),
        ((preset("pccs"), f"{COLLATERAL}.pccs.url={PCCS.removesuffix('/')}"), COMMON | {"pccs_url": PCCS}),
        ((preset("alibaba"), REGION), COMMON | {"pccs_url": ALIBABA_VPC}),
        ((preset("alibaba"), REGION, f"{COLLATERAL}.alibaba.vpc=false"), COMMON | {"pccs_url": ALIBABA}),
    ],
    ids=["the default", "azure", "pccs", "pccs without a slash", "alibaba", "alibaba outside"],
)
def test_presets(plain_render, settings, expected):
    assert configuration(plain_render(AESMD, *settings)) == expected


def test_a_custom_configuration_is_taken_as_it_is_and_parses_whatever_is_in_it(plain_render, values_file):
    custom = {
        "pccs_url": "https://pccs.example.com/v4/",
        "use_secure_cert": False,
        "pck_cache_expire_hours": 0.5,
        "retry_times": 3,
        "new_option": {"of a later": ['version, "quoted" \\ and & <odd>\n{{ .Values }}', None, 2**40]},
    }
    values = values_file({"quoteHelper": {"collateral": {"preset": "custom", "custom": custom}}})
    assert configuration(plain_render(AESMD, values=values)) == custom


def test_a_change_of_it_replaces_the_pods_and_no_other_change_does(plain_render):
    def checksum(*settings):
        return annotations(plain_render(AESMD, *settings))["checksum/collateral"]

    assert checksum() == checksum("networkPolicy.enabled=true", CA) != checksum(preset("azure"))


def test_a_change_of_the_test_root_replaces_the_pods(plain_render, values_file):
    def checksum(content):
        root = f"-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n"
        manifests = plain_render(AESMD, values=values_file({"quoteHelper": {"expectedRoot": root}}))
        return annotations(manifests)["checksum/expected-root"]

    assert checksum("MIIA") != checksum("MIIB")


def test_simulated_pods_are_not_replaced_by_it(plain_render):
    mixed = ("simulated.enabled=true", "simulated.besideHardware=true", AESMD)
    assert not [one for one in annotations(plain_render(*mixed), f"{HELPER}-simulated") if one.startswith("checksum")]


# The container that has Intel's library, and no other.


def test_who_has_it(plain_render):
    pod = daemon(plain_render(AESMD, CA, PROXY), HELPER)
    for name, container in containers(pod).items():
        paths = {mount["mountPath"] for mount in mounts_of(container).values()}
        mine = {CONFIGURATION, CACHE, "/etc/ssl/certs/ca-certificates.crt"}
        assert paths & mine == (mine if name == "aesmd" else set())
        assert ("https_proxy" in variables(container)) is (name == "aesmd")


def test_the_cache_is_in_memory_and_limited_and_is_where_the_library_looks(with_everything):
    pod = daemon(with_everything, HELPER)
    assert volumes_of(pod)["collateral-cache"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Mi"}
    sidecar = containers(pod)["aesmd"]
    assert mounts_of(sidecar)["collateral-cache"]["mountPath"] == CACHE
    assert {variables(sidecar)[name] for name in ("HOME", "AZDCAP_CACHE")} == {CACHE}


def test_the_file_is_the_config_maps(with_everything):
    pod = daemon(with_everything, HELPER)
    mount = mounts_of(containers(pod)["aesmd"])["collateral"]
    assert (mount["mountPath"], mount["readOnly"]) == (CONFIGURATION, True)
    volume = volumes_of(pod)["collateral"]["configMap"]
    assert volume["name"] == "confcom-collateral"
    assert volume["items"] == [{"key": "qcnl.conf", "path": mount["subPath"]}]
    assert ("ConfigMap", volume["name"]) in with_everything


def test_a_private_ca_lies_over_the_systems(plain_render, with_everything):
    pod = daemon(plain_render(AESMD, CA, f"{COLLATERAL}.caBundle.key=all.pem"), HELPER)
    mount = mounts_of(containers(pod)["aesmd"])["ca-bundle"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/ssl/certs/ca-certificates.crt", True)
    assert volumes_of(pod)["ca-bundle"]["configMap"] == {
        "name": "our-ca",
        "items": [{"key": "all.pem", "path": mount["subPath"]}],
    }
    assert (
        volumes_of(daemon(with_everything, HELPER))["ca-bundle"]["configMap"]["items"][0]["key"]
        == "ca-certificates.crt"
    )
    assert "ca-bundle" not in volumes_of(daemon(plain_render(AESMD), HELPER))


def test_the_proxy_is_not_asked_for_what_only_the_node_can_reach(plain_render, with_everything):
    sidecar = containers(daemon(with_everything, HELPER))["aesmd"]
    assert variables(sidecar) == {
        "HOME": CACHE,
        "AZDCAP_CACHE": CACHE,
        "https_proxy": "http://proxy.example.com:3128",
        "http_proxy": "http://10.0.0.1",
        "no_proxy": "169.254.169.254",
    }
    settings = (PROXY, f"{COLLATERAL}.proxy.no=a.example\\,.b.example")
    for name, expected in (("intel", "a.example,.b.example"), ("azure", "169.254.169.254,a.example,.b.example")):
        sidecar = containers(daemon(plain_render(AESMD, preset(name), *settings), HELPER))["aesmd"]
        assert variables(sidecar)["no_proxy"] == expected


def test_without_a_proxy_nothing_is_said_of_one(plain_render):
    sidecar = containers(daemon(plain_render(AESMD, preset("azure")), HELPER))["aesmd"]
    assert set(variables(sidecar)) == {"HOME", "AZDCAP_CACHE"}


# The network.


def reached(manifests):
    """Address block, protocol and port of what may be connected to, without DNS."""
    found = set()
    for rule in manifests["NetworkPolicy", "confcom-collateral"]["spec"]["egress"]:
        (block,) = [one["ipBlock"]["cidr"] for one in rule.get("to", [])] or [None]
        found |= {(block, one["protocol"], one["port"]) for one in rule["ports"]}
    dns = {(None, *one) for one in DNS_PORTS}
    assert dns <= found
    return found - dns


ANYWHERE = (None, "TCP", 443)
ON_THE_NODE = ("169.254.169.254/32", "TCP", 80)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), (ANYWHERE,)),
        ((preset("azure"),), (ON_THE_NODE, ANYWHERE)),
        ((preset("pccs"), f"{COLLATERAL}.pccs.url={PCCS}"), ((None, "TCP", 8081),)),
        (
            (preset("pccs"), f"{COLLATERAL}.pccs.url={PCCS.replace('pccs.example.com', '10.1.2.3')}"),
            (("10.1.2.3/32", "TCP", 8081),),
        ),
        (
            (preset("pccs"), f"{COLLATERAL}.pccs.url={PCCS.replace('pccs.example.com', '[fd00::1]')}"),
            (("fd00::1/128", "TCP", 8081),),
        ),
        ((preset("alibaba"), REGION), (ANYWHERE,)),
        ((preset("azure"), PROXY), (ON_THE_NODE, (None, "TCP", 3128))),
        ((PROXY, f"{COLLATERAL}.proxy.no=intel.com"), (ANYWHERE,)),
        ((PROXY, f"{COLLATERAL}.proxy.no=tel.com"), ((None, "TCP", 3128),)),
        ((f"{COLLATERAL}.proxy.https=http://10.0.0.1",), (("10.0.0.1/32", "TCP", 80),)),
        ((f"{COLLATERAL}.proxy.http=http://10.0.0.1:3128",), (ANYWHERE,)),
        ((preset("custom"), f"{COLLATERAL}.custom.local_cache_only=true"), ()),
    ],
    ids=str,
)
def test_what_the_network_policy_lets_out(plain_render, settings, expected):
    assert reached(plain_render(AESMD, "networkPolicy.enabled=true", *settings)) == set(expected)


def test_it_is_about_the_hardware_helper_alone(plain_render):
    mixed = ("simulated.enabled=true", "simulated.besideHardware=true", "networkPolicy.enabled=true")
    manifests = plain_render(*mixed, AESMD)
    policy = manifests["NetworkPolicy", "confcom-collateral"]["spec"]
    assert policy["policyTypes"] == ["Egress"]
    wanted = policy["podSelector"]["matchLabels"].items()
    pods = {name: one["spec"]["template"] for (kind, name), one in manifests.items() if kind in {"DaemonSet", "Job"}}
    assert [name for name, one in pods.items() if wanted <= one["metadata"]["labels"].items()] == [HELPER]
    # All others connect to nothing, the simulated helper among them.
    assert manifests["NetworkPolicy", "confcom"]["spec"]["egress"] == []
    assert ("NetworkPolicy", "confcom-collateral") not in plain_render(*mixed)


def test_without_the_value_there_is_no_policy(plain_render):
    assert not any(kind == "NetworkPolicy" for kind, _ in plain_render(AESMD))
