"""Renders the chart with the real helm; where there is none, these tests are skipped and say so."""

import functools
import re
import threading
from http.server import ThreadingHTTPServer

import pytest
import yaml

from testkit.chart_golden import AKS, CHART, NAMESPACE, REGISTRY, RELEASE, call_helm, parsed
from testkit.chart_lookups import ALLOWED, Handler, Lookups
from testkit.cluster_programs import find_helm


@pytest.fixture(scope="session")
def helm_program():
    program = find_helm()
    if program is None:
        pytest.skip("no helm 4: put it on PATH, or build it with `make e2e-tools`")
    return program


@pytest.fixture(scope="session")
def helm(helm_program):
    return functools.partial(call_helm, helm_program)


@pytest.fixture(scope="session")
def template(helm):
    """Renders with these --set arguments, a values file, and more arguments of helm's; images are of this registry."""

    def run(*settings, values=None, more=(), registry=REGISTRY):
        named = [f"image.registry={registry}"] if registry else []
        chosen = [word for setting in (*named, *settings) for word in ("--set", setting)]
        files = ["--values", values] if values else []
        return helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *files, *chosen, *more)

    return run


@pytest.fixture(scope="session")
def render(template):
    def run(*settings, **options):
        done = template(*settings, **options)
        assert done.returncode == 0, done.stderr
        return parsed(done.stdout)

    return run


@pytest.fixture(scope="session")
def refused():
    """The code of the chart's refusal in what helm has said; nothing was rendered."""

    def code(done):
        assert done.returncode != 0
        assert "DaemonSet" not in done.stdout
        parts = re.search(r"\nconfcom: .+\.\n  why: .+\.\n  do:  (?s:.+)\n\n  code: ([a-z-]+)\n", done.stderr)
        assert parts, done.stderr
        return parts[1]

    return code


@pytest.fixture
def cluster():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lookups = Lookups(f"http://127.0.0.1:{server.server_port}")
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield server.lookups
    server.shutdown()
    serving.join()
    server.server_close()


def split(settings):
    """Values file and --set arguments of settings that may name the file first."""
    return (AKS, settings.removeprefix(f"{AKS.name},")) if settings.startswith(AKS.name) else (None, settings)


@pytest.fixture(scope="session")
def daemon_sets(render):
    """Those that the chart renders with these settings."""

    @functools.cache
    def run(settings):
        file, values = split(settings)
        return {name: one for (kind, name), one in render(values, values=file).items() if kind == "DaemonSet"}

    return run


@pytest.fixture
def installed(cluster, daemon_sets):
    """Puts the DaemonSets that the chart renders into the cluster; each counts all nodes for its own."""

    def install(settings):
        status = {"status": {"desiredNumberScheduled": len(cluster.nodes)}}
        cluster.daemon_sets = {name: one | status for name, one in daemon_sets(settings).items()}

    return install


@pytest.fixture
def kubeconfig(cluster, tmp_path):
    path = tmp_path / "kubeconfig"
    contents = {
        "clusters": [{"name": "any", "cluster": {"server": cluster.address}}],
        "contexts": [{"name": "any", "context": {"cluster": "any"}}],
        "current-context": "any",
    }
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **contents}))
    return path


@pytest.fixture
def upgrade(kubeconfig, template, refused):
    """The code by which the chart refuses an upgrade with these settings alone, and all that it says."""
    asking = ("--dry-run=server", "--is-upgrade", "--disable-openapi-validation", "--kubeconfig", kubeconfig)

    def run(settings, *more):
        file, values = split(settings)
        done = template(values, values=file, more=(*asking, *more))
        return (refused(done), done.stderr) if done.returncode else ALLOWED

    return run


@pytest.fixture
def upgrade_notes(kubeconfig, helm):
    """What people read after an upgrade to these settings; helm is told that it installs, for it has no record here."""

    def read(settings):
        asking = ("--dry-run=server", "--take-ownership", "--disable-openapi-validation", "--kubeconfig", kubeconfig)
        chosen = ("--set", f"image.registry={REGISTRY},{settings}")
        done = helm("install", RELEASE, CHART, "--namespace", NAMESPACE, *chosen, *asking)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    return read
