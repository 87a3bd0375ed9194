"""A quote provider that panics, as libraries written in Rust do."""

import asyncio

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetSupportedAttKeyIdNumRequest, InitQuoteExRequest
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=32)


class Panic(BaseException):
    """As a panic in a library written in Rust arrives: pyo3's PanicException is no Exception."""


@pytest.mark.parametrize("waits", [False, True])
async def test_a_provider_that_panics_is_answered_for_like_any_other_failure(in_process, provider, waits):
    provider.waits = waits
    async with in_process(provider, self_test_interval_seconds=3600.0) as helper:
        await helper.ready()
        provider.fail(Panic)
        responses = await asyncio.gather(*(helper.ask(INIT) for _ in range(20)))
        assert {response.error_code for response in responses} == {AesmErrorCode.UNEXPECTED_ERROR}
        provider.work()
        assert (await helper.ask(INIT)).error_code == AesmErrorCode.SUCCESS


@pytest.mark.parametrize("waits", [False, True])
async def test_a_self_test_that_panics_loses_the_provider_and_not_the_helper(in_process, provider, waits):
    provider.waits = waits
    async with in_process(provider, self_test_interval_seconds=0.01) as helper:
        await helper.ready()
        provider.fail(Panic)
        await helper.metric_reaches('confcom_quote_helper_provider_state{state="lost"}', 1.0)
        assert (await helper.ask(GetSupportedAttKeyIdNumRequest())).error_code == AesmErrorCode.SUCCESS
        provider.work()
        await helper.ready()
