"""A release's files with the signature of a throw-away key, and a cluster that pulls from a registry."""

import os
from pathlib import Path

import pytest

from e2e.add_on import HERE, SIMULATED_LABEL, SYSTEM, forget
from e2e.cluster import Cluster, Shape
from e2e.cluster.addresses import PAUSE_IMAGE
from e2e.cluster.lifecycle import interrupt_on_signals
from e2e.images import LAYOUT
from e2e.registry import Registry
from e2e.release.stranger import PASSWORD, PUBLISH, VERIFY, Stranger, ok
from e2e.waiting import until
from release import checksums

NODES = 2


def pytest_addoption(parser):
    parser.addoption("--release", type=Path, metavar="FOLDER", help="dist/VERSION, as `make release` writes it")
    parser.addoption("--from", default="", metavar="COMMIT", help="update from this commit, and back, too")


@pytest.fixture(scope="session")
def stranger(pytestconfig, tmp_path_factory):
    release = pytestconfig.option.release or pytest.exit("name a release: make release-check DIST=dist/VERSION", 2)
    folder = tmp_path_factory.mktemp("release")
    for path in release.resolve().iterdir():
        (folder / path.name).symlink_to(path)
    (wheel,) = folder.glob("*.whl")
    made = Stranger(folder, wheel.name.split("-")[1].partition("+")[0], release.resolve().name)
    (folder / LAYOUT).symlink_to(f"confcom-images-{made.suffix}")
    (folder / checksums.SIGNATURE).unlink(missing_ok=True)
    os.environ["COSIGN_PASSWORD"] = PASSWORD  # of both pairs of keys
    for name in ("cosign", "other"):
        ok(made.paste(f"cosign generate-key-pair --output-key-prefix={name}"))
    checksums.sign(folder, folder / "cosign.key")
    return made


@pytest.fixture(scope="session")
def installed_wheel(stranger):
    """The wheel in an environment, as the page installs it."""
    ok(stranger.paste(stranger.commands(VERIFY, "The Python package")))
    return stranger


@pytest.fixture(scope="session")
def cluster():
    """A new cluster, whose nodes have no image of ours."""
    interrupt_on_signals()
    folder = Path("/tmp/confcom-release")
    Cluster.down(folder)  # what a killed run has left
    yield Cluster.up(folder, Shape(nodes=NODES))
    Cluster.down(folder)


@pytest.fixture(scope="session")
def registry(cluster, tmp_path_factory):
    return Registry.of(cluster, tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="session")
def published(registry, stranger):
    """The registry, after the maintainers' page published the release into it."""
    with registry.serving():
        ok(stranger.paste(stranger.commands(PUBLISH, "Publish"), registry.cluster))
    return registry


@pytest.fixture
def bare(cluster, published, installed_wheel):
    """A cluster without the add-on, before and after the case, whose nodes have to pull each image."""
    before = cluster.objects()
    yield cluster
    cluster.run([installed_wheel.confcom, "disable", "--yes", "--no-wait"], check=False, timeout=300)
    # The namespace stays, with the user's root; a namespace of `confcom test` may still be terminating.
    until(lambda: all(f"/{SYSTEM}" in one for one in cluster.objects() - before), "the add-on's objects have gone")
    until(lambda: not cluster.kubectl_json("get", "pods", HERE)["items"], "the daemons have gone")
    cluster.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found")
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")
    for node in cluster.nodes:
        forget(cluster, node)
        ours = [name for name in node.run(["ctr", "images", "ls", "-q"]).stdout.split() if name != PAUSE_IMAGE]
        node.run(["ctr", "images", "rm", "--sync", *ours])
