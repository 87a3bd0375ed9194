import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from confcom.simulation.pki import BACKDATE
from confcom.simulation.simulated_collateral import RENEWAL_INTERVAL, VALIDITY, Validity

ORIGIN = datetime(2026, 11, 24, tzinfo=UTC)
times = st.timedeltas(timedelta(days=-9000), timedelta(days=7000)).map(lambda age: ORIGIN + age)


@given(times)
def test_collateral_is_a_day_old_at_least_and_good_for_two_weeks(now):
    validity = Validity.around(ORIGIN, now)
    assert validity.issue_date <= now - BACKDATE
    assert validity.next_update >= now + timedelta(days=14)
    assert validity.next_update - validity.issue_date == VALIDITY


@given(times, st.timedeltas(timedelta(0), RENEWAL_INTERVAL))
def test_dates_change_only_from_period_to_period(now, later):
    first, second = Validity.around(ORIGIN, now), Validity.around(ORIGIN, now + later)
    assert second.issue_date - first.issue_date in {timedelta(0), RENEWAL_INTERVAL}
    assert Validity.around(ORIGIN, first.issue_date + BACKDATE) == first


def test_first_period_begins_with_the_certificates(platform, now):
    tcb_info = platform.collateral(now).read().tcb_info
    assert tcb_info.issue_date == now.replace(microsecond=0) - BACKDATE
    assert tcb_info.issue_date == platform.pki.root.certificate.not_valid_before_utc
    assert tcb_info.next_update == tcb_info.issue_date + VALIDITY


def test_same_period_same_bytes_in_any_time_zone_then_renewed(platform, now):
    collateral = platform.collateral(now)
    elsewhere = (now + timedelta(days=14)).astimezone(timezone(timedelta(hours=-11)))
    renewed = platform.collateral(now + RENEWAL_INTERVAL)
    assert platform.collateral(elsewhere) == collateral
    assert renewed.read().tcb_info.issue_date == collateral.read().tcb_info.issue_date + RENEWAL_INTERVAL
    assert renewed.tcb_info_issuer_chain == collateral.tcb_info_issuer_chain


def test_the_chain_that_no_verifier_reads_is_the_pck_cas(any_platform, now):
    pki = any_platform.pki
    assert any_platform.collateral(now).pck_crl_issuer_chain == pki.pck_ca.pem + pki.root.pem


def test_documents_to_the_letter(platform, now):
    collateral = platform.collateral(now)
    golden = json.loads(Path(__file__).with_name("collateral.json").read_text())
    for signed in (collateral.read().tcb_info.signed, collateral.read().qe_identity.signed):
        body = signed.body.decode("ascii")
        assert json.loads(body) == golden[signed.name]
        assert body == json.dumps(json.loads(body), separators=(",", ":"))
        assert "\\u" not in body
