import hashlib
import re
from pathlib import Path

VECTORS = Path(__file__).parent.parent / "vectors"
PROVENANCE = (VECTORS / "PROVENANCE.md").read_text()


def test_every_folder_of_vectors_is_accounted_for():
    folders = {path.name for path in VECTORS.iterdir() if path.is_dir()}
    assert folders == set(re.findall(r"^## `([^`/]+)/`", PROVENANCE, re.MULTILINE))


def test_the_genuine_quotes_are_unchanged():
    rows = re.findall(r"^\| `([^`]+\.bin)` \| (\d+) \|.*`([0-9a-f]{64})` \|$", PROVENANCE, re.MULTILINE)
    files = {path.name: path.read_bytes() for path in (VECTORS / "genuine-quotes").iterdir()}
    assert {name: (int(size), digest) for name, size, digest in rows} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
