"""What `make release` refuses, and what it writes of a commit, without building images."""

import contextlib
import json
import os
import shutil
import subprocess
import zipfile

import pytest
import yaml

import release.__main__ as program
from confcom.errors import ConfcomError
from e2e.cluster.pause import tar_of
from e2e.images import IMAGES, LAYOUT, REF_NAME, Built, reference
from e2e.source import MODIFIED, Source
from release import checksums
from release.modules import check_modules
from release.packages import CHART, RELEASED, build_packages, label_packages, write_digests
from testkit.programs import run_python

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
EPOCH = 1767225600


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


@contextlib.contextmanager
def refused(code, about="."):
    with pytest.raises(ConfcomError, match=about) as error:
        yield
    assert error.value.error_code == code


def commit(root):
    environ = {**os.environ, "GIT_COMMITTER_DATE": f"{EPOCH} +0900"}
    for command in (["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run([*GIT, "-C", root, *command], check=True, env=environ)


def test_a_commit_has_a_version_and_a_time_in_utc(checkout):
    source = Source.of(checkout)
    assert (source.version, source.created, source.is_modified) == ("0.1.0", "2026-01-01T00:00:00Z", False)
    program.check_source(source)


def test_files_that_are_in_no_commit_are_refused(checkout):
    (checkout / "new").touch()
    source = Source.of(checkout)
    assert source.revision.endswith(MODIFIED)
    with refused("modified", about="new"):
        program.check_source(source)


def test_a_version_of_another_commit_is_refused_and_this_commits_own_is_built_again(checkout):
    subprocess.run([*GIT, "-C", checkout, "tag", "v0.1.0"], check=True)
    program.check_source(Source.of(checkout))
    commit(checkout)
    with refused("version-tagged"):
        program.check_source(Source.of(checkout))


def test_what_is_no_checkout_is_refused(tmp_path):
    with refused("not-a-commit"):
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
        with refused("version-unlisted"):
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
    with refused("release-differs", about="layout/blob"):
        program.publish(written("b"), folder)
    assert (folder / "layout" / "blob").read_text() == "a"


def test_the_packed_chart_names_each_image_by_digest(tmp_path):
    shutil.copytree(CHART, tmp_path / CHART)
    write_digests(tmp_path, write_images(tmp_path, {}), Source("a" * 40, EPOCH, "0.1.0"))
    values = tmp_path / CHART / "values.yaml"
    assert yaml.safe_load(values.read_text())["image"]["digests"] == {
        f"confcom/{one}": "sha256:manifest" for one in RELEASED
    }
    description = tmp_path / CHART / "Chart.yaml"
    annotations = yaml.safe_load(description.read_text())["annotations"]
    named = {one["name"]: one["image"] for one in yaml.safe_load(annotations["artifacthub.io/images"])}
    assert named == {one: f"{reference(one)}@sha256:manifest" for one in RELEASED}
    assert (values.stat().st_mtime, description.stat().st_mtime) == (EPOCH, EPOCH)


@pytest.mark.slow
def test_packages_on_the_stand_in_have_a_local_version_and_the_commits_modules(checkout, tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(name, checkout)
    for name in ("charts/confcom", "examples"):
        (checkout / name).mkdir(parents=True)
    source = Source.of(checkout)
    label_packages(checkout, source, program.STAND_IN)
    wheel = build_packages(checkout, tmp_path, source)
    assert wheel.name == "confcom-0.1.0+stand.in.base-py3-none-any.whl"
    assert (tmp_path / "confcom-0.1.0+stand.in.base.tar.gz").is_file()
    installed = tmp_path / "installed"
    pip = ("-m", "pip", "install", "--no-deps", "--no-index", f"--find-links={tmp_path}", f"--target={installed}")
    run_python(*pip, "confcom==0.1.0")
    assert (installed / "confcom-0.1.0+stand.in.base.dist-info").is_dir()
    assert (installed / "confcom" / "__init__.py").read_text() == (checkout / "src/confcom/__init__.py").read_text()


MODULES = {"confcom/__init__.py": b"a", "confcom/verify/root.pem": b"b"}
SITE = "opt/confcom/lib/python3.11/site-packages/"


def write_images(folder, installed):
    """A layout in which each image is one layer with these files."""
    blobs = folder / LAYOUT / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / "layer").write_bytes(tar_of({SITE + name: (data, 0o644) for name, data in installed.items()}))
    (blobs / "manifest").write_text(json.dumps({"layers": [{"digest": "sha256:layer"}]}))
    entries = [{"digest": "sha256:manifest", "annotations": {REF_NAME: image}} for image in IMAGES]
    (folder / LAYOUT / "index.json").write_text(json.dumps({"manifests": entries}))
    return Built(folder)


@pytest.mark.parametrize(
    ("installed", "different"),
    [
        (MODULES, ""),
        (MODULES | {"confcom-0.1.0.dist-info/RECORD": b"", "../pycache/confcom/a.pyc": b""}, ""),
        (MODULES | {"confcom/__init__.py": b"A"}, "confcom/__init__.py"),
        ({"confcom/__init__.py": b"a"}, "confcom/verify/root.pem"),
        (MODULES | {"confcom/more.py": b""}, "confcom/more.py"),
        ({}, "confcom/verify/root.pem"),
    ],
)
def test_images_have_the_modules_of_the_wheel(tmp_path, installed, different):
    wheel = tmp_path / "confcom.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in {
            **MODULES,
            "confcom/addon/chart/values.yaml": b"digests",
            "confcom.dist-info/M": b"",
        }.items():
            archive.writestr(name, data)
    with refused("modules-differ", about=different) if different else contextlib.nullcontext():
        check_modules(write_images(tmp_path, installed), wheel)
