"""The first half of docs/tutorial/first-quote.md runs on this machine; only the folder is changed."""

import re

import pytest

from testkit.documentation import commands, text_of
from tests.docs.conftest import wait_for_words

PAGE = "docs/tutorial/first-quote.md"
FOLDER = "/tmp/first-quote"


def lines_of(name, folder):
    return [one.line.replace(FOLDER, str(folder)) for one in commands(PAGE) if one.name == name]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_step_does_what_the_page_says(folder, start, typed):
    (demo,) = lines_of("demo", folder)
    wait_for_words(start(demo), "Everything stays up until Ctrl-C")
    lines = lines_of("steps", folder)
    done = typed("\n".join(f'{line}\necho "exit $?"' for line in lines))
    expected = ["exit 0"] * len(lines)
    expected[next(number for number, line in enumerate(lines) if line.startswith("confcom verify"))] = "exit 3"
    assert re.findall(r"^exit \d+$", done.stdout, re.MULTILINE) == expected, done.stdout + done.stderr
    assert "the exit code is 3" in " ".join(text_of(PAGE).split())
    assert re.search(r"^VERIFIED$", done.stdout, re.MULTILINE)
    assert "SIMULATED-NOT-INTEL!" in done.stdout
    assert (folder / "q.bin").stat().st_size > 4000
