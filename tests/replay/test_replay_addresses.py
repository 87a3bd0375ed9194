"""Where clients look for the service: the abstract name that the helper does not bind, and the path."""

import socket

from confcom.aesm.messages import MessageKind
from testkit.replay.proxy import spoiling
from testkit.replay.runner import ABSTRACT_NAME
from testkit.replay.sequences import FORTANIX, GRAMINE, OPEN_ENCLAVE, ReplayedClient


def test_the_abstract_name_fills_the_whole_address():
    assert len(ABSTRACT_NAME) == 108
    assert ABSTRACT_NAME.strip(b"\0") == b"sgx_aesm_socket_base"


def test_gramine_goes_to_whoever_has_bound_the_padded_abstract_name(helper, tmp_path, abstract_name):
    caught = []

    def pass_on(call, _, answer):
        caught.append(call)
        return (answer,)

    with spoiling(helper, abstract_name, pass_on):
        run = ReplayedClient(GRAMINE, tmp_path / "nobody", abstract_name=abstract_name).run()
    assert run.failure == ""
    assert caught == [MessageKind.INIT_QUOTE_EX, MessageKind.GET_QUOTE_EX]


def test_gramine_takes_the_path_if_the_name_is_free_or_bound_without_padding(helper, abstract_name):
    with spoiling(helper, abstract_name.rstrip(b"\0"), lambda *_: ()):
        assert ReplayedClient(GRAMINE, helper.socket, abstract_name=abstract_name).run().failure == ""


def test_fortanix_takes_the_abstract_name_only_if_nothing_is_at_the_path(helper, tmp_path, abstract_name):
    missing = tmp_path / "missing"
    assert "refused" in ReplayedClient(FORTANIX, missing, abstract_name=abstract_name).run().failure
    with spoiling(helper, abstract_name, lambda _call, _number, answer: (answer,)):
        assert ReplayedClient(FORTANIX, missing, abstract_name=abstract_name).run().failure == ""
        missing.touch()
        assert "refused" in ReplayedClient(FORTANIX, missing, abstract_name=abstract_name).run().failure


def test_a_missing_service_is_an_error_and_not_a_wait(tmp_path):
    run = ReplayedClient(OPEN_ENCLAVE, tmp_path / "missing").run()
    assert run.failure == "GetSupportedAttKeyIDNum: No such file or directory"
    assert run.code is None


def test_a_service_that_is_silent_is_left_after_the_longest_wait(tmp_path, abstract_name):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        run = ReplayedClient(GRAMINE, path, longest_wait=0.05, abstract_name=abstract_name).run()
    assert "timed out" in run.failure
