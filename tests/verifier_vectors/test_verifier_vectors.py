"""The vectors are the same on each run, their verdicts are right, and each known bug of a verifier has a vector."""

import filecmp
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from unittest.mock import ANY

import pytest

from confcom.errors import ExitCode
from confcom.sgx.quote import QUOTE_HEADER_SIZE, QuoteFrame
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.verify import read_policy, verifier
from confcom.verify.checks import authenticity
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Appraiser
from confcom.verify.verdict import passed
from testkit.documentation import ROOT, text_of
from vectors import run_dcap_qvl, run_intel_qvl
from vectors.__main__ import write
from vectors.comparison import compare
from vectors.vector import BUGS, INDEX, evidence_of, expected_of

PAGE = "docs/reference/verifier-vectors.md"


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folder of vectors, written once, and the SHA-256 of its index."""
    folder = tmp_path_factory.mktemp("vectors")
    return folder, write(folder)


@pytest.fixture(scope="session")
def vectors(written):
    folder, _ = written
    names = json.loads((folder / INDEX).read_bytes())["sha256"]
    return {name.removesuffix(".json"): json.loads((folder / name).read_bytes()) for name in names}


@pytest.fixture(scope="session")
def policies(vectors, tmp_path_factory):
    file, policies = tmp_path_factory.mktemp("policy") / "policy.toml", {}
    for name, vector in vectors.items():
        file.write_text(vector["policy"]["toml"])
        challenge = vector["policy"]["report_data"]
        tee = TeeType[vector["tee"].upper()]
        policies[name] = read_policy(file, bytes.fromhex(challenge) if challenge else None, tee=tee)
    return policies


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


def test_the_verdict_on_each_vector(vectors, policies):
    """Nothing but the document is needed."""
    found = {name: expected_of(evidence_of(vector).verdict(policies[name])) for name, vector in vectors.items()}
    assert found == {name: vector["expected"] for name, vector in vectors.items()}
    kinds = re.findall(r"^\| `([a-z-]+)` \| (?:yes|no) \|", text_of(PAGE), re.MULTILINE)
    assert {vector["expected"]["kind"] for vector in vectors.values()} == set(kinds)


def test_a_dcap_qvl_that_always_agrees_makes_no_vector_good(vectors, policies, monkeypatch):
    monkeypatch.setattr(Appraiser, "appraise", lambda *_: Appraisal(ANY, ANY))
    kinds = {name: evidence_of(vector).verdict(policies[name]).kind for name, vector in vectors.items()}
    assert kinds == {name: vector["expected"]["kind"] for name, vector in vectors.items()}


def test_each_vector_has_a_name_and_is_about_something(vectors):
    assert [vector["name"] for vector in vectors.values()] == list(vectors)
    assert len({(vector["tee"], vector["about"]) for vector in vectors.values()}) == len(vectors)
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


def quoting_enclaves_level_not_judged(patch, evidence, _):
    judged = authenticity.platform_tcb

    def judge(info, identity, *rest):
        levels = tuple(replace(level, status=TcbStatus.UP_TO_DATE) for level in identity.levels)
        return judged(info, replace(identity, levels=levels), *rest)

    patch.setattr(authenticity, "platform_tcb", judge)
    return evidence


def header_not_read(patch, evidence, good):
    """The verifier knows what the attestation key signed, but reads it as if the header were that of a good quote."""
    check, size = authenticity.signatures_check, len(QuoteFrame.parse(good.quote).signed_part)
    patch.setattr(authenticity, "signatures_check", lambda _, *rest: check(evidence.quote[:size], *rest))
    return replace(evidence, quote=good.quote[:QUOTE_HEADER_SIZE] + evidence.quote[QUOTE_HEADER_SIZE:])


def without(module, name):
    def patched(patch, evidence, _):
        patch.setattr(module, name, always(name))
        return evidence

    return patched


OLD = "old-tcb-info-and-qe-identity-replayed-with-current-revocation-lists"
BUGGY = {
    "qe-mrsigner-another-signed": without(authenticity, "qe_identity_check"),
    "qe-revoked": quoting_enclaves_level_not_judged,
    "platform-uptodate-quoting-enclave-outofdate": quoting_enclaves_level_not_judged,
    "vendor-id-not-intel-s-signed": without(authenticity, "vendor_check"),
    "header-with-version-4-signed-in-another-layout": header_not_read,
    "header-with-key-type-3-signed-in-another-layout": header_not_read,
    "header-with-tee-type-tdx-signed-in-another-layout": header_not_read,
    "header-with-tee-type-sgx-signed-in-another-layout": header_not_read,
    OLD: without(verifier, "currency_check"),
}
"""Verifiers with one bug, keyed by the vectors, without their TEEs, that the verifiers get wrong."""
ONE_BUG = [
    pytest.param(stub, f"{tee}-{name}", id=f"{tee}-{name}")
    for name, stub in BUGGY.items()
    for tee in ("sgx", "tdx")
    if f"tee-type-{tee}" not in name
]


@pytest.mark.parametrize(("stub", "name"), ONE_BUG)
def test_a_verifier_with_one_bug_accepts_its_vector(vectors, policies, stub, name, monkeypatch):
    """The stub is confcom's own judgement without one check; dcap-qvl's agrees."""
    vector = vectors[name]
    evidence, policy = evidence_of(vector), policies[name]
    assert not evidence.verdict(policy).ok
    evidence = stub(monkeypatch, evidence, evidence_of(vectors[f"{vector['tee']}-good-quote"]))
    monkeypatch.setattr(Appraiser, "appraise", lambda *_: Appraisal(ANY, ANY))
    verdict = evidence.verdict(policy)
    assert verdict.ok, [check.to_json() for check in verdict.failures]


@pytest.mark.parametrize("name", ["sgx-a-stranger-s-whole-quote", "tdx-a-stranger-s-whole-quote"])
def test_a_verifier_without_any_check_accepts_a_strangers_quote(vectors, policies, name):
    evidence, policy = evidence_of(vectors[name]), policies[name]
    body = evidence.parsed.body
    for measurement in ("mr_enclave", "mr_td", "rtmr0", "report_data"):
        assert getattr(body, measurement, None) == getattr(policy, measurement, None)
    assert not evidence.verdict(policy).ok


def test_the_page_names_the_vectors_of_each_bug():
    listed = re.findall(r"`([a-z0-9-]{5,})`", text_of(PAGE).partition("## Six bugs")[2].partition("\n## ")[0])
    assert set(listed) == {*BUGGY, "a-stranger-s-whole-quote"}


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
