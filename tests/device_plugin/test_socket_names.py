import os
import socket

import pytest

from confcom.device_plugin import socket_names
from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.device_plugin.socket_names import INSTANCES, SocketNames, remove_stale_sockets, unused_instance
from confcom.errors import UnavailableError
from confcom.kubernetes.names import REAL
from testkit.expected_errors import raises

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
    other("me0")
    return SocketNames(directory, "confcom", "me0")


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
    later = other("it0")
    if seen:
        assert not peers.any_ended()
    ending(later)
    assert peers.any_ended() == (seen or ending is Other.kill), "a path that came and went unseen left no trace"
    assert not peers.any_ended()


def test_what_lay_there_when_we_registered_concerns_nobody(mine, other):
    other("it0").kill()
    assert not registered(mine).any_ended()


def test_another_that_moves_to_a_new_socket_has_not_ended(peers, other):
    first = other("it0")
    assert not peers.any_ended()
    other("it0", number=1)
    first.end()
    assert not peers.any_ended()
    assert peers.any_alive()


@pytest.mark.parametrize(
    ("instance", "details"),
    [("it0", {"resource": ENCLAVE}), ("it0", {"installation": "another"}), ("me0", {"number": 1})],
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
    older = other("it0")
    age(older.path, WITHIN + older_by)
    found = registered(mine)
    assert found.any_alive()
    if anew:
        later = other("it0", number=1)
        assert not found.any_ended()
        later.end()
    older.end()
    assert found.any_ended() == noticed


def test_a_directory_that_is_gone_says_nothing(directory):
    found = registered(SocketNames(directory / "gone", "confcom", "me0"))
    assert not found.any_ended()
    assert not found.any_alive()


def test_an_instance_takes_no_mark_that_is_in_use(directory, other):
    other("000")
    other("001", resource=ENCLAVE, installation="another")
    for number, taken in ((0, "002"), (2, "002"), (INSTANCES - 1, "zzz")):
        assert unused_instance(directory, lambda _below, number=number: number) == taken


def test_names_that_are_used_up_are_an_error(directory, monkeypatch):
    monkeypatch.setattr(socket_names, "INSTANCES", 3)
    for instance in ("000", "001", "002"):
        SocketNames(directory, "confcom", instance).path(EPC, 0).touch()
    with raises("socket-names-used-up", UnavailableError):
        unused_instance(directory, lambda below: below - 1)


def test_only_what_nobody_serves_is_removed(directory, mine, other):
    other("it0")
    killed = other("it1")
    killed.kill()
    for name in ("kubelet.sock", "other-vendor.sock", "sgx-epc-notours.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(directory / name))
    (directory / "sgx-epc-00000000000000.sock").touch()
    assert remove_stale_sockets(directory) == [killed.path.name]
