"""A promised name that goes without a line in the changelog stops a release."""

import shutil
import subprocess
import sys

import pytest

from testkit.documentation import ROOT

GIT = ("git", "-c", "user.name=case", "-c", "user.email=case@example.com", "-c", "init.defaultBranch=main")
VERDICT = "src/confcom/verify/verdict.py"
RENAMED = (VERDICT, "def require_ok(", "def demand_ok(")
OPTIONAL = ("src/confcom/verify/files.py", "quote: bytes | None = None", "other: bytes | None = None")
PRIVATE = ("src/confcom/cli/group.py", "def ", "def other_")


@pytest.fixture
def checkout(tmp_path):
    """The package and a changelog in a repository of its own, with one commit."""
    ignored = shutil.ignore_patterns("__pycache__", "chart", "examples")
    shutil.copytree(ROOT / "src" / "confcom", tmp_path / "src" / "confcom", ignore=ignored)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=first"]):
        subprocess.run([*GIT, *command], cwd=tmp_path, check=True)
    return tmp_path


def compare(checkout):
    command = [sys.executable, str(ROOT / "scripts" / "api_changes.py"), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def test_a_first_release_has_nothing_to_compare_with(checkout):
    assert compare(checkout) == (0, "there is no earlier release: nothing to compare with\n")


@pytest.mark.parametrize(
    ("edit", "changelog", "named"),
    [
        (PRIVATE, "", ()),
        (RENAMED, "", ("confcom.verify: Verdict.require_ok",)),
        (RENAMED, "## 0.1.0\n### Removed\n- `Verdict.require_ok`: call `demand_ok`.\n", ()),
        (RENAMED, "## 0.1.0\n### Removed\n- `Verdict`\n", ("Verdict.require_ok",)),
        (RENAMED, "## 0.1.0\n### Added\n- `Verdict.require_ok`\n", ("Verdict.require_ok",)),
        (RENAMED, "## 0.2.0\n### Removed\n- `Verdict.require_ok`\n## 0.1.0\n", ("Verdict.require_ok",)),
        (OPTIONAL, "", ("confcom.verify: read_collateral(quote)",)),
        (OPTIONAL, "## 0.1.0\n### Changed\n- `read_collateral(quote)` is `other`.\n", ()),
    ],
)
def test_changes_that_the_changelog_must_name(checkout, edit, changelog, named):
    subprocess.run([*GIT, "tag", "v0.0.9"], cwd=checkout, check=True)
    path, before, after = edit
    text = (checkout / path).read_text()
    assert before in text
    (checkout / path).write_text(text.replace(before, after))
    (checkout / "CHANGELOG.md").write_text(changelog)
    code, out = compare(checkout)
    assert code == bool(named)
    assert all(name in out for name in named)
    assert len(out.splitlines()) == 1 + len(named)
