"""The package, the chart, pages, examples and Dockerfiles all name the same version."""

import re

import pytest
import yaml

import confcom
from testkit.documentation import PAGES, ROOT

VERSION = confcom.__version__
OURS = re.compile(
    r"(?:\bconfcom/[$\w-]+:|\bVERSION=|\bready \(?|^confcom |^## |^\| looked at \| "
    r"|\bconfcom(?:-\w+)?[-:]|\bconfcom\[\w+\]==|/confcom --version |\bdist/)(\d+\.\d+\.\d+)\b",
    re.MULTILINE,
)
"""Places with our version: images, the build argument, outputs, files of a release, the changelog."""
OTHERS = re.compile(r"\[[\d.]+\]\(https://\S+\)|Helm chart \([\d.]+\)")
"""Versions of other projects on the page that compares them."""
UPDATES = {"docs/how-to/enable-the-add-on.md"}
"""Pages that begin with this version, and show updates to later ones."""
FILES = [
    *PAGES,
    *(str(path.relative_to(ROOT)) for name in ("examples/*.yaml", "images/**/Dockerfile") for path in ROOT.glob(name)),
]


def number(version):
    return tuple(map(int, version.split(".")))


def test_the_chart_has_the_packages():
    chart = yaml.safe_load((ROOT / "charts" / "confcom" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


@pytest.mark.parametrize("name", FILES)
def test_a_text_that_names_a_version_names_this_one(name):
    text = (ROOT / name).read_text()
    named = OURS.findall(text)
    if name in UPDATES:
        assert named[0] == min(named, key=number) == VERSION
    else:
        assert {*named} <= {VERSION}
    assert VERSION not in re.sub(OTHERS, "", re.sub(OURS, "", text)), "in a form that OURS lacks"


def test_each_kind_of_text_names_it():
    naming = {name for name in FILES if VERSION in OURS.findall((ROOT / name).read_text())}
    assert naming >= {"CHANGELOG.md", "docs/how-to/build-images.md", "examples/job.yaml", "images/aesmd/Dockerfile"}
