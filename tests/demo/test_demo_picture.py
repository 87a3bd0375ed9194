import re

import pytest

from scripts.demo_picture import IMAGES, draw, run_demo
from testkit.documentation import ROOT

VOLATILE = (
    (r"containers: .*(\n     .*)?", "containers"),
    (r"[0-9a-f]{64}", "HEX"),
    (r"AESM socket: \S+", "AESM socket: S"),
    (r"process \d+", "process N"),
    (r"\d{4} bytes", "N bytes"),
    (r"\d+\.\d+ m?s\b", "T"),
)


def steady(transcript):
    for pattern, stands_for in VOLATILE:
        transcript = re.sub(pattern, stands_for, transcript)
    return transcript.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_still_prints_what_the_picture_shows():
    printed, pictured = steady(run_demo()), steady((IMAGES / "demo.txt").read_text())
    assert printed == pictured, "what the demo prints has changed; draw it again: python scripts/demo_picture.py"


def test_the_picture_is_drawn_from_its_transcript():
    drawn = draw((IMAGES / "demo.txt").read_text())
    assert drawn == (IMAGES / "demo.svg").read_text(), "draw it again: python scripts/demo_picture.py"
    assert str(ROOT) not in drawn
    assert "url(http" not in drawn.replace("url(#", "")
