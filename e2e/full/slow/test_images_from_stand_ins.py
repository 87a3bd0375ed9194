"""Buildah builds the Dockerfiles with Intel's software; stand-ins replace packages and base image."""

import functools
import http.server
import shutil
import subprocess
import threading

import pytest

from e2e import images
from e2e.images import BASE_EPOCH, ROOT, Workshop
from e2e.source import Source
from testkit.package_repository import make_repository, packages

AESM_SERVICE = '#!/bin/sh\necho "arguments=$*"; echo "user=$(id -u):$(id -g)"; echo "directory=$(pwd)"\n'
LEFT = "find /etc/apt/sources.list.d /etc/apt/keyrings /var/lib/apt/lists -type f; ls -d /context"
pytestmark = pytest.mark.timeout(900, func_only=True)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    if shutil.which("gpg") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("needs gpg and dpkg-deb to make a package repository")
    folder = tmp_path_factory.mktemp("repository")
    key = make_repository(folder, packages(tmp_path_factory.mktemp("libraries"), AESM_SERVICE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", key
        server.shutdown()


class Builder:
    """buildah with storage of its own, and the folder images as the context."""

    def __init__(self, workshop, repository):
        self.workshop = workshop
        self.buildah = workshop._buildah(workshop.folder / "storage")
        self.address, key = repository
        keys = workshop.context / "keys"
        keys.mkdir()
        for name in ("intel", "microsoft"):
            (keys / f"{name}.asc").write_bytes(key)

    def bud(self, dockerfile, *options, **arguments):
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        context = self.workshop.context
        options += (f"--file={context / dockerfile}", str(context))
        self.workshop._bud(self.buildah, "--layers", *given, *options, epoch=BASE_EPOCH)

    def run(self, image, *command):
        """Run a command in a container of the image, with the image's user and working directory."""
        container = self._output("from", "--pull-never", image).strip()
        try:
            return self._output("run", container, "--", *command)
        finally:
            self._output("rm", container)

    def _output(self, command, *arguments):
        policy = [f"--signature-policy={self.workshop._policy}"] if command == "from" else []
        done = subprocess.run(
            [*self.buildah, command, *policy, *arguments], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def build(repository, tmp_path_factory):
    images.build_all()
    folder = tmp_path_factory.mktemp("buildah")
    shutil.copytree(ROOT / "images", folder / "context", ignore=shutil.ignore_patterns("keys"))
    (folder / "base").symlink_to(images.default_folder() / "base")
    builder = Builder(Workshop(folder, folder, folder / "context", Source.of(ROOT)), repository)
    builder.workshop._load_base(builder.buildah)
    yield builder
    subprocess.run([*builder.buildah, "rmi", "--all", "--force"], capture_output=True, check=False)


@pytest.mark.parametrize(("target", "more"), [("aesmd", []), ("aesmd-azure", ["MICROSOFT_REPOSITORY"])])
def test_aesmds_image_is_built_and_starts_aesmd(build, target, more):
    addresses = dict.fromkeys(["INTEL_REPOSITORY", *more], build.address)
    build.bud("aesmd/Dockerfile", f"--target={target}", f"--tag=localhost/{target}:1", BASE=images.BASE, **addresses)
    started = build.run(f"localhost/{target}:1", "/usr/local/bin/start-aesmd", "--no-daemon")
    assert started.splitlines() == [
        "arguments=--no-daemon",
        "user=10001:10001",
        "directory=/opt/intel/sgx-aesm-service/aesm",
    ]
    assert build.run(f"localhost/{target}:1", "sh", "-c", f"{LEFT}; true") == ""
