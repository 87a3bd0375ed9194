import logging

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.quote_provider.base import QuoteProviderError
from confcom.relay.instance import FAILURE_LINK
from confcom.relay.provider import UNREACHABLE
from confcom.relay.restart_policy import FIRST_PAUSE_SECONDS
from confcom.relay.self_test import FULL_TEST_SECONDS, open_aesmd, run_hardware_self_test
from confcom.simulation.enclave import SimulatedEnclave
from testkit.expected_errors import raises
from testkit.hardware_causes import CAUSES
from testkit.stub_aesmd import INIT, NUM, QUOTE, SIZE, UNINITIALISED_QE_ID

APPLICATION = SimulatedEnclave.from_name("application")


def test_the_self_test_wants_a_wrong_report_refused(backend, aesmd):
    provider = backend.provider
    assert run_hardware_self_test(provider) == aesmd.provider.identity()
    assert aesmd.asked == [INIT, SIZE, QUOTE]
    provider.quote = lambda *_: None
    with raises("wrong-report-signed", QuoteProviderError, "why", "remedy"):
        run_hardware_self_test(provider)


def test_a_full_self_test_comes_once_a_minute_and_after_a_loss(backend, aesmd, clock, caplog):
    def asked():
        aesmd.asked.clear()
        assert backend.self_test() == aesmd.provider.identity()
        return QUOTE in aesmd.asked

    assert asked()
    assert not asked()
    assert NUM in aesmd.asked
    clock.now += FULL_TEST_SECONDS
    assert asked()
    backend.provider.doubted = True
    assert asked()
    assert not asked()
    aesmd.restart()
    assert asked()
    assert not aesmd.log
    assert not [record for record in caplog.records if "TEST ROOT" not in record.getMessage()]


def failed(backend):
    with pytest.raises(QuoteProviderError) as caught:
        backend.self_test()
    return caught.value


@pytest.mark.parametrize("initialised", [True, False], ids=["after a success", "before"])
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_what_causes_what(cause, initialised, *, backend, aesmd, clock, request_file, restarts):
    """The self-test fails with advice, and requests a restart only if aesmd cannot recover by itself."""
    if initialised:
        backend.self_test()
        clock.now += FULL_TEST_SECONDS
    codes = zip((INIT, SIZE, QUOTE, NUM), map(Code, (*cause.codes, cause.key_count_code)), strict=True)
    aesmd.codes, aesmd.lines = {kind: code for kind, code in codes if code}, cause.lines
    restart = cause.restarts == "yes" or (cause.restarts != "no" and not initialised)
    for _ in range(2):
        error = failed(backend)
        assert (error.code, error.lost) == (cause.codes[0], restart)
        assert cause.advice in error.remedy
        clock.now += FULL_TEST_SECONDS
    assert set(aesmd.log) == set(cause.lines)
    assert restarts == ([error.code.name.lower()] if restart else [])
    aesmd.codes = {}
    if restart:
        assert failed(backend).code == cause.codes[0]
        assert request_file.exists()
        aesmd.restart()
    assert backend.self_test() == aesmd.provider.identity()
    assert not request_file.exists()


@pytest.mark.parametrize("code", [1, 29, 46, 48])
@pytest.mark.parametrize("asker", ["self-test", "client"])
def test_after_a_failed_load_only_another_process_is_ready(backend, aesmd, request_file, asker, code):
    """The next init of this aesmd process succeeds, but its quotes have an uninitialised QE id."""
    aesmd.fail_id_enclave(code)
    if asker == "client":
        with pytest.raises(QuoteProviderError):
            backend.provider.identity()
    for _ in range(3):
        assert failed(backend).code == code
    assert UNINITIALISED_QE_ID in quote_of(backend.provider)
    assert request_file.exists()
    aesmd.restart()
    assert backend.self_test() == aesmd.provider.identity()
    assert UNINITIALISED_QE_ID not in quote_of(backend.provider)


def quote_of(provider):
    return provider.quote(APPLICATION.create_report(provider.identity().target_info, bytes(64)), None).quote


def test_a_helper_that_starts_anew_knows_the_failure_and_its_code(backend, open_backend, aesmd, clock, request_file):
    """In the pause after a restart the helper requests no restart, but it still knows the code."""
    for starts_again in (False, True):
        aesmd.restart()
        aesmd.fail_id_enclave(Code.OUT_OF_EPC)
        failed(backend)
        assert request_file.exists() is not starts_again
        for _ in range(2):
            assert failed(open_backend()).code is Code.OUT_OF_EPC
            assert request_file.exists()
        aesmd.restart()
        assert open_backend().self_test() == backend.self_test() == aesmd.provider.identity()
        clock.now += FULL_TEST_SECONDS


@pytest.mark.parametrize("target", ["1-2", "1-2-x", "1-2-99", ""])
def test_a_link_of_another_program_says_nothing(open_backend, aesmd, target):
    link = aesmd.path.with_name(FAILURE_LINK)
    link.symlink_to(target) if target else link.mkdir()
    assert open_backend().self_test() == aesmd.provider.identity()


def test_what_cannot_be_written_is_known_to_the_running_helper_alone(backend, open_backend, aesmd):
    aesmd.path.with_name(FAILURE_LINK).mkdir()
    aesmd.lose_enclave()
    assert failed(backend).code is Code.ENCLAVE_LOST
    aesmd.run.codes = {}
    assert failed(backend).code is Code.ENCLAVE_LOST
    assert open_backend().self_test() == aesmd.provider.identity()


def test_a_late_answer_of_the_one_before_changes_nothing(backend, aesmd):
    runs = backend.self_test.runs
    before = runs.current()
    aesmd.restart()
    backend.self_test()
    runs.fail(before, QuoteProviderError(Code.SERVICE_UNAVAILABLE, "it ended"))
    assert backend.self_test() == aesmd.provider.identity()


def test_no_restart_is_requested_of_one_that_is_gone(backend, open_backend, aesmd, request_file):
    aesmd.lose_enclave()
    failed(backend)
    request_file.unlink()
    aesmd.kill()
    assert failed(open_backend()).error_code == UNREACHABLE
    assert not request_file.exists()


def test_the_pause_before_the_next_restart_is_known(backend, aesmd, clock, restarts):
    """If no restart of aesmd is due soon, clients that wait for aesmd get their answers at once."""
    for began in (0, 5):
        aesmd.lose_enclave()
        with pytest.raises(QuoteProviderError):
            backend.provider.quote_size()
        for _ in range(2):
            assert failed(backend).outage_seconds == (FIRST_PAUSE_SECONDS - 5 if began else 0)
        aesmd.restart()
        backend.self_test()
        clock.now += 5
    clock.now += FIRST_PAUSE_SECONDS
    aesmd.lose_enclave()
    assert failed(backend).outage_seconds == 0
    assert restarts == ["enclave_lost"] * 2


def test_a_platform_that_it_made_up_is_not_reported(backend, aesmd):
    """After a failed load of the ID enclave, aesmd asks PCCS for a platform with the uninitialised id."""
    aesmd.fail_id_enclave(Code.OUT_OF_EPC)
    failed(backend)
    aesmd.codes = {INIT: Code.NO_PLATFORM_CERT_DATA}
    assert failed(backend).code is Code.OUT_OF_EPC


@pytest.mark.parametrize("code", [44, 12, 1, 43])
def test_a_clients_refusal_brings_a_full_test_forward(backend, aesmd, code):
    backend.self_test()
    assert not backend.doubted()
    aesmd.codes = {QUOTE: Code(code)}
    with pytest.raises(QuoteProviderError):
        quote_of(backend.provider)
    assert backend.doubted()
    assert failed(backend).code == code
    assert not backend.doubted()


def test_a_test_root_is_told(aesmd, short_dir, caplog):
    for root, told in ((short_dir / "root.pem", True), (None, False)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            open_aesmd(aesmd.path, expected_root=root)
        assert any("TEST ROOT" in record.getMessage() for record in caplog.records) is told
