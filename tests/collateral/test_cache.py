"""Collateral on disk: what is kept, when it is fetched again, and how files and the directory are distrusted."""

import asyncio
import multiprocessing
import os
import pickle
import stat
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.collateral import CollateralCache, FetchError, Source
from confcom.collateral import cache as cache_module
from confcom.errors import MalformedError, SettingsError
from confcom.simulated_pcs.answers import TDX_API_PATH
from confcom.simulation.platform import SimulatedPlatform
from confcom.verify import verify
from testkit.collateral_caches import (
    DAY,
    EVIDENCE,
    EXPIRES,
    FOR_TDX,
    HALF,
    HOUR,
    LAB,
    SECOND,
    TD_QUOTE,
    Clock,
    cache_of,
    settle,
)
from testkit.collateral_service import answers_of, send, serving
from testkit.expected_errors import raises
from testkit.verify.verify_lab import NOW, SEED

FMSPC = "53494d534758"


def sets(directory):
    return sorted(directory.glob("*.json"))


def test_it_is_fetched_once_until_half_of_its_time(tmp_path, clock, service):
    steps = ((NOW, 4), (HALF - SECOND, 4), (HALF, 8), (HALF, 8), (HALF + HOUR - SECOND, 8), (HALF + HOUR, 12))
    for clock.now, asked in steps:
        found = cache_of(tmp_path / "a" / "b", service.url, clock).get(EVIDENCE.quote)
        assert (found.collateral, found.age, found.problem) == (EVIDENCE.collateral, clock.now - NOW + DAY, "")
        settle()
        assert len(service.asked) == asked
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    files = list((tmp_path / "a" / "b").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert sorted(file.suffix for file in files) == [".json", ".lock"]


def test_it_is_prepared_for_the_caches_root(tmp_path, clock, cache):
    prepared = cache.get(EVIDENCE.quote).prepared
    assert prepared.root == EVIDENCE.trusted
    assert verify(EVIDENCE.quote, LAB.policy, prepared, now=NOW).ok
    assert cache.get(EVIDENCE.quote).prepared is prepared
    (file,) = sets(tmp_path)
    file.write_bytes(file.read_bytes())
    assert cache.get(EVIDENCE.quote).prepared is not prepared


def test_without_the_service_it_lasts_until_it_expires(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(cache_module, "LAST_DAYS_WAIT_SECONDS", 50)
    with serving(answers_of(EVIDENCE.collateral)) as (_, url):
        cache = cache_of(tmp_path, url, clock)
        cache.get(EVIDENCE.quote)
    clock.now = EXPIRES - SECOND
    found = cache.get(EVIDENCE.quote)
    assert found.collateral == EVIDENCE.collateral
    assert found.problem
    clock.now = EXPIRES
    with raises("source-not-reached", FetchError, "why", "remedy"):
        cache.get(EVIDENCE.quote)


def test_a_set_whose_signer_expires_is_fetched_again(clock, cache, service):
    pki = LAB.platform.pki
    signer = LAB.reissue(pki.tcb_signer, pki.root, not_after=NOW + HOUR)
    chain = signer.public_bytes(Encoding.PEM) + pki.root.pem
    service.answers = answers_of(replace(EVIDENCE.collateral, tcb_info_issuer_chain=chain))
    assert cache.get(EVIDENCE.quote).collateral.tcb_info_issuer_chain == chain
    clock.now += HOUR + SECOND
    service.answers = answers_of(EVIDENCE.collateral)
    assert cache.get(EVIDENCE.quote).collateral == EVIDENCE.collateral


OTHERS = {
    "nothing": b"",
    "junk": b"junk",
    "an object": b"{}",
    "another platform's": LAB.edit_json(EVIDENCE, "tcb_info", lambda document: document.update(fmspc="000000000000")),
    "another root's": LAB.evidence(platform=LAB.stranger),
    "expired": LAB.edit_json(EVIDENCE, "tcb_info", lambda document: document.update(nextUpdate="2026-11-24T00:00:00Z")),
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_file_that_does_not_verify_is_fetched_again(tmp_path, clock, content, cache, service):
    cache.get(EVIDENCE.quote)
    (file,) = sets(tmp_path)
    file.write_bytes(content if isinstance(content, bytes) else content.collateral.to_json().encode())
    for each in (cache, cache_of(tmp_path, service.url, clock)):
        assert each.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
    assert len(service.asked) == 8
    assert sets(tmp_path) == [file]


def test_sources_sets_and_kinds_do_not_mix(tmp_path, clock, service):
    processor = LAB.evidence(platform=SimulatedPlatform.create(SEED, NOW, ca="PROCESSOR"))
    with serving(answers_of(processor.collateral)) as (_, other):
        for options in ({}, {"early": True}):
            cache_of(tmp_path, service.url, clock, **options).get(EVIDENCE.quote)
        cache_of(tmp_path, other, clock).get(processor.quote)
        with raises("collateral-of-another-set", FetchError, "why", "remedy"):
            cache_of(tmp_path, other, clock).get(EVIDENCE.quote)
    assert len(sets(tmp_path)) == 3


def test_each_tee_has_a_set_of_its_own(tmp_path, clock, cache, service):
    assert cache.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
    for _ in range(2):
        with raises("source-unknown-platform", FetchError):
            cache.get(TD_QUOTE)
    assert cache.renew(EVIDENCE.quote).problem == ""
    service.answers |= answers_of(FOR_TDX)
    cache.discard(TD_QUOTE)
    assert cache.get(TD_QUOTE).collateral == FOR_TDX
    asked = len(service.asked)
    for each in (cache, cache_of(tmp_path, service.url, clock)):
        assert each.get(TD_QUOTE).collateral == FOR_TDX
        assert each.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
    assert len(service.asked) == asked
    assert len(sets(tmp_path)) == 2
    cache.discard(TD_QUOTE)
    assert len(sets(tmp_path)) == 1
    cache.get(TD_QUOTE)
    cache.discard(FMSPC)
    assert not sets(tmp_path)


def test_the_other_tees_set_is_not_kept(tmp_path, cache, service):
    service.answers |= {f"{TDX_API_PATH}{name}": service.answers[name] for name in ("tcb", "qe/identity")}
    with raises("collateral-of-another-set", FetchError, "why", "remedy"):
        cache.get(TD_QUOTE)
    assert not sets(tmp_path)
    cache.get(EVIDENCE.quote)
    (file,) = sets(tmp_path)
    file.write_text(FOR_TDX.to_json())
    assert cache.get(EVIDENCE.quote).collateral == EVIDENCE.collateral


def test_a_source_without_a_path_for_tdx(tmp_path, clock, service):
    for _ in range(2):
        with raises("collateral-source", SettingsError, "why", "remedy"):
            cache_of(tmp_path, f"{service.url}/pccs", clock).get(TD_QUOTE)
    cache_of(tmp_path, f"{service.url}/pccs", clock).discard(FMSPC)
    assert not service.asked


def test_arguments_that_cannot_be_meant(tmp_path):
    source = Source("https://pcs.test")
    for options, code in (
        ({"early": "x"}, "wrong-type"),
        ({"root": "intel"}, "wrong-type"),
        ({"seconds": "x"}, "wrong-type"),
    ):
        with raises(code, SettingsError, "remedy"):
            CollateralCache(tmp_path, source, **options)
    with raises("wrong-type", SettingsError, "remedy"):
        CollateralCache(tmp_path, "https://pcs.test")


def test_a_directory_that_cannot_be_written(tmp_path, clock, service):
    (tmp_path / "file").touch()
    cache = cache_of(tmp_path / "file" / "x", service.url, clock)
    for _ in range(2):
        with raises("cache-not-written", FetchError, "why", "remedy"):
            cache.get(EVIDENCE.quote)
    for call in (cache.get, cache.renew, cache.discard):
        with pytest.raises(MalformedError):
            call(b"junk")
    assert not service.asked


def test_a_set_at_hand_outlives_a_directory_that_cannot_be_written(tmp_path, clock, cache):
    cache.get(EVIDENCE.quote)
    (lock,) = tmp_path.glob("*.lock")
    lock.unlink()
    lock.mkdir()
    clock.now = HALF
    for _ in range(2):
        found = cache.get(EVIDENCE.quote)
        assert found.collateral == EVIDENCE.collateral
        settle()
    assert found.problem


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write(tmp_path, clock, mode, service):
    directory = tmp_path / "cache"
    cache = cache_of(directory, service.url, clock)
    cache.get(EVIDENCE.quote)
    directory.chmod(mode)
    for call in (cache.get, cache.renew):
        with raises("cache-not-private", FetchError, "why", "remedy"):
            call(EVIDENCE.quote)
    assert len(service.asked) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another user")
def test_a_directory_of_another_user(tmp_path, cache):
    os.chown(tmp_path, 12345, 12345)
    with raises("cache-not-private", FetchError, "why", "remedy"):
        cache.get(EVIDENCE.quote)


@pytest.mark.parametrize("named", [EVIDENCE.quote, bytes.fromhex(FMSPC), FMSPC])
def test_what_is_discarded_is_fetched_again(tmp_path, named, cache, service):
    cache.discard(named)
    cache.get(EVIDENCE.quote)
    cache.discard(named)
    assert not sets(tmp_path)
    cache.get(EVIDENCE.quote)
    assert len(service.asked) == 8


def test_a_failure_is_discarded(cache, service):
    service.answers = {}
    for _ in range(2):
        with raises("source-unknown-platform", FetchError, "why", "remedy"):
            cache.get(EVIDENCE.quote)
    assert len(service.asked) == 1
    service.answers = answers_of(EVIDENCE.collateral)
    cache.discard(FMSPC)
    assert cache.get(EVIDENCE.quote).problem == ""


def test_a_failure_that_cannot_be_written_is_remembered_until_the_source_answers(tmp_path, clock, cache, service):
    service.answers = {}
    with raises("source-unknown-platform", FetchError):
        cache.get(EVIDENCE.quote)
    (failure,) = tmp_path.glob("*.source")
    failure.unlink()
    failure.mkdir()
    for _ in range(2):
        with raises("source-unknown-platform", FetchError):
            cache.get(EVIDENCE.quote)
    assert len(service.asked) == 2
    failure.rmdir()
    clock.now += HOUR
    service.answers = answers_of(EVIDENCE.collateral)
    cache.get(EVIDENCE.quote)
    clock.now = HALF
    assert cache.get(EVIDENCE.quote).problem == ""


def get(arguments):
    directory, url, turns = arguments
    cache = cache_of(directory, url, Clock())
    return {cache.get(EVIDENCE.quote).collateral.evaluation_number for _ in range(turns)}


def test_many_processes_fetch_once(tmp_path, service):
    with ProcessPoolExecutor(4) as pool:
        assert set.union(*pool.map(get, [(tmp_path, service.url, 10)] * 8)) == {1}
        assert len(service.asked) == 4
    assert len(sets(tmp_path)) == 1


def test_a_cache_goes_to_spawned_workers(tmp_path, clock, service):
    cache = cache_of(tmp_path, service.url, clock, early=True)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(cache.get, EVIDENCE.quote).result()
    assert found.collateral == EVIDENCE.collateral
    assert verify(EVIDENCE.quote, LAB.policy, found.prepared, now=NOW).ok
    assert pickle.loads(pickle.dumps(cache)).get(EVIDENCE.quote).collateral == EVIDENCE.collateral
    assert len(service.asked) == 4
    assert pickle.loads(pickle.dumps(CollateralCache(tmp_path, Source(service.url))))


def test_the_roots_list_is_renewed_once_a_year(tmp_path, clock):
    """Intel issues the root's list once a year: its age is not the age of the set."""
    root_crl = LAB.crl(LAB.platform.pki.root, next_update=NOW + 10 * DAY, last_update=NOW - 369 * DAY)
    yearly = EVIDENCE.with_collateral(root_ca_crl=root_crl).collateral
    assert yearly.prepared(EVIDENCE.trusted, NOW)
    policy = replace(LAB.policy, max_collateral_age=DAY)
    assert verify(EVIDENCE.quote, policy, yearly, EVIDENCE.trusted, NOW).ok
    for last, next_update, asked in ((369, 10, 8), (100, 200, 4)):
        crl = LAB.crl(LAB.platform.pki.root, next_update=NOW + next_update * DAY, last_update=NOW - last * DAY)
        with serving(answers_of(EVIDENCE.with_collateral(root_ca_crl=crl).collateral)) as (service, url):
            cache = cache_of(tmp_path / str(last), url, clock)
            for clock.now in (NOW, NOW + HOUR):
                assert cache.get(EVIDENCE.quote).age == clock.now - NOW + DAY
            settle()
            assert len(service.asked) == asked


def test_get_may_be_called_in_an_event_loop(cache):
    async def ask():
        return cache.get(EVIDENCE.quote)

    assert asyncio.run(ask()).collateral == EVIDENCE.collateral


def test_the_loop_runs_while_it_waits(tmp_path, clock):
    """The source answers when the event loop says so; and all who wait share its answer, or its failure."""
    released, good = threading.Event(), answers_of(EVIDENCE.collateral)

    def wait(handler):
        released.wait(50)
        send(handler, 500, {}, b"")

    async def ask(cache):
        async def release():
            released.set()

        return await asyncio.gather(*(cache.aget(EVIDENCE.quote) for _ in range(20)), release(), return_exceptions=True)

    with serving(good | {"tcb": [wait, good["tcb"]]}) as (service, url):
        *found, _ = asyncio.run(ask(cache_of(tmp_path, url, clock)))
        assert {one.collateral.evaluation_number for one in found} == {1}
        assert len(service.asked) == 5
        service.answers["tcb"] = (404, {}, b"")
        *errors, _ = asyncio.run(ask(cache_of(tmp_path / "other", url, clock)))
        assert {one.error_code for one in errors} == {"source-unknown-platform"}
        assert len(service.asked) == 6


def test_a_clock_that_was_wrong(tmp_path, clock, service):
    service.answers, clock.now = {}, NOW + timedelta(days=4000)
    for _ in range(2):
        with raises("source-unknown-platform", FetchError):
            cache_of(tmp_path, service.url, clock).get(EVIDENCE.quote)
        clock.now = NOW
    assert len(service.asked) == 2
