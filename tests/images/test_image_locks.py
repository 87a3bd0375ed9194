import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from testkit.documentation import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
NOT_SHIPPED = "dcap-qvl"
"""Package that the images omit, because it is for verifying quotes and no daemon verifies quotes."""
BASE = [one for one in PROJECT["project"]["dependencies"] if not one.startswith(NOT_SHIPPED)]
DAEMON = [one for name in ("client", "daemon") for one in EXTRAS[name] if not one.startswith("confcom[")]
DIRECT = {"daemon": BASE + DAEMON, "build": PROJECT["dependency-groups"]["build"]}
CLI = ["click", NOT_SHIPPED, "pyyaml"]


def pins(name):
    """Versions of the packages in a lock file, keyed by name; each package must have hashes."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements" / f"{name}.lock").read_text().strip()):
        requirement, *hashes = re.split(r"\s+\\\n\s+", entry)
        assert hashes, entry
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes), entry
        package, version = requirement.partition(" ;")[0].split("==")
        found[canonicalize_name(package)] = version
    return found


@pytest.mark.parametrize("name", DIRECT)
def test_a_lock_has_the_dependencies_and_nothing_else(name):
    locked, tested = pins(name), pins("dev")
    for requirement in map(Requirement, DIRECT[name]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement
    needed, ahead = set(), [Requirement(text) for text in DIRECT[name]]
    while ahead:
        requirement = ahead.pop()
        package = canonicalize_name(requirement.name)
        if package not in needed and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            needed.add(package)
            ahead += map(Requirement, metadata.requires(package) or [])
    assert needed == set(locked)
    assert {package: tested[package] for package in locked} == locked  # images have the tested versions


def test_daemons_carry_nothing_of_the_command_line():
    assert not set(CLI) & set(pins("daemon"))
    assert set(CLI) <= set(pins("run"))
