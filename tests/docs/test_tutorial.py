"""The first half of docs/tutorial/first-quote.md runs on this machine."""

import re

import pytest

from testkit.documentation import commands, text_of

PAGE = "docs/tutorial/first-quote.md"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_step_does_what_the_page_says(folder, typed):
    lines = [one.line for one in commands(PAGE) if one.name == "steps"]
    done = typed("\n".join(f'{line}\necho "exit $?"' for line in lines))
    expected = ["exit 0"] * len(lines)
    expected[next(number for number, line in enumerate(lines) if line.startswith("confcom verify"))] = "exit 3"
    assert re.findall(r"^exit \d+$", done.stdout, re.MULTILINE) == expected, done.stdout + done.stderr
    assert "the exit code is 3" in " ".join(text_of(PAGE).split())
    assert re.search(r"^VERIFIED$", done.stdout, re.MULTILINE)
    assert "SIMULATED-NOT-INTEL!" in done.stdout
    assert (folder / "mine.bin").stat().st_size > 4000
