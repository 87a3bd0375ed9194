"""The vectors are the same on each run, their verdicts are right, and each known bug of a verifier has a vector."""

import filecmp
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.util import find_spec
from unittest.mock import ANY

import pytest

from confcom.errors import ExitCode
from confcom.sgx.quote import REPORT_BODY, Quote
from confcom.sgx.tcb_documents import TcbStatus
from confcom.verify import SgxPolicy, verifier
from confcom.verify.checks import authenticity
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Appraiser
from confcom.verify.verdict import passed
from testkit.documentation import ROOT, text_of
from vectors import run_dcap_qvl, run_intel_qvl
from vectors.comparison import compare
from vectors.vector import BUGS, INDEX, evidence_of, expected_of

PAGE = "docs/reference/verifier-vectors.md"


@pytest.fixture(scope="session")
def vectors(written):
    folder, _ = written
    names = json.loads((folder / INDEX).read_bytes())["sha256"]
    return {name.removesuffix(".json"): json.loads((folder / name).read_bytes()) for name in names}


def policy_of(vector):
    return SgxPolicy(report_data=vector["policy"]["report_data"], **tomllib.loads(vector["policy"]["toml"]))


def test_the_bytes_are_the_same_on_each_run(written, tmp_path):
    folder, digest = written
    command = [sys.executable, "-m", "vectors", str(tmp_path)]
    elsewhere = {**os.environ, "TZ": "Asia/Kolkata", "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, cwd=ROOT, env=elsewhere, capture_output=True, text=True, check=True)
    assert digest in done.stdout
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    assert filecmp.cmpfiles(folder, tmp_path, names, shallow=False) == (names, [], [])
    assert re.findall(r"\b[0-9a-f]{64}\b", text_of(PAGE)) == [digest]


def test_the_verdict_on_each_vector(vectors):
    """Nothing but the document is needed."""
    found = {name: expected_of(evidence_of(vector).verdict(policy_of(vector))) for name, vector in vectors.items()}
    assert found == {name: vector["expected"] for name, vector in vectors.items()}
    kinds = re.findall(r"^\| `([a-z-]+)` \| (?:yes|no) \|", text_of(PAGE), re.MULTILINE)
    assert {vector["expected"]["kind"] for vector in vectors.values()} == set(kinds)


def test_each_vector_has_a_name_and_is_about_something(vectors):
    assert [vector["name"] for vector in vectors.values()] == list(vectors)
    assert len({vector["about"] for vector in vectors.values()}) == len(vectors)
    assert {vector["expected"]["codes"][0] for vector in vectors.values() if vector["expected"]["codes"]} == set(BUGS)


def test_the_page_has_each_member(vectors):
    paths = {
        f"{name}.{inner}" if isinstance(value, dict) and name != "collateral" else name
        for vector in vectors.values()
        for name, value in vector.items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert set(re.findall(r"^\| `([a-z_.]+)` \| ", text_of(PAGE).partition("| kind |")[0], re.MULTILINE)) == paths


def always(check):
    return lambda *_, **__: passed("", "", code=check)


def quoting_enclaves_level_not_judged(patch, evidence):
    judged = authenticity.platform_tcb

    def judge(info, identity, *rest):
        levels = tuple(replace(level, status=TcbStatus.UP_TO_DATE) for level in identity.levels)
        return judged(info, replace(identity, levels=levels), *rest)

    patch.setattr(authenticity, "platform_tcb", judge)
    return evidence


def header_not_read(patch, evidence):
    """The attestation key signed the header, but the verifier reads the rest whatever the header says."""
    check, signed = authenticity.signatures_check, evidence.quote[: REPORT_BODY.stop]
    patch.setattr(authenticity, "signatures_check", lambda _, *rest: check(signed, *rest))
    header = bytearray(signed[:48])
    header[:8] = b"\3\0\2\0\0\0\0\0"
    return replace(evidence, quote=bytes(header) + evidence.quote[48:])


def without(module, name):
    def patched(patch, evidence):
        patch.setattr(module, name, always(name))
        return evidence

    return patched


BUGGY = {
    "QE identity not compared": (without(authenticity, "qe_identity_check"), ["sgx-qe-mrsigner-another-signed"]),
    "QE's TCB level not judged": (
        quoting_enclaves_level_not_judged,
        ["sgx-qe-revoked", "sgx-platform-uptodate-quoting-enclave-outofdate"],
    ),
    "QE vendor id not compared": (without(authenticity, "vendor_check"), ["sgx-vendor-id-not-intel-s-signed"]),
    "header not bound": (
        header_not_read,
        [
            "sgx-header-with-version-2-signed",
            "sgx-header-with-version-4-with-the-layout-of-3-signed",
            "sgx-header-with-key-type-3-signed",
        ],
    ),
    "old collateral replayed": (
        without(verifier, "currency_check"),
        ["sgx-old-tcb-info-and-qe-identity-replayed-with-current-revocation-lists"],
    ),
}
"""Verifiers with one bug, and the vectors that they get wrong."""


@pytest.mark.parametrize(("stub", "name"), [(stub, name) for stub, names in BUGGY.values() for name in names])
def test_a_verifier_with_one_bug_accepts_its_vector(vectors, stub, name, monkeypatch):
    """The stub is confcom's own judgement without one check; dcap-qvl's agrees."""
    vector = vectors[name]
    evidence, policy = evidence_of(vector), policy_of(vector)
    assert not evidence.verdict(policy).ok
    evidence = stub(monkeypatch, evidence)
    agreeing = Appraisal(evidence.quote[REPORT_BODY], evidence.trusted.key_id, tcb=ANY)
    monkeypatch.setattr(Appraiser, "appraise", lambda *_: agreeing)
    verdict = evidence.verdict(policy)
    assert verdict.ok, [check.to_json() for check in verdict.failures]


def test_a_verifier_without_any_check_accepts_a_strangers_quote(vectors):
    vector = vectors["sgx-a-stranger-s-whole-quote"]
    evidence, policy = evidence_of(vector), policy_of(vector)
    body = Quote.parse(evidence.quote).body
    assert (body.mr_enclave, body.report_data) == (policy.mr_enclave, policy.report_data)
    assert not evidence.verdict(policy).ok


def test_the_page_names_the_vectors_of_each_bug(vectors):
    listed = set(re.findall(r"`(sgx-[a-z0-9-]+)`", text_of(PAGE).partition("## Six bugs")[2].partition("\n## ")[0]))
    assert listed == {*(name for _, names in BUGGY.values() for name in names), "sgx-a-stranger-s-whole-quote"}


RUNNERS = {
    "dcap-qvl": (run_dcap_qvl, "dcap_qvl"),
    "Intel's QVL": (run_intel_qvl, "sgx_dcap_quote_verify"),
}


@pytest.mark.parametrize(("runner", "package"), RUNNERS.values(), ids=RUNNERS)
def test_another_verifier_differs_only_where_it_is_known_to(written, runner, package, capsys):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed; Intel's exists for CPython 3.11 on x86-64 Linux only")
    folder, _ = written
    assert compare(folder, runner.judge, runner.KNOWN) == ExitCode.OK, capsys.readouterr().out
    known = dict(runner.KNOWN)
    known.popitem()
    assert compare(folder, runner.judge, known) == ExitCode.FAILED
    assert compare(folder, runner.judge, runner.KNOWN | {"no reason": ["sgx-good-quote"]}) == ExitCode.FAILED
