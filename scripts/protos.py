"""Generate *_pb2.py and *_pb2.pyi beside each .proto; --check fails if what is checked in differs."""

import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"


def generate(target: Path) -> None:
    """Run protoc over every .proto under src/, as one tree, so that imports read confcom.room."""
    protos = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{SOURCE}",
        f"--python_out={target}",
        f"--pyi_out={target}",
    ]
    subprocess.run([*command, *protos], cwd=SOURCE, check=True)


def main() -> int:
    if "--check" not in sys.argv:
        generate(SOURCE)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*_pb2.py*")}
    kept = {
        path.relative_to(SOURCE): path.read_bytes()
        for path in SOURCE.rglob("*_pb2.py*")
        if "__pycache__" not in path.parts
    }
    different = sorted(str(name) for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))
    for name in different:
        print(f"{name} is not what its .proto generates; run: make protos")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
