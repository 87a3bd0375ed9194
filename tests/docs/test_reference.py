"""What is looked up in the reference is made from the code that it is about."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from confcom.device_plugin.kubelet.registration import RegistrationCause
from confcom.device_plugin.metrics import PluginMetrics

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path):
    """The scripts and the pages that they write, to be changed."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs" / "reference", tmp_path / "docs" / "reference")
    return tmp_path


def check(root):
    command = [sys.executable, str(root / "scripts" / "daemon_reference.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_daemons_pages_have_their_flags_and_metrics():
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("word", ["`--aesmd-dir DIR`", "`confcom_sgx_epc_bytes`", "`CONFCOM_RESERVE_EPC_MIB` | 0"])
def test_a_page_that_lacks_one_is_noticed(copy, word):
    page = copy / "docs" / "reference" / "device-plugin.md"
    page.write_text(page.read_text().replace(word, "`gone`"))
    done = check(copy)
    assert done.returncode == 1
    assert "docs/reference/device-plugin.md" in done.stdout
    assert "run: python scripts/daemon_reference.py" in done.stdout


def test_a_page_without_the_comments_is_told(copy):
    page = copy / "docs" / "reference" / "quote-helper.md"
    page.write_text(page.read_text().replace("<!-- end of flags -->", ""))
    done = check(copy)
    assert done.returncode == 1
    assert "quote-helper.md lacks the lines between which the flags stand" in done.stderr


def test_the_help_of_registrations_has_every_cause():
    registry = CollectorRegistry()
    PluginMetrics(registry)
    (text,) = [one.documentation for one in registry.collect() if one.name == "confcom_device_plugin_registrations"]
    assert set(re.findall(r"\w+", text.partition(": ")[2])) == {*RegistrationCause, "or"}


def test_the_page_of_epc_patterns_is_the_table_of_cases():
    command = [sys.executable, str(ROOT / "scripts" / "epc_patterns_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
