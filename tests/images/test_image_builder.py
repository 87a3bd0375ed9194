"""The parts of e2e.images that need neither root nor buildah."""

import os

import pytest

from confcom.errors import UnavailableError


@pytest.fixture
def images(builder):
    return builder("images")


@pytest.fixture
def context(images, tmp_path):
    folder = tmp_path / "context"
    images._snapshot(folder)
    return folder


def test_without_root_it_says_so_and_touches_nothing(images, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnavailableError, match="need root"):
        images.build_all(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_the_snapshot_is_the_copied_files_and_no_byte_code(context, copied):
    names = {path.relative_to(context).as_posix() for path in context.rglob("*")}
    assert copied | {"Dockerfile", "src/confcom/playground/examples"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git/", "tests"))]


def test_equal_content_has_an_equal_key_and_any_change_another(images, context):
    key = images._content_key(context)
    for path in context.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert images._content_key(context) == key
    seen = {key}
    for name in ("Dockerfile", "requirements/daemon.lock", "src/confcom/errors.py"):
        path = context / name
        original = path.read_bytes()
        path.write_bytes(original + b"\n")
        seen.add(images._content_key(context))
        path.write_bytes(original)
    (context / "README.md").rename(context / "README.txt")
    seen.add(images._content_key(context))
    assert len(seen) == 5


def test_a_hash_tells_where_its_parts_end(images):
    assert images.content_hash(b"ab", b"c") != images.content_hash(b"a", b"bc")


def test_old_results_go_and_the_newest_stay(images, tmp_path):
    for age in range(5):
        (tmp_path / str(age)).mkdir()
        os.utime(tmp_path / str(age), (1000 - age, 1000 - age))
    images.keep_newest(tmp_path, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2"}
