"""The source has the change from the page "Your first change"; it can be undone and made again as on the page."""

import shutil
import subprocess

from testkit.documentation import ROOT, blocks, commands

PAGE = "docs/contributing/your-first-change.md"


def test_it_can_be_taken_back_and_made_again(tmp_path):
    for path in (PAGE, "src/confcom/cli/group.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(ROOT / path, tmp_path / path)
    file, there = "src/confcom/cli/group.py", []
    for line in (one.line for one in commands(PAGE) if "git apply" in one.line):
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        there.append((tmp_path / file).read_text() == (ROOT / file).read_text())
    assert there == [False, True]


def test_the_shown_test_is_that_of_the_file():
    (shown,) = [block for block in blocks(PAGE, "text") if "def test_" in block]
    assert shown.strip() in (ROOT / "tests/cli/test_mistyped_commands.py").read_text()
