"""Renew requirements/*.lock: hashed, for every platform, without naming an index."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTED = "dev"
LOCKS = {
    TESTED: ("pyproject.toml", "--extra=all", "--group=build", "--group=dev"),
    "build": ("--group=build",),
    "daemon": ("pyproject.toml", "--extra=daemon"),
    "controller": ("pyproject.toml", "--extra=controller"),
    "docs": ("--group=docs",),
    "release": ("--group=release",),
    "wheel": ("pyproject.toml", "--extra=all"),
    "run": ("pyproject.toml", "--extra=all", "--group=build"),
}
"""Which requirements of pyproject.toml each lock holds: images build with `build` and ship `daemon`, `docs` builds the
site. The first lock has the packages with which tests run; the other locks have the same versions."""
NOT_SHIPPED = {"daemon": ("dcap-qvl",), "controller": ("dcap-qvl",)}
"""Packages that a lock leaves out: no daemon verifies quotes."""
BEYOND = {"controller": "daemon"}
"""Locks that hold only packages that another lock lacks: the controller's image has a layer for them."""


def main() -> int:
    for name, parts in LOCKS.items():
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-emit-index-url"]
        command += ["--no-header", "--no-annotate", "--python-version", "3.11", *parts]
        if name != TESTED:
            command += ["--constraint", f"requirements/{TESTED}.lock"]
        for package in (*NOT_SHIPPED.get(name, ()), *packages_of(BEYOND.get(name))):
            command += ["--no-emit-package", package]
        command += ["-o", f"requirements/{name}.lock", *sys.argv[1:]]
        subprocess.run(command, cwd=ROOT, check=True)
    return 0


def packages_of(name: str | None) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines() if name else []
    return [line.partition("==")[0] for line in lines if "==" in line and not line.startswith(" ")]


if __name__ == "__main__":
    sys.exit(main())
