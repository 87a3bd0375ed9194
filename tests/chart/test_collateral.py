import json

import pytest

from testkit.chart_golden import golden
from testkit.chart_manifests import HELPER, containers, daemon, mounts_of, volumes_of

AESMD = "quoteHelper.aesmd.image.repository=our/aesmd"
COLLATERAL = "quoteHelper.collateral"
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
CUSTOM = {
    "pccs_url": "https://pccs.example.com/v4/",
    "use_secure_cert": False,
    "pck_cache_expire_hours": 0.5,
    "retry_times": 3,
    "new_option": {"of a later": ['version, "quoted" \\ and & <odd>\n{{ .Values }}', None, 2**40]},
}


def configuration(manifests):
    text = manifests["ConfigMap", "confcom-collateral"]["data"]["qcnl.conf"]
    # Intel's library uses its older syntax to parse a file that does not begin with "{".
    assert text.startswith("{")
    return json.loads(text)


def test_a_custom_configuration_is_taken_as_it_is(render):
    """The rendered configuration is valid JSON with any custom content."""
    custom = json.dumps({"preset": "custom", "custom": CUSTOM})
    assert configuration(render(AESMD, more=("--set-json", f"{COLLATERAL}={custom}"))) == CUSTOM


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


PROXY = f"{COLLATERAL}.proxy.https=http://proxy.example.com:3128"
AZURE = f"{COLLATERAL}.preset=azure"


@pytest.mark.parametrize(
    ("settings", "no_proxy"),
    [
        ([], None),
        ([AZURE, PROXY], "169.254.169.254"),
        ([AZURE, PROXY, f"{COLLATERAL}.proxy.no=a.example\\,.b.example"], "169.254.169.254,a.example,.b.example"),
        ([PROXY, f"{COLLATERAL}.proxy.no=intel.com"], "intel.com"),
        ([f"{COLLATERAL}.proxy.http=http://10.0.0.1:3128"], None),
    ],
)
def test_who_is_asked_without_the_proxy(render, settings, no_proxy):
    aesmd = containers(daemon(render(AESMD, *settings), HELPER))["aesmd"]
    variables = {one["name"]: one.get("value") for one in aesmd["env"]}
    assert variables.get("no_proxy") == no_proxy
    for scheme in ("http", "https"):
        wanted = [one.partition("=")[2] for one in settings if one.startswith(f"{COLLATERAL}.proxy.{scheme}=")]
        assert variables.get(f"{scheme}_proxy") == (wanted[0] if wanted else None)
