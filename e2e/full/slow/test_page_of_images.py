"""The loop of docs/how-to/build-images.md, with buildah or podman in docker's place, and an archive for podman."""

import os
import shlex
import shutil
import subprocess

import pytest

from e2e import images
from e2e.images import IMAGES, LAYOUT, ROOT, Built, Workshop, reference
from e2e.packages import install
from e2e.source import MODIFIED, Source
from testkit.documentation import blocks

DOCKER = """#!/bin/sh
case $1 in
build) shift; exec {program} build --signature-policy={policy} {flags} "$@" ;;
push) name=${{2##*/}}; exec {program} push --signature-policy={policy} "$2" "oci:{layout}:${{name%:*}}" ;;
esac
"""
"""A program `docker` that runs another builder on the stand-in base, without a network, and pushes into a layout."""
pytestmark = pytest.mark.timeout(900, func_only=True)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    install({"podman": "podman"}, purpose="the page of the images")
    images.build_all()
    folder = tmp_path_factory.mktemp("page")
    for kept in ("base", "wheels"):
        (folder / kept).symlink_to(images.default_folder() / kept)
    made = Workshop(folder, folder, ROOT, Source.of(ROOT))
    yield made
    subprocess.run([*made._buildah(folder / "storage"), "rmi", "--all", "--force"], capture_output=True, check=False)


@pytest.mark.parametrize("program", ["buildah", "podman"])
def test_the_loop_builds_and_pushes_every_image(workshop, tmp_path, program):
    buildah = workshop._buildah(workshop.folder / "storage")
    arguments = [f"--build-arg={name}={value}" for name, value in workshop._load_base(buildah).items()]
    flags = " ".join(["--layers", "--pull-never", *workshop._offline(), *arguments])
    if program == "podman":  # podman has no network but the host's in a chroot; pip asks no index
        flags = flags.replace("--pull-never", "--pull=never").replace("--network=none", "--network=host")
    docker, builder = tmp_path / "docker", shlex.join([*buildah[:-1], program])
    docker.write_text(DOCKER.format(program=builder, flags=flags, policy=workshop._policy, layout=tmp_path / LAYOUT))
    docker.chmod(0o755)
    (loop,) = [one for one in blocks("docs/how-to/build-images.md", "sh") if "for image in" in one]
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", loop.replace("REGISTRY", images.REGISTRY)], cwd=ROOT, env=environ, check=True)
    for image in IMAGES:
        labels = Built(tmp_path).labels(image)
        assert (labels["title"], labels["revision"]) == (image, workshop.source.revision.removesuffix(MODIFIED))
    shutil.rmtree(tmp_path)


def test_podman_loads_an_archive(workshop):
    podman = [*workshop._buildah(workshop.folder / "storage")[:-1], "podman"]
    archive = images.build_all().archive("controller")
    done = subprocess.run([*podman, "load", f"--input={archive}"], capture_output=True, check=True)
    assert reference("controller") in done.stdout.decode()
