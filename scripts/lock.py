"""Renew requirements/*.lock: hashed, for every platform, without naming an index."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    "build": ("--group=build",),
    "daemon": ("pyproject.toml",),
    "run": ("pyproject.toml", "--extra=all", "--group=build"),
    "dev": ("pyproject.toml", "--extra=all", "--group=build", "--group=dev"),
}
"""Which requirements of pyproject.toml each lock holds: images build with `build` and ship `daemon`."""


def main() -> int:
    """Compile the locks from pyproject.toml; uv must be on the PATH."""
    for name, parts in LOCKS.items():
        command = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--generate-hashes",
            "--no-emit-index-url",
        ]
        command += ["--no-header", "--no-annotate", "--python-version", "3.11", *parts]
        command += ["-o", f"requirements/{name}.lock", *sys.argv[1:]]
        subprocess.run(command, cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
