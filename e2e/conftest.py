"""A cluster with our images for all cases, and the logs of everything when one fails."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from e2e import add_on, images
from e2e.cluster import Cluster, Node, Shape
from e2e.cluster.addresses import NODE_NAME, Places
from e2e.cluster.cluster import new_log_folder
from e2e.cluster.lifecycle import default_folder, group_name, interrupt_on_signals
from e2e.cluster.tools import default_cache
from e2e.progress import alone

CASE_SECONDS = 180
"""Seconds for one case without its fixtures: the first fixture builds a cluster, with its own limits."""

NODES = 3
"""Number of nodes for cases that need several nodes: two with SGX and one without."""

SEVERAL = "nodes"
"""The fixture with which a case asks for all nodes."""

HERE = Path(__file__).parent
LOGS = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubernetes", default="", metavar="VERSION", help="version of the cluster for e2e cases")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(CASE_SECONDS, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect the logs of a failed case before its fixtures remove the objects that the logs are about."""
    report = yield
    running = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(running, Cluster) and running.places.logs.is_dir():  # maybe the case's own
        if LOGS not in item.config.stash:
            item.config.stash[LOGS] = new_log_folder()
        folder = item.config.stash[LOGS]
        running.collect_logs(folder / f"{item.name}-{report.when}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if LOGS in config.stash:
        terminalreporter.write_line(f"logs of every component: {config.stash[LOGS]}", red=True)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster: it has one node, or three nodes if any case of the session asks for `nodes`."""
    several = any(SEVERAL in getattr(item, "fixturenames", ()) for item in request.session.items)
    shape = Shape(nodes=NODES if several else 1, kubernetes=request.config.option.kubernetes)
    with shared_cluster(shape) as running:
        yield running


@contextlib.contextmanager
def shared_cluster(shape: Shape) -> Iterator[Cluster]:
    """Yield the running cluster, or a new one for the block, with our images."""
    interrupt_on_signals()
    # Several users of this machine who run these cases would install the same objects in the same cluster.
    lock = default_cache() / f"session-{group_name(Places(default_folder()))}.lock"
    with alone(lock, "another run of these cases"):
        built = images.build_all()
        ours = not Cluster.runs()
        running = Cluster.up(shape=shape)
        try:
            for image in images.IMAGES:
                running.import_image(built.archive(image))
            yield running
        finally:
            if ours:
                Cluster.down()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a case's measurements, also when the case passes."""

    def line(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}")

    return line


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[tuple[Node, Node, Node]]:
    """Three nodes, all Ready; after a case, components that the case has stopped are started again."""
    first, second, third = cluster.nodes[:NODES]
    yield first, second, third
    cluster.mend()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for one case; it is removed with its contents when the case ends."""
    with cluster.new_namespace("case") as name:
        yield name


@pytest.fixture
def installed(cluster: Cluster) -> Cluster:
    if not add_on.is_installed(cluster, [NODE_NAME]):
        add_on.install(cluster)
    return cluster
