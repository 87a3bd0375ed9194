import re
import sys
from pathlib import Path

import pytest

from testkit import cluster_objects as make
from testkit.documentation import PAGES, ROOT, blocks_of
from testkit.fake_chart import new_cluster

README = (ROOT / "README.md").read_text()


def block(heading, language):
    return blocks_of("README.md", heading, language)[0]


@pytest.mark.slow
def test_the_program_section_as_pasted(short_dir, typed):
    """The test pastes all lines at once; then the Python program runs as the section says."""
    (short_dir / ".venv").symlink_to(Path(sys.executable).parent.parent)
    pasted, program = (block("Use it from a program", language) for language in ("sh", "python"))
    (short_dir / "program.py").write_text(f"{program}\nassert len(quote) > 4000")
    done = typed(f"{pasted}code=$?\nconfcom run -- python program.py || code=99\nexit $code\n")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "exit code 3" in pasted
    assert (short_dir / "q.bin").stat().st_size > 4000


STUB = """#!/bin/sh
printf '%s\\n' "${0##*/} $*" >>"$CALLS"
case "${0##*/} $*" in
"kubectl get nodes "*) printf worker-1 ;;
esac
"""


def test_on_a_cluster_as_pasted(short_dir, environment, install, typed):
    """A shell runs all lines with stand-ins; then the confcom commands also run on a cluster in memory."""
    install(kubectl=STUB, confcom=STUB)
    environment |= {"CALLS": str(short_dir / "calls")}
    done = typed("set -eu\n" + block("On a cluster", "sh"))
    assert done.returncode == 0, done.stderr
    calls = [line.split() for line in (short_dir / "calls").read_text().splitlines()]
    for command in ("test", "tcb"):  # tests/node_test and tests/tcb have the Pods and pages that these need
        assert ["confcom", command] in calls
    cluster = new_cluster(make.node("worker-1"), make.node("worker-2"))
    ran = [words[1:] for words in calls if words[0] == "confcom" and words[1] not in {"simulation", "test", "tcb"}]
    for words in ran:
        done = cluster.run(*words)
        assert done.exit_code == 0, f"{words}\n{done.output}"
    assert [words[0] for words in ran] == ["enable", "status", "update", "update", "disable"]
    assert "registry.example.com/mirror" in ran[0][-1]
    assert not cluster.api.find("DaemonSet")


def anchors(page):
    """The targets that links into a page may have; GitHub makes them from the page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def test_links_lead_somewhere():
    missing = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)]+)\)", text):
            name, _, anchor = target.partition("#")
            there = (ROOT / page).parent / name if name else ROOT / page
            if "://" not in target and (not there.exists() or (anchor and anchor not in anchors(there))):
                missing.append(f"{page}: {target}")
    assert missing == []


def test_every_page_is_found_from_the_start():
    start = (ROOT / "docs" / "README.md").read_text()
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/") and "/adr/" not in page}
    assert {page for page in pages - {"README.md"} if f"({page})" not in start} == set()
