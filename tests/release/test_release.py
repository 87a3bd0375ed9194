"""What `make release` refuses, and what it writes of a commit, without building images."""

import os
import shutil
import subprocess

import pytest
import yaml

import release.__main__ as program
from confcom.errors import SettingsError
from e2e.source import MODIFIED, Source
from release import checksums
from release.packages import CHART, RELEASED, write_digests

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
EPOCH = 1767225600
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    (root / "src" / "confcom").mkdir(parents=True)
    (root / "src" / "confcom" / "__init__.py").write_text('__version__ = "0.1.0"\n')
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o700)
    subprocess.run([*GIT, "init", "-q", root], check=True)
    commit(root)
    monkeypatch.setattr(program, "ROOT", root)
    return root


def commit(root):
    environ = {**os.environ, "GIT_COMMITTER_DATE": f"{EPOCH} +0900"}
    for command in (["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run([*GIT, "-C", root, *command], check=True, env=environ)


def tag(root, name):
    subprocess.run([*GIT, "-C", root, "tag", name], check=True)


def test_a_commit_has_a_version_and_a_time_in_utc(checkout):
    source = Source.of(checkout)
    assert (source.version, source.created, source.is_modified) == ("0.1.0", "2026-01-01T00:00:00Z", False)
    program.check_source(source)


def test_files_that_are_in_no_commit_are_refused(checkout):
    (checkout / "new").touch()
    source = Source.of(checkout)
    assert source.revision.endswith(MODIFIED)
    with pytest.raises(SettingsError, match="commit"):
        program.check_source(source)


def test_a_version_of_another_commit_is_refused_and_this_commits_own_is_built_again(checkout):
    tag(checkout, "v0.1.0")
    program.check_source(Source.of(checkout))
    commit(checkout)
    with pytest.raises(SettingsError, match=r"v0\.1\.0"):
        program.check_source(Source.of(checkout))


def test_what_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="git"):
        Source.of(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_an_export_has_the_commits_time_and_fixed_modes(checkout, tmp_path, umask):
    old = os.umask(umask)
    try:
        Source.of(checkout).export(checkout, tmp_path / "stage")
    finally:
        os.umask(old)
    seen = {path.name: path.stat() for path in (tmp_path / "stage").rglob("*")}
    assert {name: one.st_mode & 0o777 for name, one in seen.items()} == {
        **dict.fromkeys(("src", "confcom", "run"), 0o755),
        "__init__.py": 0o644,
    }
    assert {one.st_mtime for one in seen.values()} == {EPOCH}


@pytest.mark.parametrize(
    ("changelog", "notes"),
    [
        ("# C\n\n## 0.1.0, not published yet\n\n- one\n\n## 0.0.9\n\n- old\n", "- one"),
        ("# C\n\n## 0.1.01\n\n- one\n", None),
        ("# C\n", None),
    ],
)
def test_notes_are_the_versions_section(changelog, notes):
    if notes is None:
        with pytest.raises(SettingsError, match="CHANGELOG"):
            program.release_notes(changelog, "0.1.0")
    else:
        assert program.release_notes(changelog, "0.1.0") == notes


def test_the_same_bytes_are_kept_and_others_are_refused(tmp_path):
    folder = tmp_path / "dist" / "0.1.0"

    def written(text):
        made = tmp_path / "made"
        shutil.rmtree(made, ignore_errors=True)
        (made / "layout").mkdir(parents=True)
        (made / "layout" / "blob").write_text(text)
        (made / checksums.NAME).write_text(checksums.text_of(checksums.digests(made)))
        return made

    assert program.publish(written("a"), folder)
    subprocess.run(["sha256sum", "--check", "--quiet", checksums.NAME], cwd=folder, check=True)
    (folder / checksums.SIGNATURE).write_text("differs in each run")
    assert not program.publish(written("a"), folder)
    with pytest.raises(SettingsError, match="layout/blob"):
        program.publish(written("b"), folder)
    assert (folder / "layout" / "blob").read_text() == "a"


class BuiltImages:
    def digest(self, image):
        return DIGEST


def test_the_packed_chart_names_each_image_by_digest(tmp_path):
    shutil.copytree(CHART, tmp_path / CHART)
    write_digests(tmp_path, BuiltImages(), Source("a" * 40, EPOCH, "0.1.0"))
    values = tmp_path / CHART / "values.yaml"
    assert yaml.safe_load(values.read_text())["image"]["digests"] == {f"confcom/{one}": DIGEST for one in RELEASED}
    assert values.stat().st_mtime == EPOCH
