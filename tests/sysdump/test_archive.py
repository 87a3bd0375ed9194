import io
import tarfile
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.sysdump.archive import MAX_BYTES, MAX_FILE, NOT_READ, Archive, last_lines

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


@given(st.binary(max_size=300))
def test_a_short_log_is_kept(content):
    assert last_lines(content, cut=False) == content.decode("utf-8", "replace")


def test_of_a_long_log_whole_lines_of_the_end_are_kept():
    line = b"https://me:secret@proxy " + b"x" * 76 + b"\n"
    found = last_lines(line * (2 * MAX_FILE // len(line)), cut=False)
    assert len(found) <= MAX_FILE
    assert set(found.splitlines()) == {line.decode().strip()}
    assert last_lines(b"half\nwhole\n", cut=True) == "whole\n"
    assert last_lines(b"x" * (MAX_FILE + 1), cut=False) == ""
