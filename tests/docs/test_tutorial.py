"""The first half of docs/tutorial/first-quote.md, on this machine, as it stands but for the folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from documentation import commands, text_of

PAGE = "docs/tutorial/first-quote.md"
FOLDER = "/tmp/first-quote"
UP = "Everything stays up until Ctrl-C"


@pytest.fixture
def folder():
    place = Path(tempfile.mkdtemp(prefix="ctu-", dir="/tmp"))
    place.rmdir()
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def environment():
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "XDG_"))}
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return inherited | {"PATH": search, "PYTHONUNBUFFERED": "1"}


def typed(name, folder):
    return [one.line.replace(FOLDER, str(folder)) for one in commands(PAGE) if one.name == name]


@pytest.fixture
def demo(folder, environment):
    """The first terminal, in which everything is up."""
    (line,) = typed("demo", folder)
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {line}"], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    told = []
    for text in process.stdout:
        told.append(text)
        if UP in text:
            break
    else:
        pytest.fail("".join(told))
    yield process
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert list(folder.parent.glob(folder.name)) == [] or list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("demo")
def test_each_step_does_what_the_page_says(folder, environment):
    lines = typed("steps", folder)
    script = "\n".join(f'{line}\necho "exit $?"' for line in lines)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    answers = [text.rpartition("exit ")[2] for text in re.findall(r"^exit \d+$", done.stdout, re.MULTILINE)]
    expected = ["0"] * len(lines)
    first = next(number for number, line in enumerate(lines) if line.startswith("confcom verify"))
    expected[first] = "3"
    assert answers == expected, done.stdout + done.stderr
    assert "the exit code is 3" in text_of(PAGE)
    assert done.stdout.count("VERIFIED") >= 1
    assert "SIMULATED-NOT-INTEL!" in done.stdout
    assert re.search(r"\b162\b", done.stdout)
    assert (folder / "q.bin").stat().st_size > 4000
