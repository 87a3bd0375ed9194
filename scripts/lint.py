"""All checks of `make lint`, in order, with their times; runs all of them, and fails if one has failed."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHECKS = {
    "ruff format": [BIN / "ruff", "format", "--check", "--diff", "."],
    "ruff check": [BIN / "ruff", "check", "."],
    "mypy --strict": [BIN / "mypy"],
    "import-linter": [BIN / "lint-imports"],
    "generated code": [sys.executable, "scripts/protos.py", "--check"],
}


def main() -> int:
    failed = []
    for name, command in CHECKS.items():
        started = time.monotonic()
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(
            f"{'ok  ' if result.returncode == 0 else 'FAIL'} {name:16} {time.monotonic() - started:5.1f} s",
            flush=True,
        )
        if result.returncode:
            failed.append(name)
            print(result.stdout + result.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
