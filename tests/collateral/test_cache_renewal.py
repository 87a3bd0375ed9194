"""Renewal beside the callers: nobody waits for a source that is slow, away, asked too often or wrong."""

import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.collateral import FetchError
from confcom.collateral import cache as cache_module
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
from testkit.collateral_service import answers_of, hang_up, send, silent
from testkit.expected_errors import raises
from testkit.programs import run_python

SIGNER = LAB.platform.pki.tcb_signer


@pytest.fixture
def due(cache, clock):
    """A cache with a set that is due."""
    cache.get(EVIDENCE.quote)
    clock.now = HALF
    return cache


def test_nobody_waits_while_a_set_is_at_hand(due, service):
    """The source answers after all callers have their sets."""
    released = threading.Event()

    def wait(handler):
        released.wait(50)
        send(handler, 404, {}, b"")

    with ThreadPoolExecutor(12) as pool:
        service.answers["tcb"] = wait
        found = list(pool.map(due.get, [EVIDENCE.quote] * 48))
        released.set()
        settle()
    assert {one.collateral for one in found} == {EVIDENCE.collateral}
    assert len(service.asked) == 5
    assert "404" in due.get(EVIDENCE.quote).problem


def ask(arguments):
    directory, url = arguments
    made = cache_of(directory, url, Clock(HALF))
    found = made.get(EVIDENCE.quote).collateral
    settle()
    return found


@pytest.mark.usefixtures("due")
def test_one_process_of_many_renews(tmp_path, clock, service):
    service.answers = answers_of(NEWER)
    with ProcessPoolExecutor(4) as pool:
        assert set(pool.map(ask, [(tmp_path, service.url)] * 12)) <= {EVIDENCE.collateral, NEWER}
    assert len(service.asked) == 8
    assert cache_of(tmp_path, service.url, clock).get(EVIDENCE.quote).collateral == NEWER


PROGRAM = """
import sys
from pathlib import Path
from testkit.collateral_caches import EVIDENCE, HALF, Clock, cache_of
made = cache_of(Path(sys.argv[1]), sys.argv[2], Clock(HALF), seconds=600)
print(made.get(EVIDENCE.quote).collateral.evaluation_number)
"""


@pytest.mark.usefixtures("due")
def test_a_renewal_delays_no_exit(tmp_path, service):
    service.answers["tcb"] = silent
    done = run_python("-c", PROGRAM, tmp_path, service.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.usefixtures("due")
@pytest.mark.parametrize("retry_after", ["1800", "Tue, 08 Dec 2026 12:30:00 GMT"])
def test_429_is_obeyed_by_every_process(tmp_path, clock, service, retry_after):
    assert HALF.isoformat() == "2026-12-08T12:00:00+00:00"
    service.answers["tcb"] = (429, {"Retry-After": retry_after}, b"")
    for clock.now, asked in ((HALF, 5), (HALF + HOUR / 2 - SECOND, 5), (HALF + HOUR / 2, 6)):
        made = cache_of(tmp_path, service.url, clock)
        assert made.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
        settle()
        assert len(service.asked) == asked
        with raises("source-busy", FetchError, "why", "remedy"):
            made.renew(EVIDENCE.quote)
        assert len(service.asked) == asked


def test_in_the_last_days_a_call_waits_for_a_newer_set(due, clock, service, monkeypatch):
    monkeypatch.setattr(cache_module, "LAST_DAYS_WAIT_SECONDS", 50)
    service.answers = answers_of(NEWER)
    clock.now = EXPIRES - DAY
    found = due.get(EVIDENCE.quote)
    assert (found.collateral, found.problem) == (NEWER, "")


def test_in_the_last_days_a_call_waits_no_longer_than_that(due, clock, service, monkeypatch):
    monkeypatch.setattr(cache_module, "LAST_DAYS_WAIT_SECONDS", 0.01)
    released = threading.Event()
    service.answers["tcb"] = lambda _: released.wait(50)
    clock.now = EXPIRES - DAY
    assert due.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
    released.set()


def test_a_newer_set_follows_wrong_answers(due, clock, service):
    for answers in ({"tcb": (500, {}, b"")}, {"tcb": hang_up}, answers_of(NEWER)):
        service.answers = answers
        due.get(EVIDENCE.quote)
        settle()
        clock.now += HOUR
    found = due.get(EVIDENCE.quote)
    assert (found.collateral, found.problem) == (NEWER, "")


def test_a_job_renews_what_is_fresh(cache, service):
    for asked in (4, 8, 12):
        assert cache.renew(EVIDENCE.quote).collateral == EVIDENCE.collateral
        assert len(service.asked) == asked
    service.answers["tcb"] = (500, {}, b"")
    with raises("source-failed", FetchError, "why", "remedy"):
        cache.renew(EVIDENCE.quote)
    assert cache.get(EVIDENCE.quote).collateral == EVIDENCE.collateral


def revoking_signer():
    return LAB.crl(LAB.platform.pki.root, SIGNER.certificate)


def test_a_signed_revocation_in_a_bad_set_ends_the_set_at_hand(due, service):
    forged = LAB.edit_json(EVIDENCE, "qe_identity", lambda document: document.update(isvprodid=7), sign_again=False)
    service.answers = answers_of(forged.with_collateral(root_ca_crl=revoking_signer()).collateral)
    due.get(EVIDENCE.quote)
    settle()
    with raises("collateral-revoked", FetchError, "why", "remedy"):
        due.get(EVIDENCE.quote)


def test_an_old_set_of_a_revoked_signer_ends_no_newer_set(cache, clock, service):
    signer = LAB.reissue(SIGNER, LAB.platform.pki.root, serial_number=SIGNER.certificate.serial_number + 1)
    chain = signer.public_bytes(Encoding.PEM) + LAB.platform.pki.root.pem
    newer = EVIDENCE.with_collateral(tcb_info_issuer_chain=chain, qe_identity_issuer_chain=chain).collateral
    service.answers = answers_of(newer)
    assert cache.get(EVIDENCE.quote).collateral == newer
    clock.now = HALF
    service.answers = answers_of(EVIDENCE.with_collateral(root_ca_crl=revoking_signer()).collateral)
    cache.get(EVIDENCE.quote)
    settle()
    found = cache.get(EVIDENCE.quote)
    assert (found.collateral, bool(found.problem)) == (newer, True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_weeks_without_the_source(due, clock, service):
    """Every quote has its collateral, and the source is asked a few times an hour."""
    service.answers, asked = {"tcb": hang_up}, []
    while clock.now < EXPIRES:
        before = len(service.asked)
        assert due.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
        settle()
        asked.append(len(service.asked) - before)
        clock.now += 7 * HOUR if clock.now > HALF + 4 * HOUR else HOUR / 12
    assert sum(asked[:12]) <= 2 * 8  # doubling pauses, and two attempts each
    assert all(sum(asked[hour * 12 : hour * 12 + 12]) <= 2 * 2 for hour in (2, 3))
    service.answers = answers_of(NEWER)
    clock.now = EXPIRES + HOUR
    assert due.get(EVIDENCE.quote).collateral == NEWER


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
