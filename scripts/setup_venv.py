"""Make the virtual environment that `make demo` and `make test` use; standard library only, Python 3.11+.

Usage: setup_venv.py VENV run|dev|docs|release
"""

import subprocess
import sys
import time
from pathlib import Path

MINIMUM = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
WITHOUT_CONFCOM = {"docs", "release"}


def main() -> int:
    if sys.version_info < MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"confcom needs Python 3.11 or newer; {sys.executable} is {found}.")
        print("Install a newer one and name it: make demo PYTHON=python3.12")
        return 2
    venv, kind = Path(sys.argv[1]).absolute(), sys.argv[2]
    print(f"confcom: setting up {venv.name} ({kind}) with hash-checked packages, once ...", flush=True)
    started = time.monotonic()
    python = venv / "bin" / "python"
    if not python.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        except subprocess.CalledProcessError:
            print("Python could not make a virtual environment; its message is above.")
            print("No module ensurepip? On Debian and Ubuntu it is a package of its own: apt-get install python3-venv")
            print("Permission denied? Use a checkout that is yours: git clone it again into your home.")
            return 2
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    lock = ROOT / "requirements" / f"{kind}.lock"
    # A lock names every package. Without --no-deps pip resolves again, and refuses the lock as soon as there is a newer
    # version of a package that another package requires with an extra.
    steps = [[*pip, "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(lock)]]
    if kind not in WITHOUT_CONFCOM:
        steps.append([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    for step in steps:
        if subprocess.run(step, check=False).returncode:
            print(f"The installation failed; pip's message is above. Nothing outside {venv.name} was changed.")
            return 2
    for done in ("run", "dev") if kind == "dev" else (kind,):
        (venv / f".{done}").touch()
    print(f"confcom: ready after {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
