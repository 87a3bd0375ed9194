"""Draw the README's picture from a real demo: docs/images/demo.txt has its output, demo.svg a picture of it.

Usage: demo_picture.py [OUTPUT_FOLDER]     (default: docs/images)
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDTH = 106
STYLES = (("   ok", "green"), ("   SIMULATED", "yellow"), ("   | ", "bright_black"))


def run_demo() -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "confcom", "demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the demo failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def draw(transcript: str) -> str:
    console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    console.print(Text("$ make demo", style="bold cyan"))
    for line in transcript.splitlines():
        style = next((style for start, style in STYLES if line.startswith(start)), "")
        if line[:1].isdigit():
            style = "bold"
        console.print(Text(line, style=style, overflow="fold"), soft_wrap=False)
    console.file.close()
    svg = console.export_svg(title="confcom demo", unique_id="demo")
    # A picture in a repository loads nothing from elsewhere: no web fonts.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    transcript = run_demo()
    (folder / "demo.txt").write_text(transcript)
    (folder / "demo.svg").write_text(draw(transcript))
    return 0


if __name__ == "__main__":
    sys.exit(main())
