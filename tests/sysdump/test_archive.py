import io
import tarfile
from datetime import UTC, datetime

import pytest

from confcom.sysdump.archive import MAX_BYTES, MAX_FILE, NOT_READ, Archive

NOW = datetime(2026, 12, 2, tzinfo=UTC)


def unpacked(data):
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return {one.name: (archive.extractfile(one).read(), one.mode) for one in archive}


def test_the_archive_has_what_was_added_and_what_was_not_read():
    archive = Archive()
    archive.add("a/b.txt", "text")
    archive.leave_out("c.log: you may\nnot")
    found = unpacked(archive.packed("dump", NOW))
    assert found == {"dump/a/b.txt": (b"text", 0o600), f"dump/{NOT_READ}": (b"c.log: you may not\n", 0o600)}
    assert archive.packed("dump", NOW) == archive.packed("dump", NOW)


def test_files_beyond_the_limit_are_left_out_and_smaller_ones_still_fit():
    archive = Archive()
    for number in range(30):
        archive.add(f"{number}.log", "x" * (MAX_FILE - 1))
    archive.add("small", "y")
    assert archive.free >= 0
    assert len(archive.not_read) == 30 - (MAX_BYTES // MAX_FILE)
    assert archive.not_read[0].startswith("25.log: ")
    assert "small" in archive.files


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "a/..", "/x\n\x1b[1m", "a/./b", "ö"])
def test_no_name_leaves_the_folder(name):
    archive = Archive()
    archive.add(name, "x")
    (found,) = archive.files
    assert not {"", ".", ".."} & set(f"dump/{found}".replace("//", "/").split("/"))
    assert found.isprintable()
    assert found.isascii()
