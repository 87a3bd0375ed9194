"""A release in a registry: its signatures, and a cluster whose kubelets pull its images by digest."""

import contextlib
import re
import shutil
import time
from dataclasses import dataclass

import pytest

from confcom.errors import ExitCode
from e2e.add_on import (
    CREATE_ROOT,
    DAEMONS,
    HERE,
    RELEASE,
    ROOT_SECRET,
    SIMULATED_LABEL,
    SYSTEM,
    daemons,
    serves,
)
from e2e.cluster import Cluster
from e2e.confcom_command import JSON, codes_of, document_of
from e2e.images import build_all
from e2e.load.outcome import Outcome
from e2e.load.pods import Load
from e2e.registry import ADDRESS, Registry
from e2e.release.stranger import VERIFY, Stranger, ok, said
from e2e.relying_party import RelyingParty
from e2e.source import Source
from e2e.tenants import ROOT, Tenant, example
from e2e.waiting import until
from release.packages import RELEASED, build_packages
from testkit.documentation import blocks_of

pytestmark = pytest.mark.timeout(1800, func_only=True)
REGISTRY = f"--set=image.registry={ADDRESS}"
ENABLE = ("enable", "--simulated", REGISTRY)
FAIL_SECONDS = 25
"""Seconds without progress after which a change that cannot succeed gives up."""
USER, SECRET = ("puller", "right"), "pull"
VALUES = {"device-plugin": "devicePlugin", "quote-helper": "quoteHelper", "controller": "controller"}
RATE = 10.0
"""Attestations per second of each of eight clients."""
LOAD_MIB = 120
"""MiB that the clients hold of each node's 162: `confcom test` needs some."""
AROUND_SECONDS = 15.0
"""Seconds of load before and after each change."""
REPOSITORIES = "data/docker/registry/v2/repositories/confcom"
SIGNED = 5
"""Four images and the chart."""
FROM = f"docker://{ADDRESS}/confcom/"
NO_SUCH = f"sha256:{'0' * 64}"


@dataclass(frozen=True)
class Site:
    """A cluster without the add-on, the registry with the release, and its administrator."""

    cluster: Cluster
    registry: Registry
    person: Stranger

    def confcom(self, *arguments, code=ExitCode.OK, program=""):
        """Run the program of the release's wheel, or of another one, on a node."""
        done = self.cluster.run([program or self.person.confcom, *arguments], check=False, timeout=600)
        assert done.returncode == code, f"{arguments} ended with {done.returncode}\n{said(done)}"
        return done

    def image(self, name, built=None):
        return f"{ADDRESS}/confcom/{name}@{(built or self.person.images).digest(name)}"

    def pulled(self):
        """Image of each daemon's container."""
        return {pod["spec"]["containers"][0]["image"] for pod in daemons(self.cluster)}

    def copy(self, source, target, *flags):
        skopeo = "skopeo --insecure-policy copy --preserve-digests --dest-tls-verify=false"
        ok(self.person.paste(" ".join([skopeo, *flags, source, f"docker://{ADDRESS}/confcom/{target}"]), self.cluster))


@pytest.fixture
def site(bare, published, installed_wheel):
    bare.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}=true")
    bare.kubectl("create", "namespace", SYSTEM)
    return Site(bare, published, installed_wheel)


def test_signatures(published, stranger, cluster, tell):
    """The page's commands verify images and chart; another key and the signature of another digest are refused."""
    helper, plugin = (stranger.images.digest(name) for name in ("quote-helper", "device-plugin"))
    check = "cosign verify --key {}.pub --insecure-ignore-tlog=true " + f"{ADDRESS}/confcom/{{}}@{{}}"
    refused = {
        check.format("other", "device-plugin", plugin): "could not verify envelope",
        check.format("cosign", "other", plugin): "digest does not match any digest in statement",
        check.format("cosign", "device-plugin", NO_SUCH): "no signatures found",
    }
    with published.serving():
        seen = ok(stranger.paste(stranger.commands(VERIFY, "Images and chart of a registry"), cluster))
        assert seen.count("signatures were verified against the specified public key") == SIGNED
        put_signature(published.folder / REPOSITORIES, signed=helper, shown_for=plugin)
        for command, error in refused.items():
            done = stranger.paste(command, cluster)
            tell(said(done))
            assert done.returncode
            assert error in said(done)


def put_signature(repositories, *, signed, shown_for):
    """Make a repository whose signature of an image is another image's, under the tag where cosign looks."""
    for name in ("device-plugin", "quote-helper"):
        shutil.copytree(repositories / name, repositories / "other", dirs_exist_ok=True)
    tags = repositories / "other" / "_manifests" / "tags"
    place = tags / shown_for.replace(":", "-")
    shutil.rmtree(place)
    (tags / signed.replace(":", "-")).rename(place)


def test_a_cluster_that_pulls(site, tell):
    """Helm installs the chart of the registry; each node attests; then an update, its rollback, and the removal."""
    cluster = site.cluster
    before = cluster.objects()
    cluster.run(["sh", "-c", CREATE_ROOT, "sh", ROOT_SECRET, SYSTEM])
    chart = ("install", RELEASE, f"oci://{ADDRESS}/charts/confcom", f"--version={site.person.version}", "--plain-http")
    wanted = {site.image(name) for name in DAEMONS}
    with site.registry.serving():
        cluster.helm(*chart, HERE, "--set=simulated.enabled=true", REGISTRY, "--wait", "--timeout=180s", timeout=200)
        until(lambda: serves(cluster, [node.name for node in cluster.nodes]), "the nodes serve")
        assert site.pulled() == wanted
        tell(site.confcom("test").stdout)
        with cluster.new_namespace("job") as namespace:
            tenant = Tenant(cluster, namespace)
            tenant.create(re.sub(r"image: .*", f"image: {site.image('sample-workload')}", example("job.yaml")))
            tenant.kubectl("wait", "job/sgx-test", "--for=condition=Complete", "--timeout=120s")
            assert "quote: " in tenant.kubectl("logs", "job/sgx-test").stdout
        for change in (("update", "--set", "logLevel=debug"), ("rollback",)):
            site.confcom(*change)
            site.confcom("status")
            site.confcom("test")
        assert site.pulled() == wanted
        tell(site.confcom("disable", "--yes").stderr)
    assert cluster.objects() - before == {f"secrets/{SYSTEM}/{ROOT_SECRET}"}


@dataclass(frozen=True)
class Fault:
    """Why images cannot be pulled: the registry, its login, a layer, or what `enable` was given."""

    arguments: tuple[str, ...] = ()
    serves: bool = True
    login: bool = False
    password: str = ""
    corrupt: bool = False
    mended: tuple[str, ...] = ()
    """What `enable` is given when the cause is mended."""

    @contextlib.contextmanager
    def happening(self, registry, layout):
        layer = registry.blob(layout.manifest("quote-helper")["layers"][-1]["digest"])
        content = layer.read_bytes()
        if self.corrupt:
            layer.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        try:
            with registry.serving(*USER if self.login else ()) if self.serves else contextlib.nullcontext():
                yield
        finally:
            layer.write_bytes(content)


PULL_SECRET = ("--set", f"image.pullSecrets[0].name={SECRET}")
DIGEST = "quoteHelper.image.digest="
FAULTS = {
    "the registry is away": Fault(serves=False),
    "a wrong digest": Fault(("--set", f"{DIGEST}{NO_SUCH}"), mended=("--set", DIGEST)),
    "a layer that somebody changed": Fault(corrupt=True),
    "no pull secret": Fault(login=True, mended=PULL_SECRET),
    "a pull secret with another password": Fault(PULL_SECRET, login=True, password="wrong"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_images_that_cannot_be_pulled(name, site, tell):
    """`enable` and `status` name the cause; when it is mended, the same command completes the change."""
    fault = FAULTS[name]
    if fault.password:
        create_pull_secret(site.cluster, fault.password)
    with fault.happening(site.registry, site.person.images):
        done = site.confcom(*ENABLE, *fault.arguments, f"--timeout={FAIL_SECONDS}", JSON, code=ExitCode.NOT_READY)
        problems = document_of(site.confcom("status", JSON, code=ExitCode.NOT_READY))["problem_details"]
    tell(f"{name}: {sorted(codes_of(done))}\n{document_of(done)['error']['why'].partition(';')[0]}")
    assert codes_of(done) == {"daemons-not-ready"}
    assert {one["reason_code"] for one in problems if one["node"]} == {"image-not-pulled"}
    with site.registry.serving(*USER if fault.login else ()):
        if fault.login:
            create_pull_secret(site.cluster, USER[1])
        site.confcom(*ENABLE, *fault.mended)
        site.confcom("test")


def create_pull_secret(cluster, password):
    made = ["create", "secret", "docker-registry", SECRET, f"--docker-server={ADDRESS}", f"--docker-username={USER[0]}"]
    cluster.kubectl("delete", "secret", SECRET, HERE, "--ignore-not-found")
    cluster.kubectl(*made, f"--docker-password={password}", HERE)


def test_readme_and_a_moved_tag(site):
    """README's commands, with the quote helper's tag moved to another image: no node runs that image."""
    pasted = blocks_of("README.md", "On a cluster", "sh")[0].replace("registry.example.com/mirror", ADDRESS)
    script = pasted.replace("confcom disable --yes", "")
    with site.registry.serving():
        tags = [f"{name}:{site.person.version}" for name in ("controller", "quote-helper")]
        site.copy(FROM + tags[0], tags[1], "--src-tls-verify=false")
        ok(site.person.paste(f"PATH=$PWD/venv/bin:$PATH\nmkdir readme\ncd readme\n{script}", site.cluster))
        assert site.pulled() == {site.image(name) for name in DAEMONS}


def test_update_from_another_commit(pytestconfig, site, tmp_path, tell):
    """From the add-on of another commit to this release and back, while eight clients get quotes: none fails."""
    commit = pytestconfig.getoption("--from") or pytest.skip("no commit is named: ARGS='--from COMMIT'")
    cluster, source, stage = site.cluster, Source.of_commit(ROOT, commit), tmp_path / "stage"
    source.export(ROOT, stage)
    built = build_all(stage, source)
    build_packages(stage, tmp_path, source)
    lock = f"--require-hashes --requirement {site.person.folder}/confcom-{site.person.suffix}.lock"
    install = f"python3 -m venv old\nold/bin/pip install --quiet {lock}\nold/bin/pip install --no-deps *.whl"
    ok(site.person.paste(f"cd {tmp_path}\n{install}"))
    with site.registry.serving():
        for name in RELEASED:
            site.copy(f"oci:{built.layout}:{name}", f"{name}:{source.revision}")
        digests = [word for name in RELEASED for word in ("--set", f"{VALUES[name]}.image.digest={built.digest(name)}")]
        site.confcom(*ENABLE, *digests, program=str(tmp_path / "old" / "bin" / "confcom"))
        cluster.import_image(built.archive("sample-workload"))  # of the clients, which are tests
        party = RelyingParty.of(cluster, tmp_path / "trust")
        with cluster.new_namespace("load") as namespace:
            load = Load.start(cluster, namespace, cluster.nodes, offered_mib=LOAD_MIB, rate=RATE, folder=tmp_path)
            windows = {}
            for command, images in (("update", None), ("rollback", built)):
                began = time.monotonic()
                load.wait_past(began + AROUND_SECONDS)
                site.confcom(command)
                assert site.pulled() == {site.image(name, images) for name in DAEMONS}
                tell(site.confcom("test").stdout)
                ended = time.monotonic()
                load.wait_past(ended + AROUND_SECONDS)
                windows[command] = (began, ended)
            outcome = Outcome.verified(load, party)
        made = [one.began for done in outcome.attestations.values() for one in done]
        for command, (began, ended) in windows.items():
            failed = sum(began < moment < ended for moment, _ in outcome.failures)
            tell(f"{command}: {sum(began < moment < ended for moment in made)} attestations, {failed} failed")
        tell(f"{len(outcome.quotes)} quotes, {len(outcome.failures)} failures")
        assert outcome.failures == []
        assert outcome.not_offered(RATE) == []
