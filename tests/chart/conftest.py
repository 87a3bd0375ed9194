"""Renders the chart with the real helm; where there is none, these tests are skipped and say so."""

import os
import re
import shutil
import subprocess
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from testkit.chart_lookups import ALLOWED, Handler, Lookups
from testkit.cluster_programs import find_helm

CHART = Path(__file__).parent.parent.parent / "charts" / "confcom"
SIMULATED = "simulated.enabled=true"
REGISTRY = "registry.test"


def chosen_helm():
    named = os.environ.get("HELM")
    if named:
        found = shutil.which(named)
        if not found:
            pytest.fail(f"the environment variable HELM is {named!r}, and that is no program")
        return found
    return find_helm()


@pytest.fixture(scope="session")
def helm(tmp_path_factory):
    program = chosen_helm()
    if program is None:
        pytest.skip(
            "no helm 4: name one by the environment variable HELM, put it on PATH, or build it with `make e2e-up`"
        )
    home = tmp_path_factory.mktemp("helm")
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(home / "none")}

    def run(*arguments):
        return subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, env=environ, check=False, cwd=home
        )

    return run


@pytest.fixture(scope="session")
def chart():
    return CHART


@pytest.fixture(scope="session")
def aks():
    return CHART / "values-aks.yaml"


@pytest.fixture(scope="session")
def plain_template(helm):
    """Renders with these --set arguments, a values file, and more arguments of helm's; images are of this registry."""

    def run(*settings, values=None, more=(), registry=REGISTRY):
        named = [f"image.registry={registry}"] if registry else []
        chosen = [word for setting in (*named, *settings) for word in ("--set", setting)]
        files = ["--values", values] if values else []
        return helm("template", "confcom", CHART, "--namespace", "sgx", *files, *chosen, *more)

    return run


@pytest.fixture(scope="session")
def template(plain_template):
    """Renders with the simulated platform beside what is set."""

    def run(*settings, **options):
        return plain_template(SIMULATED, *settings, **options)

    return run


@pytest.fixture(scope="session")
def plain_render(plain_template):
    """The manifests, by kind and name."""

    def run(*settings, **options):
        done = plain_template(*settings, **options)
        assert done.returncode == 0, done.stderr
        documents = [document for document in yaml.safe_load_all(done.stdout) if document]
        manifests = {(document["kind"], document["metadata"]["name"]): document for document in documents}
        assert len(manifests) == len(documents)
        return manifests

    return run


@pytest.fixture(scope="session")
def render(plain_render):
    """The manifests of the simulated platform."""

    def run(*settings, **options):
        return plain_render(SIMULATED, *settings, **options)

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
def values_file(tmp_path):
    """Writes a values file."""

    def write(values):
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


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


@pytest.fixture
def installed(cluster, plain_render):
    """Puts the DaemonSets that the chart renders into the cluster; each counts all nodes for its own."""

    def install(*settings, values=None):
        manifests = plain_render(*settings, values=values)
        status = {"status": {"desiredNumberScheduled": len(cluster.nodes)}}
        cluster.daemon_sets = {name: one | status for (kind, name), one in manifests.items() if kind == "DaemonSet"}

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
def upgrade(kubeconfig, plain_template, refused):
    """The code by which the chart refuses an upgrade with these settings alone, and all that it says."""
    asking = ("--dry-run=server", "--is-upgrade", "--disable-openapi-validation", "--kubeconfig", kubeconfig)

    def run(*settings, values=None, more=()):
        done = plain_template(*settings, values=values, more=(*asking, *more))
        return (refused(done), done.stderr) if done.returncode else ALLOWED

    return run
