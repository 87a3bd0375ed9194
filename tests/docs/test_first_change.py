"""The change of the page "Your first change" is in the tree, and can be taken back as the page says."""

import shutil
import subprocess

from testkit.documentation import ROOT, commands

PAGE = "docs/contributing/your-first-change.md"


def test_it_can_be_taken_back(tmp_path):
    for path in (PAGE, "src/confcom/cli/group.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(ROOT / path, tmp_path / path)
    line = commands(PAGE)[0].line
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "src/confcom/cli/group.py").read_text() != (ROOT / "src/confcom/cli/group.py").read_text()
