import base64
import itertools
import pickle
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import confcom
import confcom.client
import confcom.verify
from confcom.aesm.errors import service_error
from confcom.errors import SettingsError
from confcom.extras import MissingExtraError
from confcom.verify import (
    INTEL,
    CheckStatus,
    Collateral,
    NotVerifiedError,
    Platform,
    SgxPolicy,
    TcbStatus,
    TdImage,
    TdxPolicy,
    TrustedRoot,
    UnreadableInputError,
    VerdictKind,
    WrongTypeError,
    read_collateral,
    read_quote,
    read_root,
    verify,
)
from confcom.verify.ratls import connect
from testkit.expected_errors import raises
from testkit.programs import run_python
from testkit.verify.td_lab import MEASURED, POLICY
from testkit.verify.verify_lab import CHALLENGE, NOW


def test_the_package_tells_its_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", confcom.__version__)
    with pytest.raises(AttributeError):
        _ = confcom.nothing


def test_help_shows_no_environment(monkeypatch):
    program = "import pydoc, sys; [print(pydoc.render_doc(name, renderer=pydoc.plaintext)) for name in sys.argv[1:]]"
    names = [f"{module.__name__}.{name}" for module in (confcom.client, confcom.verify) for name in module.__all__]
    monkeypatch.setenv("DATABASE_PASSWORD", "correct horse battery staple")
    done = run_python("-c", program, *names)
    done.check_returncode()
    assert all(name in done.stdout for name in names)
    assert "correct horse" not in done.stdout


def test_fields_of_key_separation_are_claimed_and_demanded(lab, evidence):
    values = {
        "config_id": bytes(range(64)),
        "config_svn": 7,
        "isv_ext_prod_id": bytes(range(16)),
        "isv_family_id": bytes(range(16, 32)),
    }
    configured = lab.edit_signed(evidence, body=values)
    demands = {"min_config_svn" if name == "config_svn" else name: value for name, value in values.items()}
    policy = replace(lab.policy, **demands)
    claims = configured.verdict(policy).require_ok()
    assert {name: getattr(claims, name) for name in values} == values
    told = configured.verdict(policy).to_json()["claims"]
    assert told["config_id"] == values["config_id"].hex()
    assert told["config_svn"] == 7
    failed = [check.name for check in evidence.verdict(policy).failures]
    assert failed == ["config_id", "isv_ext_prod_id", "isv_family_id", "config_svn"]


def test_a_verdict_is_no_condition(lab, evidence):
    forged = bytearray(evidence.quote)
    forged[200] ^= 1
    for quote in (evidence.quote, bytes(forged)):
        verdict = verify(quote, lab.policy, evidence.collateral, root=evidence.trusted, now=NOW)
        with raises("wrong-type", WrongTypeError, "remedy"):
            bool(verdict)
        with pytest.raises(TypeError):
            assert verdict


def test_kinds_compare_with_their_texts(lab, evidence):
    verdict = verify(evidence.quote, lab.policy, evidence.collateral, root=evidence.trusted, now=NOW)
    texts = verdict.platform, verdict.kind, verdict.tcb_status, verdict.checks[0].status
    assert texts == ("simulated", "verified", "UpToDate", "passed")
    assert list(map(type, texts)) == [Platform, VerdictKind, TcbStatus, CheckStatus]
    assert all(type(value) is str for value in verdict.to_json().values() if isinstance(value, str))


def test_require_ok_returns_claims_or_tells_what_failed(lab, evidence):
    verdict = verify(evidence.quote, lab.policy, evidence.collateral, root=evidence.trusted, now=NOW)
    assert verdict.require_ok() == verdict.claims
    assert verdict.require_ok().report_data == CHALLENGE
    for demand, check in (({"mr_enclave": bytes(32)}, "mr_enclave"), ({"allow_simulated": False}, "platform")):
        policy = replace(lab.policy, **demand)
        verdict = verify(evidence.quote, policy, evidence.collateral, root=evidence.trusted, now=NOW)
        with raises("not-verified", NotVerifiedError, "remedy") as caught:
            verdict.require_ok()
        assert caught.value.verdict is verdict
        assert caught.value.exit_code is VerdictKind.AUTHENTIC_NOT_AUTHORISED.exit_code
        assert check in caught.value.why
    with pytest.raises(NotVerifiedError):
        verify(b"no quote", lab.policy, None).require_ok()


def test_intels_root_and_the_present_are_the_defaults(lab, evidence):
    before = datetime.now(UTC)
    verdict = verify(evidence.quote, lab.policy, evidence.collateral)
    moments = (before, datetime.now(UTC))
    assert verdict in [verify(evidence.quote, lab.policy, evidence.collateral, root=INTEL, now=now) for now in moments]
    assert "root" in {check.name for check in verdict.failures}


def test_every_form_of_a_quote_is_verified(lab, evidence, tmp_path):
    data = evidence.quote
    (tmp_path / "q.bin").write_bytes(data)
    (tmp_path / "q.txt").write_text(data.hex())
    texts = (data.hex(), base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode().rstrip("="))
    for quote in (data, *texts, tmp_path / "q.bin", tmp_path / "q.txt"):
        assert verify(quote, lab.policy, evidence.collateral, root=evidence.trusted, now=NOW).ok


def test_text_after_a_quote_is_not_cut_off(lab, evidence):
    text = evidence.quote.hex().ljust(196_609) + "garbage"
    assert not verify(text, lab.policy, evidence.collateral, root=evidence.trusted, now=NOW).ok


@pytest.mark.parametrize("text", ["", "no quote", "0", "\ud800", "é" * 10, "00" * 200_000, "A" * 10_000_000])
def test_no_text_raises(lab, evidence, text):
    verdict = verify(text, lab.policy, evidence.collateral, root=evidence.trusted, now=NOW)
    assert verdict.kind is VerdictKind.UNUSABLE


def test_a_path_without_a_file_raises(lab, tmp_path):
    for name in ("none", "with\0null"):
        with raises("unreadable", UnreadableInputError, "remedy"):
            verify(tmp_path / name, lab.policy, None)


def test_a_challenge_makes_a_policy(lab, evidence):
    demands = {"mr_enclave": lab.enclave.mr_enclave, "allow_simulated": True}
    assert SgxPolicy.for_challenge(CHALLENGE, **demands) == lab.policy
    for policy in (SgxPolicy, TdxPolicy):
        assert policy.for_challenge(b"c").report_data == b"c" + bytes(63)
    for challenge, code in ((b"", "report-data-size"), (bytes(65), "report-data-size"), ("text", "wrong-type")):
        with raises(code, SettingsError, "remedy"):
            SgxPolicy.for_challenge(challenge)


def test_a_verdict_is_one_short_line(lab, evidence):
    arguments = {"root": evidence.trusted, "now": NOW}
    assert str(verify(evidence.quote, lab.policy, evidence.collateral, **arguments)) == "verified (simulated, UpToDate)"
    told = str(verify(evidence.quote, replace(lab.policy, allow_simulated=False), evidence.collateral, **arguments))
    assert told == "authentic-not-authorised: platform"


def test_everything_crosses_to_another_process(lab, tdx_lab, evidence):
    prepared = evidence.collateral.prepared(evidence.trusted, NOW)
    verdict = verify(evidence.quote, lab.policy, prepared, now=NOW)
    of_a_td = tdx_lab.evidence().verdict(POLICY)
    for value in (
        *(lab.policy, evidence.collateral, evidence.trusted, verdict, verdict.claims, *verdict.checks),
        *(POLICY, replace(POLICY, images=[TdImage(**MEASURED)]), of_a_td, of_a_td.claims),
    ):
        assert pickle.loads(pickle.dumps(value)) == value
    assert verify(evidence.quote, lab.policy, pickle.loads(pickle.dumps(prepared)), now=NOW) == verdict


def errors(lab, evidence):
    calls = (
        lambda: verify(evidence.quote, SgxPolicy(), None).require_ok(),
        lambda: bool(verify(b"", SgxPolicy(), None)),
        lambda: verify(3, SgxPolicy(), None),
        lambda: SgxPolicy(mr_enclave=b"short"),
        lambda: read_quote("/none"),
        lambda: confcom.verify.TrustedRoot.load(b"junk"),
        lambda: evidence.collateral.prepared(lab.evidence(platform=lab.stranger).trusted, NOW),
        lambda: confcom.client.AesmClient("/none/aesm.socket").init_quote(),
        lambda: confcom.client.AesmClient("x" * 200),
    )
    for call in calls:
        with pytest.raises(confcom.verify.ConfcomError) as caught:
            call()
        yield caught.value
    yield service_error(42, "GetQuoteEx")
    yield MissingExtraError("click", "cli")


def test_errors_cross_to_another_process(lab, evidence):
    found = list(errors(lab, evidence))
    assert len(found) == 11
    for error in found:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), copy.error_code, copy.exit_code) == (str(error), error.error_code, error.exit_code)
        assert copy.__dict__.keys() == error.__dict__.keys()


def test_an_argument_of_another_type_is_told(lab, evidence):
    quote, policy, collateral = evidence.quote, lab.policy, evidence.collateral
    for wrong in (
        lambda: verify(3, policy, collateral),
        lambda: verify(quote, None, collateral),
        lambda: verify(quote, policy, "collateral"),
        lambda: verify(quote, policy, collateral, root="intel"),
        lambda: verify(quote, policy, collateral, now="2026-11-24T12:00:00Z"),
        lambda: replace(collateral, tcb_info="text"),
        lambda: collateral.prepared("intel"),
        lambda: TrustedRoot.load("text"),
        lambda: collateral.prepared(evidence.trusted, "now"),
        lambda: Collateral.from_json(collateral.to_json(), "quote"),
    ):
        with raises("wrong-type", WrongTypeError, "remedy") as caught:
            wrong()
        assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("host", "seconds", "code"),
    [
        (5, 1, "wrong-type"),
        ("localhost", "1", "wrong-type"),
        ("localhost", True, "wrong-type"),
        ("localhost", 0, "wrong-value"),
        ("localhost", float("nan"), "wrong-value"),
        ("localhost", float("inf"), "wrong-value"),
    ],
)
def test_an_address_and_a_time_limit_are_checked(lab, evidence, host, seconds, code):
    with raises(code, SettingsError, "remedy"):
        connect(host, 9, replace(lab.policy, report_data=None), evidence.collateral, evidence.trusted, seconds=seconds)


def test_hexadecimal_text_is_as_good_as_bytes(lab, evidence):
    policy = SgxPolicy(
        mr_enclave=lab.enclave.mr_enclave.hex().upper(),
        report_data=CHALLENGE.hex(),
        accepted_tcb_statuses=["UpToDate", TcbStatus.SW_HARDENING_NEEDED],
        rejected_advisories=["intel-sa-00334 "],
        allow_simulated=True,
    )
    statuses = {TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}
    assert policy == replace(lab.policy, accepted_tcb_statuses=statuses, rejected_advisories=("INTEL-SA-00334",))
    assert verify(evidence.quote, policy, evidence.collateral, root=evidence.trusted, now=NOW).ok


def test_a_path_is_text_or_a_path(tmp_path, lab, evidence):
    evidence.write(tmp_path)
    for as_path in (str, Path):
        quote, root = read_quote(as_path(tmp_path / "q.bin")), read_root(as_path(tmp_path / "root.pem"))
        collateral = read_collateral(as_path(tmp_path / "collateral"))
        assert verify(quote, lab.policy, collateral, root=root, now=NOW).ok
    for read, value in itertools.product((read_quote, read_root, read_collateral), (None, 3, b"path")):
        with raises("wrong-type", WrongTypeError):
            read(value)
