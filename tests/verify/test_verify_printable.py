"""Texts from a hostile quote, certificate or collateral must not move the cursor, clear the screen or forge a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.cli.group import cli
from confcom.errors import MalformedError
from confcom.verify import anatomy, verifier
from confcom.verify.anatomy import Anatomy, Field, Section, dissect
from confcom.verify.trust import Platform, TrustedRoot
from confcom.verify.verdict import Check, CheckStatus, Verdict, VerdictKind, failed, not_checked, passed
from testkit.raised import raises
from testkit.verify import tampering
from testkit.verify.verify_lab import Evidence, Lab

EVIL = "CA\r\x1b[2J\nplatform: genuine\n\u202e"
ESCAPED = r"CA\r\x1b[2J\nplatform: genuine\n\u202e"
AT = "2026-11-24T12:00:00Z"


def hostile_root(lab: Lab, evidence: Evidence) -> Evidence:
    root = lab.reissue(lab.platform.pki.root, lab.platform.pki.root, common_name=EVIL, signer=lab.other_key)
    return lab.with_chain(evidence, *lab.chain[:2], root)


def hostile_intermediate(lab: Lab, evidence: Evidence) -> Evidence:
    return tampering.intermediate(common_name=EVIL)(lab, evidence)


def hostile_signer(lab: Lab, evidence: Evidence) -> Evidence:
    return tampering.tcb_signer(common_name=EVIL)(lab, evidence)


def hostile_advisory(lab: Lab, evidence: Evidence) -> Evidence:
    return lab.edit_json(evidence, "tcb_info", lambda info: info["tcbLevels"][0]["advisoryIDs"].append(EVIL))


def hostile_kind_of_document(lab: Lab, evidence: Evidence) -> Evidence:
    return lab.edit_json(evidence, "tcb_info", lambda info: info.update(id=EVIL))


HOSTILE = [hostile_root, hostile_intermediate, hostile_signer, hostile_advisory, hostile_kind_of_document]


def texts(verdict: Verdict) -> list[str]:
    return [text for check in verdict.checks for text in (check.required, check.found, check.why)]


@pytest.mark.parametrize("tamper", HOSTILE, ids=lambda tamper: tamper.__name__)
def test_a_verdicts_checks_are_printable(lab: Lab, evidence: Evidence, tamper: Callable) -> None:
    found = texts(tamper(lab, evidence).verdict(lab.policy))
    assert all(text.isprintable() for text in found)
    assert any(ESCAPED in text for text in found)


def test_every_way_to_make_a_check_escapes() -> None:
    checks = (passed(EVIL, EVIL, EVIL, code="a"), failed(EVIL, EVIL, EVIL, VerdictKind.UNUSABLE, code="b"))
    for check in (*checks, not_checked(EVIL, EVIL, code="c")):
        assert {check.required, check.found, check.why} - {""} == {ESCAPED}


@pytest.mark.parametrize("tamper", [hostile_root, hostile_intermediate], ids=lambda tamper: tamper.__name__)
def test_anatomy_is_printable(lab: Lab, evidence: Evidence, tamper: Callable) -> None:
    fields = [field for section in dissect(tamper(lab, evidence).quote).sections for field in section.fields]
    assert all(str(field.value).isprintable() and field.note.isprintable() for field in fields)
    assert any(ESCAPED in str(field.value) for field in fields)


def run(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def files(lab: Lab, evidence: Evidence, tmp_path: Path) -> Callable[[Evidence], list[object]]:
    def write(tampered: Evidence) -> list[object]:
        tampered.write(tmp_path)
        arguments = ["verify", tmp_path / "q.bin", "--root", tmp_path / "root.pem"]
        return [*arguments, "--collateral", tmp_path / "collateral", "--at", AT]

    return write


def require_unforged(result: Result) -> None:
    assert ESCAPED in result.output
    assert "\r" not in result.output
    assert "\u202e" not in result.output
    assert not any(line.startswith("platform: genuine") for line in result.output.splitlines())


@pytest.mark.parametrize("tamper", HOSTILE, ids=lambda tamper: tamper.__name__)
def test_verify_prints_no_hostile_text(lab: Lab, evidence: Evidence, tamper: Callable, files: Callable) -> None:
    require_unforged(run(*files(tamper(lab, evidence))))


def test_verify_prints_advisories_escaped(lab: Lab, evidence: Evidence, files: Callable) -> None:
    result = run(*files(hostile_advisory(lab, evidence)))
    (line,) = [line for line in result.output.splitlines() if line.startswith("TCB: UpToDate")]
    assert ESCAPED in line


def test_inspect_prints_no_hostile_text(lab: Lab, evidence: Evidence) -> None:
    require_unforged(run("inspect", "-", stdin=hostile_root(lab, evidence).quote))


def test_verify_escapes_whatever_it_is_given(
    evidence: Evidence, files: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = (Check("a", CheckStatus.FAILED, EVIL, EVIL, EVIL, VerdictKind.NOT_AUTHENTIC),)
    verdict = Verdict(VerdictKind.NOT_AUTHENTIC, Platform.UNKNOWN, checks)
    monkeypatch.setattr(verifier, "verify_quote", lambda *_arguments: verdict)
    result = run(*files(evidence))
    require_unforged(result)
    assert result.output.count(ESCAPED) == 3


def test_inspect_escapes_whatever_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = (Field("a", "a", EVIL, EVIL), Field("b", "b", [EVIL]))
    stopped = MalformedError(EVIL, why=EVIL, remedy=EVIL)
    whole = Anatomy(1, (Section("s", "S", fields),), (EVIL,), stopped)
    monkeypatch.setattr(anatomy, "dissect", lambda _data: whole)
    result = run("inspect", "-")
    require_unforged(result)
    assert result.output.count(ESCAPED) == 7


def test_the_name_of_a_root_that_is_none_is_escaped(lab: Lab) -> None:
    certificate = tampering.reissued_intermediate(lab, common_name=EVIL)
    with raises("not-a-root", MalformedError) as caught:
        TrustedRoot.load(certificate.public_bytes(Encoding.DER))
    assert ESCAPED in caught.value.what
