"""A cluster's simulated root is another one while a helper runs: it follows, and says so while it cannot."""

import re
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from confcom.client import AsyncAesmClient
from confcom.quote_helper.quoting.published_root import decide, read_published
from confcom.quote_helper.quoting.simulated_backend import open_simulated
from confcom.quote_provider.state_directory import STATE_FILE, open_or_create_platform
from confcom.sgx.quote import Quote

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("in_use", "kept", "published", "takes", "problem"),
    [
        ("", OLD, "", True, None),  # the Job may publish a moment later
        ("", OLD, OLD, True, None),
        ("", OLD, NEW, False, "published-root-not-mounted"),
        (OLD, OLD, "", False, None),
        (OLD, OLD, OLD, False, None),
        (OLD, NEW, "", False, "mounted-root-unpublished"),
        (OLD, NEW, OLD, False, "mounted-root-changed"),
        (OLD, OLD, NEW, False, "published-root-not-mounted"),
        (OLD, OTHER, NEW, False, "published-root-not-mounted"),
        (OLD, NEW, NEW, True, None),
    ],
)
def test_only_the_published_root_is_taken(in_use, kept, published, takes, problem):
    decision = decide(in_use, kept, published)
    assert decision.take is takes
    assert (decision.problem and decision.problem.code) == problem
    if problem is not None:
        told = re.findall("[abc]{16}", decision.problem.reason)
        assert set(told) == {root[:16] for root in (in_use, kept, published) if root}


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (OLD.encode(), OLD),
        (f"{OLD}\n".encode(), OLD),
        (b"", ""),
        (b"x" * 64, ""),
        (OLD.encode() * 3, ""),
        (b"\xff", ""),
    ],
)
def test_what_is_published(tmp_path, content, read):
    assert read_published(tmp_path / "sha256") == read_published(tmp_path) == ""
    (tmp_path / "sha256").write_bytes(content)
    assert read_published(tmp_path / "sha256") == read


class Volumes:
    """A Secret and a ConfigMap as a kubelet mounts them: their files are replaced, and may come one after the other."""

    def __init__(self, directory):
        self.state, self.published = directory / "secret", directory / "sha256"
        self._roots = {}
        for name in ("old", "new"):
            platform = open_or_create_platform(directory / name).platform
            self._roots[name] = (directory / name / STATE_FILE, platform.root_fingerprint)
        self.state.mkdir()

    def fingerprint(self, name):
        return self._roots[name][1]

    def mount(self, name):
        arriving = self.state / "arriving"
        shutil.copy(self._roots[name][0], arriving)
        arriving.replace(self.state / STATE_FILE)

    def publish(self, name):
        self.published.write_text(self.fingerprint(name))

    def open(self):
        return open_simulated(self.state, published_root=self.published)


@pytest.fixture
def volumes(tmp_path):
    return Volumes(tmp_path)


@pytest.fixture
def root_in_quote(enclave):
    """Get a quote as a client does, and find the root that its certificate chain ends in."""

    async def ask(running):
        client = AsyncAesmClient(running.socket)
        made = await client.quote_fresh_report(lambda target: enclave.create_report(target, bytes(64)))
        root = x509.load_pem_x509_certificate(Quote.parse(made.quote).signature.certification.pem_chain()[-1])
        return root.fingerprint(hashes.SHA256()).hex()

    return ask


async def test_the_clusters_root_is_taken_when_mounted_and_published(in_process, volumes, root_in_quote):
    volumes.mount("old")
    async with in_process(None, open_backend=volumes.open, self_test_interval_seconds=0.005) as running:
        await running.ready()
        assert running.metric("simulated_root_info", sha256=volumes.fingerprint("old")) == 1
        assert await root_in_quote(running) == volumes.fingerprint("old")
        volumes.publish("new")

        await running.unready("published-root-not-mounted")
        status, told = await running.get("/readyz")
        assert (status, volumes.fingerprint("new")[:16] in told) == (503, True)
        assert running.metric("simulated_root_info", sha256=volumes.fingerprint("old")) == 1
        assert running.metric("provider_state", state="ready") == 1  # it goes on quoting

        volumes.mount("new")
        await running.reaches("simulated_root_info", 1, sha256=volumes.fingerprint("new"))
        await running.ready()
        assert await root_in_quote(running) == volumes.fingerprint("new")
        assert running.metric("simulated_root_info", sha256=volumes.fingerprint("old")) is None
        assert running.metric("provider_losses_total") == 0


async def test_a_root_that_is_not_published_is_not_taken(in_process, volumes):
    volumes.mount("old")
    volumes.publish("old")
    async with in_process(None, open_backend=volumes.open, self_test_interval_seconds=0.005) as running:
        await running.ready()
        volumes.mount("new")
        await running.unready("mounted-root-changed")
        assert running.metric("simulated_root_info", sha256=volumes.fingerprint("old")) == 1
        (volumes.state / STATE_FILE).write_text("damaged")
        await running.unready("mounted-platform-unusable")
        volumes.mount("old")
        await running.ready()


async def test_a_new_helper_waits_for_the_published_root(in_process, volumes):
    volumes.mount("old")
    volumes.publish("new")
    async with in_process(None, open_backend=volumes.open, reopen_seconds=0.005) as running:
        await running.unready("published-root-not-mounted")
        assert running.metric("provider_state", state="preparing") == 1
        volumes.mount("new")
        await running.ready()
        assert running.metric("simulated_root_info", sha256=volumes.fingerprint("new")) == 1
