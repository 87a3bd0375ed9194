import os
import socket

import pytest

from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.device_plugin.socket_names import SocketNames, remove_stale_sockets
from confcom.kubernetes.names import REAL

EPC = Resource(ResourceKind.EPC, REAL.epc, 4)
ENCLAVE = Resource(ResourceKind.ENCLAVE, "sgx.intel.com/enclave", 4)
WITHIN = 12.0


class Other:
    def __init__(self, directory, instance, *, number=0, resource=EPC, installation="confcom"):
        self.path = SocketNames(directory, installation, instance).path(resource, number)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen()

    def kill(self):
        self._socket.close()

    def end(self):
        self.path.unlink()
        self.kill()


@pytest.fixture
def other(directory):
    made = []

    def make(instance, **details):
        made.append(Other(directory, instance, **details))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def mine(directory, other):
    """Names of sockets for the instance under test, which serves its own socket."""
    other("aaaaa0")
    return SocketNames(directory, "confcom", "aaaaa0")


@pytest.fixture
def peers(mine):
    return registered(mine)


def age(path, seconds):
    then = path.lstat().st_mtime - seconds
    os.utime(path, (then, then))


def registered(names):
    """What the instance under test knows of other instances right after its registration."""
    found = names.peers(EPC)
    found.record_registration(names.path(EPC, 0), within=WITHIN)
    return found


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("ending", [Other.end, Other.kill])
def test_the_end_of_another_is_noticed_once(peers, other, ending, seen):
    later = other("bbbbb0")
    if seen:
        assert not peers.any_ended()
    ending(later)
    assert peers.any_ended() == (seen or ending is Other.kill), "a path that came and went unseen left no trace"
    assert not peers.any_ended()


def test_what_lay_there_when_we_registered_concerns_nobody(mine, other):
    other("bbbbb0").kill()
    assert not registered(mine).any_ended()


def test_another_that_moves_to_a_new_socket_has_not_ended(peers, other):
    first = other("bbbbb0")
    assert not peers.any_ended()
    other("bbbbb0", number=1)
    first.end()
    assert not peers.any_ended()
    assert peers.any_alive()


@pytest.mark.parametrize(
    ("instance", "details"),
    [("bbbbb0", {"resource": ENCLAVE}), ("bbbbb0", {"installation": "another"}), ("aaaaa0", {"number": 1})],
    ids=["resource", "installation", "our own"],
)
def test_some_sockets_concern_nobody(peers, other, instance, details):
    later = other(instance, **details)
    assert not peers.any_ended()
    assert not peers.any_alive()
    later.end()
    assert not peers.any_ended()


@pytest.mark.parametrize(("older_by", "anew", "noticed"), [(1, False, False), (-1, False, True), (1, True, True)])
def test_the_end_of_an_older_one_is_the_kubelets_to_tell(mine, other, older_by, anew, noticed):
    older = other("bbbbb0")
    age(older.path, WITHIN + older_by)
    found = registered(mine)
    assert found.any_alive()
    if anew:
        later = other("bbbbb0", number=1)
        assert not found.any_ended()
        later.end()
    older.end()
    assert found.any_ended() == noticed


def test_a_directory_that_is_gone_says_nothing(directory):
    found = registered(SocketNames(directory / "gone", "confcom", "aaaaa0"))
    assert not found.any_ended()
    assert not found.any_alive()


def test_only_what_nobody_serves_is_removed(directory, mine, other):
    other("bbbbb0")
    killed = other("bbbbb1")
    killed.kill()
    for name in ("kubelet.sock", "other-vendor.sock", "sgx-epc-notours.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(directory / name))
    (directory / "sgx-epc-00000000000000.sock").touch()
    assert remove_stale_sockets(directory) == [killed.path.name]
