"""Texts from a hostile quote, certificate or collateral must not move the cursor, clear the screen or forge a line."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import MalformedError
from confcom.verify import inspection, verifier
from confcom.verify.inspection import Field, Inspection, Section, inspect_quote
from confcom.verify.trust import Platform, TrustedRoot
from confcom.verify.verdict import Check, CheckStatus, Verdict, VerdictKind, failed, not_checked, passed
from testkit.expected_errors import raises
from testkit.programs import run_confcom
from testkit.verify import tampering
from testkit.verify.verify_lab import OTHER_KEY, run_verify

EVIL = "CA\r\x1b[2J\nplatform: genuine\n\u202e"
ESCAPED = r"CA\r\x1b[2J\nplatform: genuine\n\u202e"


def hostile_root(lab, evidence):
    root = lab.reissue(lab.platform.pki.root, lab.platform.pki.root, common_name=EVIL, signer=OTHER_KEY)
    return lab.with_chain(evidence, *lab.chain[:2], root)


HOSTILE = {
    "root": hostile_root,
    "intermediate": tampering.intermediate(common_name=EVIL),
    "TCB signer": tampering.tcb_signer(common_name=EVIL),
    "advisory": tampering.edit("tcb_info", lambda info: info["tcbLevels"][0]["advisoryIDs"].append(EVIL)),
    "kind of document": tampering.edit("tcb_info", lambda info: info.update(id=EVIL)),
}


def verify(tampered, directory):
    return run_verify(tampered.write(directory), directory / "q.bin")


def require_unforged(result):
    assert ESCAPED in result.output
    assert not {"\r", "\u202e"} & set(result.output)
    assert not any(line.startswith("platform: genuine") for line in result.output.splitlines())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_escaped(lab, evidence, tmp_path, name):
    tampered = HOSTILE[name](lab, evidence)
    verdict = tampered.verdict(lab.policy)
    texts = [text for check in verdict.checks for text in (check.required, check.found, check.why)]
    assert all(text.isprintable() for text in texts)
    assert any(ESCAPED in text for text in texts)
    result = verify(tampered, tmp_path)
    require_unforged(result)
    if name == "advisory":
        assert ESCAPED in next(line for line in result.output.splitlines() if line.startswith("TCB: UpToDate"))
    if name in {"root", "intermediate"}:
        fields = [field for section in inspect_quote(tampered.quote).sections for field in section.fields]
        assert all(str(field.value).isprintable() and field.note.isprintable() for field in fields)
        assert any(ESCAPED in str(field.value) for field in fields)
        require_unforged(run_confcom("inspect", "-", input=tampered.quote))


def test_every_way_to_make_a_check_escapes():
    checks = (passed(EVIL, EVIL, EVIL, code="a"), failed(EVIL, EVIL, EVIL, VerdictKind.UNUSABLE, code="b"))
    for check in (*checks, not_checked(EVIL, EVIL, code="c")):
        assert {check.required, check.found, check.why} - {""} == {ESCAPED}


def test_commands_escape_whatever_they_are_given(evidence, tmp_path, monkeypatch):
    checks = (Check("a", CheckStatus.FAILED, EVIL, EVIL, EVIL, VerdictKind.NOT_AUTHENTIC),)
    verdict = Verdict(VerdictKind.NOT_AUTHENTIC, Platform.UNKNOWN, checks)
    monkeypatch.setattr(verifier, "verify_quote", lambda *_arguments: verdict)
    fields = (Field("a", "a", EVIL, EVIL), Field("b", "b", [EVIL]))
    stopped = MalformedError(EVIL, why=EVIL, remedy=EVIL)
    monkeypatch.setattr(
        inspection, "inspect_quote", lambda _data: Inspection(1, (Section("s", "S", fields),), (EVIL,), stopped)
    )
    for result, count in ((verify(evidence, tmp_path), 3), (run_confcom("inspect", "-"), 7)):
        require_unforged(result)
        assert result.output.count(ESCAPED) == count


def test_the_name_of_a_root_that_is_none_is_escaped(lab):
    certificate = tampering.reissued_intermediate(lab, common_name=EVIL)
    with raises("not-a-root", MalformedError, naming=ESCAPED):
        TrustedRoot.load(certificate.public_bytes(Encoding.DER))
