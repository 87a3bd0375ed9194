from pathlib import Path

import pytest

from confcom.daemon.probes import ProbeAddress
from confcom.device_plugin.settings import parse_settings, settings_parser
from confcom.errors import ExitCode, SettingsError


def parse(*arguments, **environ):
    return parse_settings(arguments, prog="plugin", environ=environ)


def test_defaults():
    settings = parse()
    assert settings.simulated_epc_mib is None
    assert settings.max_epc_mib == 2048
    assert settings.device_plugin_dir == Path("/var/lib/kubelet/device-plugins")
    assert settings.aesmd_dir == "/var/run/aesmd"
    assert settings.host_root == Path("/")
    assert settings.probe_address is None


@pytest.mark.parametrize(
    ("flag", "value", "name", "expected"),
    [
        ("--simulated-epc-mib", "28", "simulated_epc_mib", 28),
        ("--max-epc-mib", "262144", "max_epc_mib", 262144),
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


def test_simulated_alone_is_a_dc8_v2():
    assert parse("--simulated").simulated_epc_mib == 168


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--simulated-epc-mib", "168"), "without --simulated"),
        (("--simulated", "--simulated-epc-mib", "0"), "from 1 to"),
        (("--simulated", "--simulated-epc-mib", "1048577"), "from 1 to"),
        (("--simulated", "--simulated-epc-mib", "10Mi"), "whole number"),
        (("--max-epc-mib", "0"), "from 1 to 262144"),
        (("--aesmd-dir", "var/run/aesmd"), "absolute"),
        (("--aesmd-dir", ""), "empty"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(SettingsError) as caught:
        parse(*arguments)
    assert words in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_the_help_says_that_flags_have_variables():
    assert "environment variable named beside it; a flag wins" in settings_parser("plugin", {}).format_help()
