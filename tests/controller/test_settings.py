import pytest

from confcom.controller.facts import Release
from confcom.controller.settings import settings_parser
from confcom.errors import SettingsError


def test_defaults():
    settings = settings_parser("", {}).parse([])
    assert settings.installation == Release("confcom-system", "confcom")
    assert settings.node_selector == ("",)
    assert settings.rules.resources == ("kubernetes.azure.com/sgx_epc_mem_in_MiB",)
    assert (settings.rules.maximum_mib, settings.rules.gone_seconds) == (1048576, 300)
    assert settings.plugin_port == 8080


def test_flags_and_variables():
    environ = {"CONFCOM_EPC_RESOURCE": "example.com/a,example.com/b", "CONFCOM_GONE_SECONDS": "7"}
    flags = ["--installation", "ns/other", "--gone-seconds", "8", "--node-selector", "a=b,c in (d,e);f"]
    settings = settings_parser("", environ).parse(flags)
    assert settings.node_selector == ("a=b,c in (d,e)", "f")
    assert settings.installation == Release("ns", "other")
    assert settings.rules.resources == ("example.com/a", "example.com/b")
    assert settings.rules.gone_seconds == 8


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epc-resource", "cpu"],
        ["--epc-resource", "example.com/a,example.com/a"],
        ["--epc-resource", "kubernetes.io/a"],
        ["--installation", "confcom"],
        ["--node-selector", "a=b;"],
        ["--max-epc-mib", "0"],
        ["--gone-seconds", "0"],
        ["--plugin-port", "70000"],
    ],
)
def test_what_cannot_be(arguments):
    with pytest.raises(SettingsError):
        settings_parser("", {}).parse(arguments)
