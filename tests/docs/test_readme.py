"""The README's commands, run as they stand there; links that lead somewhere."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from documentation import PAGES, ROOT

README = (ROOT / "README.md").read_text()


def block(heading, language):
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


@pytest.fixture
def home():
    folder = Path(tempfile.mkdtemp(prefix="crm-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def shell(home):
    """Runs shell text with `confcom` and `python` of this environment, in a home and folder of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "XDG_"))}
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = inherited | {"HOME": str(home), "PATH": search}
    started = []

    def start(text):
        text = text.replace("/tmp/aesmd/", f"{home}/aesmd/")
        command = ["/bin/sh", "-c", f"exec {text}" if text.startswith("confcom quote-helper") else text]
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=-1, stderr=-1, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.mark.slow
def test_point_your_program_at_it(shell, home):
    activate, helper, *rest = block("Point your program at it", "sh").splitlines()
    assert activate.startswith(". .venv/bin/activate")
    shell(helper)
    deadline = time.monotonic() + 20
    while not (home / "aesmd" / "aesm.socket").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    following = shell("\n".join(rest))
    out, err = following.communicate(timeout=50)
    assert following.returncode == 3, out + err
    assert "exit code 3" in block("Point your program at it", "sh")
    assert "SIMULATED-NOT-INTEL!" in out
    assert (home / "q.bin").stat().st_size > 4000
    program = block("Point your program at it", "python") + "\nassert len(quote) > 4000"
    (home / "program.py").write_text(program.replace("/tmp/aesmd/", f"{home}/aesmd/"))
    done = shell("python program.py")
    out, err = done.communicate(timeout=50)
    assert done.returncode == 0, out + err


def anchors(page):
    """Where links into a page may lead: its headings, in GitHub's spelling."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    missing = []
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (ROOT / page).parent / name if name else ROOT / page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            missing.append(target)
    assert not missing


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/") and "/adr/" not in page])
def test_every_page_is_found_from_the_start(page):
    start = ROOT / "docs" / "README.md"
    assert page == "docs/README.md" or f"({Path(page).relative_to('docs')})" in start.read_text()


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    wanted = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= wanted
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in wanted)
