import re
import subprocess
import sys

import pytest
import yaml

from confcom.device_plugin.resources import DEFAULT_NAMES
from testkit.documentation import PAGES, ROOT, blocks, text_of

SCRIPTS = ["chart_values", *(path.stem for path in (ROOT / "scripts").glob("*_reference.py"))]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_the_page_is_what_its_script_makes(script):
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_that_pages_name_are_in_the_reference():
    reference = text_of("docs/reference/quote-helper.md") + text_of("docs/reference/device-plugin.md")
    pattern = r"`(confcom_(?:sgx|quote_helper|device_plugin)_\w+)"
    named = {name for page in PAGES for name in re.findall(pattern, text_of(page))}
    assert len(named) > 20
    # A histogram's time series have other names than the histogram.
    assert {name for name in named if f"| `{name.removesuffix('_count')}` |" not in reference} == set()


def test_the_quota_counts_resources_that_there_are():
    (quota,) = yaml.safe_load_all(blocks("docs/how-to/limit-epc-per-namespace.md", "yaml")[0])
    names = {name.removeprefix("requests.") for name in quota["spec"]["hard"]}
    assert all(name.startswith("requests.") for name in quota["spec"]["hard"])
    assert names <= set(DEFAULT_NAMES.values())
