import pytest

from confcom.quote_provider.dcap.provider import DcapQuoteProvider
from confcom.quote_provider.expected_root import read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from testkit.stub_dcap import StubDcap, build_libraries


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    return build_libraries(tmp_path_factory.mktemp("dcap"))


@pytest.fixture
def platform(tmp_path):
    return SimulatedQuoteProvider.open_or_create(tmp_path / "platform")


@pytest.fixture
def root(tmp_path, platform):
    file = tmp_path / "root.pem"
    file.write_bytes(open_platform(tmp_path / "platform").pki.root.pem)
    return read_expected_root(file)


@pytest.fixture
def stub(short_dir, platform):
    stub = StubDcap(short_dir / "stub", platform).start()
    yield stub
    stub.close()


@pytest.fixture
def make(stub, root, libraries):
    """Makes providers, which are closed afterwards."""
    made = []

    def make(library_dir=libraries, **options):
        options = {"environ": stub.environ, "call_seconds": 20, "pauses": (0,)} | options
        made.append(DcapQuoteProvider.by_child(options.pop("root", root), library_dir=library_dir, **options))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def dcap(make):
    return make()
