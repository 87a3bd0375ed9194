from dataclasses import fields, replace
from pathlib import Path

import pytest

from confcom.daemon.probe_server import ProbeAddress
from confcom.device_plugin.resources import DEFAULT_NAMES, ResourceKind, ResourceSettings
from confcom.device_plugin.settings import parse_settings, settings_parser
from confcom.errors import ExitCode, SettingsError
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings, ApiVersion, CapacitySupport


def parse(*arguments, **environ):
    return parse_settings(arguments, prog="plugin", environ=environ)


def test_defaults():
    settings = parse()
    assert settings.simulated_epc_mib is settings.probe_address is None
    assert settings.resources == ResourceSettings(accounting=AccountingSettings(max_epc_mib=None))
    assert (settings.installation, settings.aesmd_mount) == ("confcom", True)
    assert settings.device_plugin_dir == Path("/var/lib/kubelet/device-plugins")
    assert settings.host_root == Path("/")
    assert parse("--simulated").simulated_epc_mib == 168


def accounting(**members):
    return {"accounting": AccountingSettings(**members)}


def names(kind):
    return {"names": DEFAULT_NAMES | {kind: "a.b/c"}}


@pytest.mark.parametrize(
    ("flag", "value", "changed"),
    [
        ("--simulated-epc-mib", "28", {"simulated_epc_mib": 28}),
        ("--installation", "sgx/confcom", {"installation": "sgx/confcom"}),
        ("--device-plugin-dir", "/d", {"device_plugin_dir": Path("/d")}),
        ("--host-root", "/h", {"host_root": Path("/h")}),
        ("--probe-address", "unix:/p", {"probe_address": ProbeAddress(path=Path("/p"))}),
        ("--max-epc-mib", "1048576", accounting(max_epc_mib=1048576)),
        ("--accounting", "capacity", accounting(setting=AccountingSetting.CAPACITY)),
        ("--accounting", "devices", accounting(setting=AccountingSetting.DEVICES)),
        ("--api-server", "1.36", accounting(api_server=ApiVersion(1, 36))),
        ("--api-server", "", accounting()),
        ("--capacity-support", "policy-off", accounting(support=CapacitySupport.POLICY_OFF)),
        ("--reserve-epc-mib", "12", {"reserve_mib": 12}),
        ("--helper-epc-mib", "0", {"helper_mib": 0}),
        ("--epc-resource", "a.b/c", names(ResourceKind.EPC)),
        ("--enclave-resource", "a.b/c", names(ResourceKind.ENCLAVE)),
        ("--provision-resource", "a.b/c", names(ResourceKind.PROVISION)),
        ("--helper-resource", "a.b/c", names(ResourceKind.HELPER)),
    ],
)
def test_each_setting_has_a_flag_and_a_variable(flag, value, changed):
    variable = "CONFCOM_" + flag.removeprefix("--").replace("-", "_").upper()
    settings = parse("--simulated", flag, value)
    assert parse(CONFCOM_SIMULATED="true", **{variable: value}) == settings
    default = parse("--simulated")
    if changed.keys() <= {field.name for field in fields(default.resources)}:
        assert settings.resources == replace(default.resources, **changed)
    else:
        assert settings == replace(default, **changed)
    assert variable in {flag.variable for flag in settings_parser("plugin", {}).flags}


def test_the_aesm_directory_can_be_left_out():
    assert not parse("--no-aesmd-mount").aesmd_mount
    assert not parse(CONFCOM_AESMD_MOUNT="off").aesmd_mount
    assert parse("--aesmd-mount", CONFCOM_AESMD_MOUNT="off").aesmd_mount


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--simulated-epc-mib", "168"), "simulated-not-given"),
        (("--epc-resource", "sgx.intel.com/enclave"), "resource-name-repeated"),
        *(
            (arguments, "command-line-refused")
            for arguments in (
                *(("--simulated", "--simulated-epc-mib", value) for value in ("0", "1048577", "10Mi")),
                *(("--max-epc-mib", value) for value in ("0", "1048577")),
                *(("--epc-resource", value) for value in ("epc", "kubernetes.io/epc")),
                *(("--accounting", "both"), ("--api-server", "latest"), ("--capacity-support", "yes")),
                *(("--helper-epc-mib", "131073"), ("--nonsense",)),
            )
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments, code):
    with pytest.raises(SettingsError) as caught:
        parse(*arguments)
    assert caught.value.error_code == code
    assert caught.value.exit_code is ExitCode.USAGE
    assert code != "command-line-refused" or arguments[-2:][0] in caught.value.what
