import pytest

from confcom.aesm.error_code import AesmErrorCode, advice_for, code_of, describe
from confcom.aesm.errors import AesmError, StaleTargetError, service_error
from confcom.errors import ExitCode
from testkit.expected_errors import require_style

TRANSIENT = {12, 13, 17, 18, 19, 30}


def test_numbers_are_those_of_intels_header():
    assert sorted(AesmErrorCode) == [*range(27), *range(28, 52)], "27 is unused"
    codes = {3: "aesm-parameter-error", 18: "aesm-busy", 42: "aesm-att-key-not-initialized", 27: "aesm-unknown"}
    assert {number: code_of(number) for number in codes} == codes


@pytest.mark.parametrize("code", [*(set(AesmErrorCode) - {42}), 27, 52, 2**32 - 1])
def test_errors_carry_name_meaning_advice_and_an_exit_code(code):
    advice = advice_for(code)
    if code in set(AesmErrorCode):
        assert advice is not advice_for(27), "it has no entry of its own"
        assert describe(code) == f"{int(code)} ({code.name})"
    error = service_error(code, "GetQuoteEx")
    assert type(error) is AesmError
    assert (error.code, error.call, error.error_code) == (code, "GetQuoteEx", code_of(code))
    assert (error.why, error.remedy) == (advice.meaning, advice.remedy)
    assert "GetQuoteEx" in error.what
    assert describe(code) in error.what
    assert str(int(code)) in describe(code)
    require_style(error, "why", "remedy")
    assert error.exit_code == (ExitCode.UNAVAILABLE if code in TRANSIENT else ExitCode.FAILED)


def test_a_stale_target_is_an_error_of_its_own():
    error = service_error(42, "GetQuoteSizeEx")
    assert isinstance(error, StaleTargetError)
    assert (error.code, error.call, error.error_code) == (42, "GetQuoteSizeEx", "aesm-att-key-not-initialized")
