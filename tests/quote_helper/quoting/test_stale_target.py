"""Error 42 or 47: how long a client may use target info of the previous quoting enclave."""

import asyncio

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetQuoteExRequest
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import REPORT_DATA_SIZE, TargetInfo

ASK_AGAIN, FINAL = AesmErrorCode.ATT_KEY_NOT_INITIALIZED, AesmErrorCode.INVALID_REPORT
WINDOW = 60.0


@pytest.fixture
def stale_quote(enclave):
    """A quote request with a report for another quoting enclave."""
    report = enclave.create_report(TargetInfo.parse(bytes(512)), bytes(REPORT_DATA_SIZE)).encode()
    return GetQuoteExRequest(report=report, buf_size=8192, att_key_id=ECDSA_P256_KEY_ID.encode())


@pytest.fixture
def policy(clock):
    return StaleTargetPolicy(WINDOW, clock)


def test_clients_init_again_until_the_window_ends(policy, clock):
    assert policy.code_for_rejected_report() is ASK_AGAIN
    clock.now += 500
    policy.quotes_for(b"one")
    assert policy.code_for_rejected_report() is ASK_AGAIN
    clock.now += WINDOW - 1
    policy.quotes_for(b"one")
    assert policy.code_for_rejected_report() is ASK_AGAIN
    clock.now += 1
    assert policy.code_for_rejected_report() is FINAL


@pytest.mark.parametrize("taken", [False, True], ids=["another enclave", "the path was taken"])
def test_a_changed_quoting_enclave_opens_the_window_again(policy, clock, taken):
    policy.quotes_for(b"one")
    clock.now += 2 * WINDOW
    assert policy.code_for_rejected_report() is FINAL
    policy.open_window() if taken else policy.quotes_for(b"two")
    assert policy.code_for_rejected_report() is ASK_AGAIN
    clock.now += WINDOW
    assert policy.code_for_rejected_report() is FINAL


async def test_an_identity_from_a_clients_call_opens_it_too(policy, clock, provider, stale_quote):
    """The quoting enclave changes after the last self-test, so only a client's call reveals the change."""
    policy.quotes_for(b"one")
    clock.now += 2 * WINDOW
    answers = asyncio.Queue()
    service = QuoteService(
        lambda _, answer: answers.put_nowait(answer), stale=policy, limits=HelperLimits(), clock=clock
    )
    service.provide(provider)
    service.respond(stale_quote, "peer", "asker")
    assert (await answers.get()).error_code == ASK_AGAIN
    clock.now += WINDOW
    service.respond(stale_quote, "peer", "asker")
    assert (await answers.get()).error_code == FINAL
    service.close()


async def test_the_window_of_a_helper_begins_with_its_self_test(in_process, provider, stale_quote):
    async with in_process(provider, more=("--stale-report-window-seconds", "1")) as running:
        await running.ready()
        await asyncio.sleep(1.2)
        assert await running.code(stale_quote) == FINAL
