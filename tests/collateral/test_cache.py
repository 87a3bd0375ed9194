import asyncio
import stat
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from confcom.collateral import CollateralCache, FetchError, Source
from confcom.errors import MalformedError, SettingsError
from confcom.simulation.pki import PckCaType
from confcom.simulation.platform import SimulatedPlatform
from confcom.verify import verify
from testkit.collateral_service import answers_of, serving
from testkit.expected_errors import raises
from testkit.verify.verify_lab import NOW, SEED, Lab

LAB = Lab()
EVIDENCE = LAB.evidence()
DAY = timedelta(days=1)
EXPIRES = EVIDENCE.collateral.expires
HALF = EXPIRES - 15 * DAY


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_it_is_fetched_once_until_half_of_its_time(tmp_path, clock):
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        for now, asked in ((NOW, 4), (HALF - timedelta(seconds=1), 4), (HALF, 8), (HALF, 12)):
            clock.now = now
            found = CollateralCache(tmp_path / "a" / "b", Source(url), clock=clock).get(EVIDENCE.quote)
            assert (found.collateral, found.age, found.problem) == (EVIDENCE.collateral, now - NOW + DAY, "")
            assert len(service.asked) == asked
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (file,) = (tmp_path / "a" / "b").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_the_service_it_lasts_until_it_expires(tmp_path, clock):
    with serving(answers_of(EVIDENCE.collateral)) as (_, url):
        cache = CollateralCache(tmp_path, Source(url), clock=clock)
        cache.get(EVIDENCE.quote)
    clock.now = EXPIRES - timedelta(seconds=1)
    found = cache.get(EVIDENCE.quote)
    assert found.collateral == EVIDENCE.collateral
    assert found.problem
    clock.now = EXPIRES
    with raises("collateral-not-fetched", FetchError, "why", "remedy"):
        cache.get(EVIDENCE.quote)


def test_expired_collateral_of_the_source_replaces_none(tmp_path, clock):
    """Azure's cache serves expired collateral."""
    past = {"nextUpdate": "2026-11-24T00:00:00Z"}
    expired = LAB.edit_json(EVIDENCE, "tcb_info", lambda document: document.update(past)).collateral
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        cache = CollateralCache(tmp_path, Source(url), clock=clock)
        cache.get(EVIDENCE.quote)
        service.answers = answers_of(expired)
        clock.now = HALF
        found = [cache.get(EVIDENCE.quote) for _ in range(2)]
        assert [(one.collateral, bool(one.problem)) for one in found] == [(EVIDENCE.collateral, True)] * 2
        clock.now = EXPIRES
        with raises("collateral-not-fetched", FetchError, "why", "remedy"):
            cache.get(EVIDENCE.quote)


@pytest.mark.parametrize("damage", [b"", b"junk", b"{}", None])
def test_a_damaged_file_is_fetched_again(tmp_path, clock, damage):
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        cache = CollateralCache(tmp_path, Source(url), clock=clock)
        cache.get(EVIDENCE.quote)
        (file,) = tmp_path.iterdir()
        other = LAB.edit_json(EVIDENCE, "tcb_info", lambda document: document.update(fmspc="000000000000"))
        file.write_bytes(other.collateral.to_json().encode() if damage is None else damage)
        assert cache.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
        assert len(service.asked) == 8
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_sources_sets_and_kinds_do_not_mix(tmp_path, clock):
    processor = LAB.evidence(platform=SimulatedPlatform.create(SEED, NOW, ca_type=PckCaType.PROCESSOR))
    with serving(answers_of(EVIDENCE.collateral)) as (_, url), serving(answers_of(processor.collateral)) as (_, other):
        for options in ({}, {"early": True}, {"evaluation": 1}):
            CollateralCache(tmp_path, Source(url), clock=clock, **options).get(EVIDENCE.quote)
        cache = CollateralCache(tmp_path, Source(other), clock=clock)
        for evidence in (EVIDENCE, processor):
            cache.get(evidence.quote)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_set_that_cannot_be_meant(tmp_path):
    for options, code in (({"evaluation": "x"}, "wrong-type"), ({"early": True, "evaluation": 3}, "wrong-value")):
        with raises(code, SettingsError, "remedy"):
            CollateralCache(tmp_path, Source("https://pcs.test"), **options)


def test_a_directory_that_cannot_be_written(tmp_path, clock):
    (tmp_path / "file").touch()
    with serving(answers_of(EVIDENCE.collateral)) as (_, url):
        cache = CollateralCache(tmp_path / "file" / "x", Source(url), clock=clock)
        with raises("collateral-not-fetched", FetchError, "why", "remedy"):
            cache.get(EVIDENCE.quote)
        with pytest.raises(MalformedError):
            cache.get(b"junk")


def get(arguments):
    directory, url, turns = arguments
    cache = CollateralCache(directory, Source(url), clock=Clock())
    return {cache.get(EVIDENCE.quote).collateral.evaluation_number for _ in range(turns)}


def test_many_processes_share_a_directory(tmp_path):
    with serving(answers_of(EVIDENCE.collateral)) as (_, url), ProcessPoolExecutor(4) as pool:
        assert set.union(*pool.map(get, [(tmp_path, url, 10)] * 8)) == {1}
    assert len(list(tmp_path.iterdir())) == 1


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
            cache = CollateralCache(tmp_path / str(last), Source(url), clock=clock)
            assert {cache.get(EVIDENCE.quote).age for _ in range(2)} == {DAY}
            assert len(service.asked) == asked


def test_it_may_be_asked_in_an_event_loop(tmp_path, clock):
    async def ask(url):
        return CollateralCache(tmp_path, Source(url), clock=clock).get(EVIDENCE.quote)

    with serving(answers_of(EVIDENCE.collateral)) as (_, url):
        assert asyncio.run(ask(url)).collateral == EVIDENCE.collateral
