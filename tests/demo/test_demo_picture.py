import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "docs" / "images"

VOLATILE = (
    (r"containers: .*(\n     .*)?", "containers"),
    (r"[0-9a-f]{64}", "HEX"),
    (r"AESM socket: \S+", "AESM socket: S"),
    (r"process \d+", "process N"),
    (r"\d{4} bytes", "N bytes"),
    (r"\d+\.\d+ m?s\b", "T"),
)


@pytest.fixture(scope="module")
def demo_picture():
    spec = importlib.util.spec_from_file_location("demo_picture", ROOT / "scripts" / "demo_picture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steady(transcript):
    for pattern, stands_for in VOLATILE:
        transcript = re.sub(pattern, stands_for, transcript)
    return transcript.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_still_prints_what_the_picture_shows(demo_picture):
    printed, pictured = steady(demo_picture.run_demo()), steady((IMAGES / "demo.txt").read_text())
    assert printed == pictured, "what the demo prints has changed; draw it again: python scripts/demo_picture.py"


def test_the_picture_is_drawn_from_its_transcript(demo_picture):
    drawn = demo_picture.draw((IMAGES / "demo.txt").read_text())
    assert drawn == (IMAGES / "demo.svg").read_text(), "draw it again: python scripts/demo_picture.py"
    assert str(ROOT) not in drawn
    assert "url(http" not in drawn.replace("url(#", "")
