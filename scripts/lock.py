"""Renew requirements/*.lock: hashed, for every platform, without naming an index."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS = {"run": ("build",), "dev": ("build", "dev")}


def main() -> int:
    """Compile both locks from pyproject.toml; uv must be on the PATH."""
    for name, groups in GROUPS.items():
        command = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--generate-hashes",
            "--no-emit-index-url",
        ]
        command += ["--no-header", "--no-annotate", "--python-version", "3.11", "--extra", "all"]
        command += [f"--group={group}" for group in groups]
        command += ["pyproject.toml", "-o", f"requirements/{name}.lock", *sys.argv[1:]]
        subprocess.run(command, cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
