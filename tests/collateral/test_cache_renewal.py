"""Renewal beside the callers: nobody waits for a source that is slow, away, asked too often or wrong."""

import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.collateral import FetchError, cache
from testkit.collateral_caches import (
    DAY,
    EVIDENCE,
    EXPIRES,
    HALF,
    HOUR,
    LAB,
    NEWER,
    SECOND,
    Clock,
    cache_of,
    settle,
)
from testkit.collateral_service import answers_of, hang_up, serving, silent
from testkit.expected_errors import raises
from testkit.programs import run_python

SIGNER = LAB.platform.pki.tcb_signer


def filled(directory, url, clock, **options):
    """A cache with a set that is due at half of its time."""
    made = cache_of(directory, url, clock, **options)
    made.get(EVIDENCE.quote)
    clock.now = HALF
    return made


def test_nobody_waits_while_a_set_is_at_hand(tmp_path, clock):
    """The source answers after all callers have their sets."""
    released = threading.Event()

    def wait(handler):
        released.wait(50)
        handler.send_response(404)
        handler.end_headers()

    with serving(answers_of(EVIDENCE.collateral)) as (service, url), ThreadPoolExecutor(12) as pool:
        made = filled(tmp_path, url, clock)
        service.answers["tcb"] = wait
        found = list(pool.map(made.get, [EVIDENCE.quote] * 48))
        released.set()
        settle()
        assert {one.collateral for one in found} == {EVIDENCE.collateral}
        assert len(service.asked) == 5
        assert "404" in made.get(EVIDENCE.quote).problem


def ask(arguments):
    directory, url = arguments
    made = cache_of(directory, url, Clock(HALF))
    found = made.get(EVIDENCE.quote).collateral
    settle()
    return found


def test_one_process_of_many_renews(tmp_path, clock):
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        filled(tmp_path, url, clock)
        service.answers = answers_of(NEWER)
        with ProcessPoolExecutor(4) as pool:
            assert set(pool.map(ask, [(tmp_path, url)] * 12)) <= {EVIDENCE.collateral, NEWER}
        assert len(service.asked) == 8
        assert cache_of(tmp_path, url, clock).get(EVIDENCE.quote).collateral == NEWER


PROGRAM = """
import sys
from pathlib import Path
from testkit.collateral_caches import EVIDENCE, HALF, Clock, cache_of
made = cache_of(Path(sys.argv[1]), sys.argv[2], Clock(HALF), seconds=600)
print(made.get(EVIDENCE.quote).collateral.evaluation_number)
"""


def test_a_renewal_delays_no_exit(tmp_path, clock):
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        filled(tmp_path, url, clock)
        service.answers["tcb"] = silent
        done = run_python("-c", PROGRAM, tmp_path, url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize("retry_after", ["1800", "Tue, 08 Dec 2026 12:30:00 GMT"])
def test_429_is_obeyed_by_every_process(tmp_path, clock, retry_after):
    assert HALF.isoformat() == "2026-12-08T12:00:00+00:00"
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        filled(tmp_path, url, clock)
        service.answers["tcb"] = (429, {"Retry-After": retry_after}, b"")
        for clock.now, asked in ((HALF, 5), (HALF + HOUR / 2 - SECOND, 5), (HALF + HOUR / 2, 6)):
            made = cache_of(tmp_path, url, clock)
            assert made.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
            settle()
            assert len(service.asked) == asked
            with raises("source-busy", FetchError, "why", "remedy"):
                made.renew(EVIDENCE.quote)
            assert len(service.asked) == asked


def test_in_the_last_days_a_call_waits_for_a_newer_set(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(cache, "LAST_DAYS_WAIT_SECONDS", 50)
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        made = filled(tmp_path, url, clock)
        service.answers = answers_of(NEWER)
        clock.now = EXPIRES - DAY
        found = made.get(EVIDENCE.quote)
        assert (found.collateral, found.problem) == (NEWER, "")


def test_in_the_last_days_a_call_waits_no_longer_than_that(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(cache, "LAST_DAYS_WAIT_SECONDS", 0.01)
    released = threading.Event()
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        made = filled(tmp_path, url, clock)
        service.answers["tcb"] = lambda _: released.wait(50)
        clock.now = EXPIRES - DAY
        assert made.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
        released.set()


def test_one_wrong_answer_refuses_nothing(tmp_path, clock):
    forged = LAB.edit_json(EVIDENCE, "tcb_info", lambda document: document.update(fmspc="000000000000"))
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        made = filled(tmp_path, url, clock)
        for wrong in (answers_of(forged.collateral), {"tcb": (500, {}, b"")}, {"tcb": hang_up}):
            service.answers = wrong
            made.get(EVIDENCE.quote)
            settle()
            found = made.get(EVIDENCE.quote)
            assert (found.collateral, bool(found.problem)) == (EVIDENCE.collateral, True)
            clock.now += HOUR
        service.answers = answers_of(NEWER)
        clock.now = EXPIRES - 10 * DAY
        made.get(EVIDENCE.quote)
        settle()
        found = made.get(EVIDENCE.quote)
        assert (found.collateral, found.problem) == (NEWER, "")


def test_a_job_renews_what_is_fresh(tmp_path, clock):
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        made = cache_of(tmp_path, url, clock)
        for asked in (4, 8, 12):
            assert made.renew(EVIDENCE.quote).collateral == EVIDENCE.collateral
            assert len(service.asked) == asked
        service.answers["tcb"] = (500, {}, b"")
        with raises("source-failed", FetchError, "why", "remedy"):
            made.renew(EVIDENCE.quote)
        assert made.get(EVIDENCE.quote).collateral == EVIDENCE.collateral


def revoking_signer():
    return LAB.crl(LAB.platform.pki.root, SIGNER.certificate)


def due(directory, url, clock, collateral):
    """A cache with this set, which is due."""
    made = cache_of(directory, url, clock)
    assert made.get(EVIDENCE.quote).collateral == collateral
    clock.now = HALF
    return made


def test_a_signed_revocation_in_a_bad_set_ends_the_set_at_hand(tmp_path, clock):
    forged = LAB.edit_json(EVIDENCE, "qe_identity", lambda document: document.update(isvprodid=7), sign_again=False)
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        made = due(tmp_path, url, clock, EVIDENCE.collateral)
        service.answers = answers_of(forged.with_collateral(root_ca_crl=revoking_signer()).collateral)
        made.get(EVIDENCE.quote)
        settle()
        with raises("collateral-revoked", FetchError, "why", "remedy"):
            made.get(EVIDENCE.quote)


def test_an_old_set_of_a_revoked_signer_ends_no_newer_set(tmp_path, clock):
    signer = LAB.reissue(SIGNER, LAB.platform.pki.root, serial_number=SIGNER.certificate.serial_number + 1)
    chain = signer.public_bytes(Encoding.PEM) + LAB.platform.pki.root.pem
    newer = EVIDENCE.with_collateral(tcb_info_issuer_chain=chain, qe_identity_issuer_chain=chain).collateral
    with serving(answers_of(newer)) as (service, url):
        made = due(tmp_path, url, clock, newer)
        service.answers = answers_of(EVIDENCE.with_collateral(root_ca_crl=revoking_signer()).collateral)
        made.get(EVIDENCE.quote)
        settle()
        found = made.get(EVIDENCE.quote)
        assert (found.collateral, bool(found.problem)) == (newer, True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_weeks_without_the_source(tmp_path, clock):
    """Every quote has its collateral, and the source is asked a few times an hour."""
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        made = filled(tmp_path, url, clock)
        service.answers, asked = {"tcb": hang_up}, []
        while clock.now < EXPIRES:
            before = len(service.asked)
            assert made.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
            settle()
            asked.append(len(service.asked) - before)
            clock.now += 7 * HOUR if clock.now > HALF + 4 * HOUR else HOUR / 12
        assert sum(asked[:12]) <= 2 * 8  # doubling pauses, and two attempts each
        assert all(sum(asked[hour * 12 : hour * 12 + 12]) <= 2 * 2 for hour in (2, 3))
        service.answers = answers_of(NEWER)
        clock.now = EXPIRES + HOUR
        assert made.get(EVIDENCE.quote).collateral == NEWER


ENDED = """
import asyncio, atexit, threading
from confcom.collateral.detached_call import call_detached, run_apart

begun = threading.Event()

async def wait_for_ever():
    begun.set()
    await asyncio.Event().wait()

atexit.register(lambda: print(*(thread.name for thread in threading.enumerate())))
call_detached(lambda: run_apart(wait_for_ever()))
begun.wait()
"""


def test_no_renewal_runs_while_the_process_ends():
    done = run_python("-c", ENDED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "MainThread\n", "")
