"""What is looked up in the reference is made from the code that it is about."""

import re
import subprocess
import sys

import pytest

from testkit.documentation import PAGES, ROOT, text_of


@pytest.mark.parametrize("script", ["daemon_reference", "epc_patterns_reference", "scale_from_zero_reference"])
def test_the_page_is_what_its_script_makes(script):
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_that_pages_name_are_in_the_reference():
    reference = text_of("docs/reference/quote-helper.md") + text_of("docs/reference/device-plugin.md")
    pattern = r"`(confcom_(?:sgx|quote_helper|device_plugin)_\w+)"
    named = {name for page in PAGES for name in re.findall(pattern, text_of(page))}
    assert len(named) > 20
    assert {name for name in named if f"| `{name}` |" not in reference} == set()
