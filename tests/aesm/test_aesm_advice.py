import pytest

from confcom.aesm.advice import advice_for, describe
from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.aesm.errors import AesmError, StaleTargetError, service_error
from confcom.errors import ConfcomError, ExitCode
from testkit.raised import require_style

NUMBERS = {
    "SUCCESS": 0,
    "UNEXPECTED_ERROR": 1,
    "NO_DEVICE_ERROR": 2,
    "PARAMETER_ERROR": 3,
    "NETWORK_ERROR": 12,
    "BUSY": 18,
    "OUT_OF_EPC": 29,
    "SERVICE_UNAVAILABLE": 30,
    "UNSUPPORTED_ATT_KEY_ID": 38,
    "ATT_KEY_NOT_INITIALIZED": 42,
    "NO_PLATFORM_CERT_DATA": 44,
    "INVALID_REPORT": 47,
    "CONFIG_UNSUPPORTED": 51,
}
TRANSIENT = {12, 13, 17, 18, 19, 30}


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_numbers_are_those_of_intels_header(name, number):
    assert AesmErrorCode[name] == number


def test_every_number_but_the_unused_27_has_a_name():
    assert sorted(AesmErrorCode) == [*range(27), *range(28, 52)]


@pytest.mark.parametrize("code", AesmErrorCode)
def test_every_code_says_what_it_means_and_what_to_do(code):
    advice = advice_for(code)
    assert advice is not advice_for(27), "it has no entry of its own"
    for text in (advice.meaning, advice.remedy):
        assert len(text.split()) > 2
    assert describe(code) == f"{int(code)} ({code.name})"


@pytest.mark.parametrize("code", [*(set(AesmErrorCode) - {0, 42}), 27, 52, 99, 2**32 - 1])
def test_errors_carry_name_meaning_advice_and_an_exit_code(code):
    error = service_error(code, "GetQuoteEx")
    assert type(error) is AesmError
    assert isinstance(error, ConfcomError)
    assert (error.code, error.call, error.error_code) == (code, "GetQuoteEx", code_of(code))
    assert (error.why, error.remedy) == (advice_for(code).meaning, advice_for(code).remedy)
    for part in ("GetQuoteEx", describe(code)):
        assert part in error.what
    assert str(code) in describe(code)
    require_style(error, "why", "remedy")
    assert error.exit_code == (ExitCode.UNAVAILABLE if code in TRANSIENT else ExitCode.FAILED)


@pytest.mark.parametrize(
    ("number", "code"),
    [(3, "aesm-parameter-error"), (18, "aesm-busy"), (42, "aesm-att-key-not-initialized"), (27, "aesm-unknown")],
)
def test_a_code_is_the_numbers_name(number, code):
    assert code_of(number) == code


def test_a_stale_target_is_an_error_of_its_own():
    error = service_error(42, "GetQuoteSizeEx")
    assert isinstance(error, StaleTargetError)
    assert (error.code, error.call, error.error_code) == (42, "GetQuoteSizeEx", "aesm-att-key-not-initialized")


def test_one_errors_exit_code_is_not_anothers():
    service_error(18, "GetQuoteEx")
    assert service_error(47, "GetQuoteEx").exit_code is ExitCode.FAILED
