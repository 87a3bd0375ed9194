import multiprocessing
import os
import random
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from confcom.sgx.simulation_marks import SIMULATION_MEMBER
from confcom.verify import CollateralError, MalformedError, SettingsError, VerdictKind, prepared_collateral, verify
from testkit.expected_errors import raises
from testkit.verify import tampering
from testkit.verify.verify_lab import NOW


@pytest.fixture(scope="module")
def prepared(evidence):
    return evidence.collateral.prepared(evidence.trusted, NOW)


@pytest.mark.parametrize("case", [*tampering.cases()], ids=lambda case: case.name)
def test_prepared_collateral_decides_as_before(lab, evidence, tampered, prepared, case):
    """The same holds after a good quote, whose certification the prepared collateral remembers."""
    found = tampered[case.name]
    assert verify(evidence.quote, lab.policy, prepared, now=NOW).ok
    if (found.collateral, found.root, found.now) != (prepared.collateral, prepared.root.certificate, NOW):
        try:
            prepared = found.collateral.prepared(found.trusted, found.now)
        except (CollateralError, MalformedError):
            assert not found.verdict(lab.policy).ok
            return
    for _ in range(2):
        assert verify(found.quote, lab.policy, prepared, now=found.now) == found.verdict(lab.policy)


def test_expiry_is_checked_at_each_call(lab, evidence, prepared):
    expires = evidence.collateral.expires
    assert verify(evidence.quote, lab.policy, prepared, now=expires - timedelta(seconds=1)).ok
    verdict = verify(evidence.quote, lab.policy, prepared, now=expires)
    assert verdict.kind is VerdictKind.UNUSABLE
    assert [check.code for check in verdict.failures] == ["collateral"]
    later = evidence.trusted.certificate.not_valid_after_utc + timedelta(days=1)
    failed = {check.code for check in verify(evidence.quote, lab.policy, prepared, now=later).failures}
    assert failed == {"root-validity", "signatures", "marks", "collateral"}


def test_collateral_of_another_root_is_not_prepared(lab, evidence):
    with raises("collateral-signer", CollateralError, "why", "remedy"):
        evidence.collateral.prepared(lab.evidence(platform=lab.stranger).trusted, NOW)
    with raises("not-signed-json", MalformedError, "why", "remedy"):
        replace(evidence.collateral, tcb_info=b"junk").prepared(evidence.trusted, NOW)
    unmarked = lab.edit_json(evidence, "tcb_info", lambda document: document.pop(SIMULATION_MEMBER)).collateral
    with raises("collateral-marks", CollateralError, "why", "remedy"):
        unmarked.prepared(evidence.trusted, NOW)


def test_another_root_than_the_prepared_one_is_refused(lab, evidence, prepared):
    assert verify(evidence.quote, lab.policy, prepared, root=evidence.trusted, now=NOW).ok
    with raises("wrong-value", ValueError, "why", "remedy"):
        verify(evidence.quote, lab.policy, prepared, root=lab.evidence(platform=lab.stranger).trusted, now=NOW)


def test_what_is_remembered_is_bounded(lab, evidence, monkeypatch):
    monkeypatch.setattr(prepared_collateral, "MAX_KNOWN_KEYS", 1)
    prepared = evidence.collateral.prepared(evidence.trusted, NOW)
    other = lab.evidence()
    for _ in range(2):
        for quote in (evidence.quote, lab.edit_signed(other, body={"isv_svn": 3}).quote, b"junk"):
            verify(quote, lab.policy, prepared, now=NOW)
    assert len(prepared._known) == 1


def test_what_is_padded_is_not_remembered(lab, evidence):
    prepared = evidence.collateral.prepared(evidence.trusted, NOW)
    quote = evidence.parsed
    for number in (0, 20_000):
        chain = quote.signature.certification.data + b"\n" * number
        certification = replace(quote.signature.certification, data=chain)
        padded = replace(quote, signature=replace(quote.signature, certification=certification)).encode()
        assert verify(padded, lab.policy, prepared, now=NOW).ok
        assert len(prepared._known) == 1


def test_threads_share_everything(lab, evidence, prepared):
    forged = bytearray(evidence.quote)
    forged[200] ^= 1
    barrier = threading.Barrier(8)

    def run(number):
        barrier.wait()
        quotes = [evidence.quote, bytes(forged)]
        return [verify(quotes[(number + turn) % 2], lab.policy, prepared, now=NOW).ok for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(8)))
    assert results == [[(number + turn) % 2 == 0 for turn in range(20)] for number in range(8)]


def test_a_pool_of_processes(lab, evidence, prepared):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        futures = [pool.submit(verify, quote, lab.policy, prepared, None, NOW) for quote in (evidence.quote, b"junk")]
        assert [future.result().ok for future in futures] == [True, False]
        assert pool.submit(os.getpid).result() != os.getpid()
        with pytest.raises(SettingsError) as caught:
            pool.submit(verify, 3, lab.policy, prepared).result()
        assert isinstance(caught.value, TypeError)


def test_a_pool_survives_a_thousand_hostile_quotes(lab, evidence, prepared):
    chance = random.Random(1)
    hostile = []
    for _ in range(1000):
        quote = bytearray(evidence.quote)
        for _ in range(chance.randint(1, 8)):
            quote[chance.randrange(len(quote))] = chance.randrange(256)
        hostile.append(bytes(quote[: chance.choice([len(quote), len(quote), chance.randrange(len(quote))])]))
    decide = partial(verify, policy=lab.policy, collateral=prepared, now=NOW)
    with ProcessPoolExecutor(2) as pool:
        verdicts = list(pool.map(decide, hostile, chunksize=100))
        assert pool.submit(decide, evidence.quote).result().ok
    assert [verdict.ok for verdict in verdicts] == [quote == evidence.quote for quote in hostile]
