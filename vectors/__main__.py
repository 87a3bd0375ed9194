"""`make vectors`: write vectors for verifiers, one JSON file for each, and an index with their SHA-256."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Final

from vectors.tables import all_cases
from vectors.vector import INDEX

WARNING: Final = "The seed of this root is public, so anybody can sign for it. Trust it in tests of a verifier only."


def write(folder: Path) -> str:
    """Write the vectors, and return the SHA-256 of the index; the bytes are the same on each run and machine."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = [case.vector(tee) for tee, case in all_cases()]
    files = {f"{vector['name']}.json": _encoded(vector) for vector in vectors}
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    files[INDEX] = _encoded({"warning": WARNING, "root": vectors[0]["root"], "sha256": digests})
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return hashlib.sha256(files[INDEX]).hexdigest()


def _encoded(document: object) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m vectors", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".vectors"), help="default: %(default)s")
    folder = parser.parse_args().folder
    sys.stdout.write(f"{folder / INDEX} has the SHA-256 {write(folder)}\n")
