"""A release is the same bytes from another clone, with another umask and time zone, and with or without kept layers."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import confcom
from e2e import images
from e2e.cluster import tools
from e2e.images import IMAGES, ROOT, Built
from e2e.source import Source, git
from release.checksums import NAME

pytestmark = pytest.mark.timeout(1800, func_only=True)
MODULE = "src/confcom/quote_helper/__main__.py"


class Clone:
    """A clone of the checkout's commit, with a cache of its own that has the base and the programs only."""

    def __init__(self, folder, umask, zone):
        self.root, cache = folder / "clone", folder / "cache" / "confcom"
        self.umask, self.environ = umask, {**os.environ, "TZ": zone, "XDG_CACHE_HOME": str(cache.parent)}
        (cache / "images").mkdir(parents=True)
        shutil.copytree(images.default_folder() / "base", cache / "images" / "base", copy_function=os.link)
        (cache / "tools").symlink_to(tools.default_cache())
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.root)], umask=umask, check=True)
        self._run("make", f"PYTHON={sys.executable}", ".venv-release/.release")

    def release(self, name):
        """Make a release in the folder of this name; return the lines of its checksums, keyed by file."""
        self._run(sys.executable, "-m", "release", "--stand-in-base", f"--folder={self.root.parent / name}")
        (folder,) = (self.root.parent / name).iterdir()
        subprocess.run(["sha256sum", "--check", "--quiet", NAME], cwd=folder, check=True)
        return {line.split()[1]: line for line in (folder / NAME).read_text().splitlines()}

    def _run(self, *command):
        subprocess.run(command, cwd=self.root, env=self.environ, umask=self.umask, check=True)


def test_a_commit_has_one_release_and_its_labels(tmp_path):
    images.build_all()  # makes the base if it is missing
    clone = Clone(tmp_path / "a", 0o022, "UTC")
    first, source = clone.release("dist"), Source.of(clone.root)
    (built,) = map(Built, tmp_path.glob("a/cache/confcom/images/archives/*"))
    for image in IMAGES:
        labels = built.labels(image)
        assert built.config(image)["created"] == labels["created"] == source.created
        assert (labels["revision"], labels["version"], labels["title"]) == (source.revision, source.version, image)
        assert labels["source"] == confcom.PROJECT_URL
        assert re.fullmatch("sha256:[0-9a-f]{64}", labels["base.digest"]), labels

    assert {name for name in first if "stand" not in name} == {"RELEASE_NOTES.md", "provenance.json"}

    other = Clone(tmp_path / "b", 0o077, "Asia/Kathmandu")
    with (other.root / MODULE).open("a") as module:
        module.write("\n")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
    git(other.root, *author, "commit", "--quiet", "--all", "--message=one byte")
    changed = other.release("changed")
    base = "blobs/" + built.manifest(IMAGES[0])["layers"][0]["digest"].replace(":", "/")
    layout = f"confcom-images-{source.version}-stand-in-base"
    same = {name for name in first if first[name] == changed.get(name)}
    assert same == {f"confcom-{source.version}-stand-in-base.lock", f"{layout}/oci-layout", f"{layout}/{base}"}
    git(other.root, "reset", "--quiet", "--hard", source.revision)
    assert other.release("dist") == first
    shutil.rmtree(tmp_path)  # 1.5 GB of caches
