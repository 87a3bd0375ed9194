from dataclasses import replace
from pathlib import Path

import pytest

from confcom.daemon.probes import ProbeAddress
from confcom.device_plugin.resources import DEFAULT_NAMES, ResourceKind, ResourceSettings
from confcom.device_plugin.settings import parse_settings, settings_parser
from confcom.errors import ExitCode, SettingsError
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings, ApiVersion, CapacitySupport


def parse(*arguments, **environ):
    return parse_settings(arguments, prog="plugin", environ=environ)


def test_defaults():
    settings = parse()
    assert settings.simulated_epc_mib is None
    assert settings.resources == ResourceSettings()
    assert settings.resources.accounting == AccountingSettings()
    assert settings.resources.accounting.max_epc_mib is None
    assert settings.installation == "confcom"
    assert settings.device_plugin_dir == Path("/var/lib/kubelet/device-plugins")
    assert settings.aesmd_dir == "/var/run/aesmd"
    assert settings.host_root == Path("/")
    assert settings.probe_address is None


@pytest.mark.parametrize(
    ("flag", "value", "name", "expected"),
    [
        ("--simulated-epc-mib", "28", "simulated_epc_mib", 28),
        ("--installation", "sgx/confcom", "installation", "sgx/confcom"),
        ("--device-plugin-dir", "/d", "device_plugin_dir", Path("/d")),
        ("--aesmd-dir", "/a/b", "aesmd_dir", "/a/b"),
        ("--host-root", "/h", "host_root", Path("/h")),
        ("--probe-address", "unix:/p", "probe_address", ProbeAddress(path=Path("/p"))),
    ],
)
def test_each_setting_has_a_flag_and_a_variable(flag, value, name, expected):
    variable = "CONFCOM_" + flag.removeprefix("--").replace("-", "_").upper()
    assert getattr(parse("--simulated", flag, value), name) == expected
    assert getattr(parse(CONFCOM_SIMULATED="true", **{variable: value}), name) == expected
    assert variable in settings_parser("plugin", {}).format_help()


@pytest.mark.parametrize(
    ("flag", "value", "name", "expected"),
    [
        ("--max-epc-mib", "1048576", "accounting", AccountingSettings(max_epc_mib=1048576)),
        ("--accounting", "capacity", "accounting", AccountingSettings(setting=AccountingSetting.CAPACITY)),
        ("--accounting", "devices", "accounting", AccountingSettings(setting=AccountingSetting.DEVICES)),
        ("--api-server", "1.36", "accounting", AccountingSettings(api_server=ApiVersion(1, 36))),
        ("--api-server", "", "accounting", AccountingSettings()),
        (
            "--capacity-support",
            "policy-off",
            "accounting",
            AccountingSettings(support=CapacitySupport.POLICY_OFF),
        ),
        ("--reserve-epc-mib", "12", "reserve_mib", 12),
        ("--helper-epc-mib", "0", "helper_mib", 0),
        ("--enclave-users", "5", "enclave_users", 5),
        ("--provision-users", "6", "provision_users", 6),
        ("--epc-resource", "a.b/c", "names", DEFAULT_NAMES | {ResourceKind.EPC: "a.b/c"}),
        ("--enclave-resource", "a.b/c", "names", DEFAULT_NAMES | {ResourceKind.ENCLAVE: "a.b/c"}),
        ("--provision-resource", "a.b/c", "names", DEFAULT_NAMES | {ResourceKind.PROVISION: "a.b/c"}),
        ("--helper-resource", "a.b/c", "names", DEFAULT_NAMES | {ResourceKind.HELPER: "a.b/c"}),
    ],
)
def test_resources_can_be_chosen(flag, value, name, expected):
    variable = "CONFCOM_" + flag.removeprefix("--").replace("-", "_").upper()
    for settings in (parse(flag, value), parse(**{variable: value})):
        assert settings.resources == replace(ResourceSettings(), **{name: expected})


def test_the_aesm_directory_can_be_left_out():
    assert parse("--no-aesmd-mount").aesmd_dir is None
    assert parse("--aesmd-dir", "/a", CONFCOM_AESMD_MOUNT="off").aesmd_dir is None
    assert parse("--aesmd-mount", CONFCOM_AESMD_MOUNT="off").aesmd_dir == "/var/run/aesmd"


def test_simulated_alone_is_a_dc8_v2():
    assert parse("--simulated").simulated_epc_mib == 168


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--simulated-epc-mib", "168"), "simulated-not-given"),
        (("--simulated", "--simulated-epc-mib", "0"), "command-line-refused"),
        (("--simulated", "--simulated-epc-mib", "1048577"), "command-line-refused"),
        (("--simulated", "--simulated-epc-mib", "10Mi"), "command-line-refused"),
        (("--max-epc-mib", "0"), "command-line-refused"),
        (("--max-epc-mib", "1048577"), "command-line-refused"),
        (("--accounting", "both"), "command-line-refused"),
        (("--api-server", "latest"), "command-line-refused"),
        (("--capacity-support", "yes"), "command-line-refused"),
        (("--aesmd-dir", "var/run/aesmd"), "command-line-refused"),
        (("--aesmd-dir", ""), "command-line-refused"),
        (("--epc-resource", "sgx.intel.com/enclave"), "resource-name-repeated"),
        (("--epc-resource", "epc"), "command-line-refused"),
        (("--epc-resource", "kubernetes.io/epc"), "command-line-refused"),
        (("--helper-epc-mib", "131073"), "command-line-refused"),
        (("--enclave-users", "0"), "command-line-refused"),
        (("--installation", ""), "command-line-refused"),
        (("--nonsense",), "command-line-refused"),
    ],
)
def test_what_cannot_be_is_refused(arguments, code):
    with pytest.raises(SettingsError) as caught:
        parse(*arguments)
    assert caught.value.error_code == code
    assert caught.value.exit_code is ExitCode.USAGE
    assert code != "command-line-refused" or arguments[-2:][0] in caught.value.what
