"""The targets of the fuzzer that is led by coverage: good inputs pass, and bugs that are planted are noticed."""

import warnings
from dataclasses import replace
from random import Random

import pytest

from confcom.sgx import collateral_bundle, quote
from confcom.sgx.certification import CertificationData
from confcom.sgx.quote import Quote
from confcom.sgx.tcb_documents import TcbInfo
from confcom.verify import Verdict, VerdictKind
from fuzz import guided, parsers, verifiers
from fuzz.evidence import GoodEvidence, SimulatedEvidence
from fuzz.mutations import bytes_mutated, der_mutated, elements_of, tokens_mutated
from fuzz.verifiers import ACCEPTED, Mutated, judge, mutated

GOOD = SimulatedEvidence.create()
FEW = 40


@pytest.fixture(scope="module", params=parsers.TARGETS)
def target(request):
    return parsers.TARGETS[request.param](GOOD)


def test_the_names_are_those_of_the_targets():
    assert tuple(parsers.TARGETS) == guided.NAMES


def test_seeds_keep_the_contract(target):
    for name, data in target.seeds().items():
        assert len(data) <= target.max_size, name
        target.check(data)


def test_mutated_seeds_keep_the_contract(target):
    random, seeds = Random(1), [*target.seeds().values()]
    for _ in range(FEW):
        target.check(target.mutate(random.choice(seeds), random))


def raises(*_arguments, **_options):
    raise IndexError


def warns(*_arguments, **_options):
    warnings.warn("planted", stacklevel=1)


def always_ok(*_arguments, **_options):
    return Verdict(VerdictKind.VERIFIED, None, (), claims=quote.ReportBody.parse(bytes(384)))


def other_bytes(value):
    return b"other"


PLANTED = {
    "quote raises": ("quote", "type-3", quote.EcdsaSignatureData, "parse", classmethod(raises)),
    "quote is encoded otherwise": ("quote", "simulated", Quote, "encode", other_bytes),
    "any quote is verified": ("quote", "another", parsers, "verify", always_ok),
    "certification is encoded otherwise": ("certification", "chain", CertificationData, "encode", other_bytes),
    "certification warns": ("certification", "ppid", CertificationData, "ppid_data", warns),
    "any certificate is verified": ("certification", "root", parsers, "verify", always_ok),
    "TCB info raises": ("tcb-documents", "tcb_info", TcbInfo, "parse", classmethod(raises)),
    "any TCB info is used": ("tcb-documents", "json", GoodEvidence, "verdict", always_ok),
    "CRL raises": ("crl", "revoking", collateral_bundle, "_crl", raises),
    "any CRL is used": ("crl", "intel-pck", GoodEvidence, "verdict", always_ok),
    "RA-TLS certificate raises": ("ratls-certificate", "gramine", parsers.CertificateParts, "parse", raises),
    "any certificate's key is verified": ("ratls-certificate", "rats-tls", parsers, "verify_certificate", always_ok),
    "policy file raises": ("policy-file", "kss", parsers, "read_policy", raises),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_planted_bugs_are_noticed(monkeypatch, planted):
    name, seed, owner, attribute, bug = planted
    target = parsers.TARGETS[name](GOOD)
    data = target.seeds()[seed]
    monkeypatch.setattr(owner, attribute, bug)
    with pytest.raises((parsers.ContractBrokenError, IndexError, UserWarning)):
        target.check(data)


def test_der_is_put_together_as_it_was_taken_apart():
    der = GOOD.platform.pki.pck.der
    assert b"".join(element.encode() for element in elements_of(der)) == der


@pytest.mark.parametrize("mutation", [bytes_mutated, der_mutated, tokens_mutated])
def test_mutations_take_any_bytes(mutation):
    for number in range(FEW):
        random = Random(number)
        mutation(random.randbytes(random.randrange(20)), random)


@pytest.mark.parametrize("good", [GoodEvidence.genuine(), GOOD], ids=["genuine", "simulated"])
def test_three_verifiers_accept_good_evidence(good):
    result = judge(good, Mutated("nothing", good.quote, good.collateral))
    assert (result.ours, result.dcap_qvl, result.codes) == (ACCEPTED, ACCEPTED, ())
    assert result.intels in {ACCEPTED, "not installed"}


@pytest.mark.parametrize("good", [GoodEvidence.genuine(), GOOD], ids=["genuine", "simulated"])
def test_a_number_gives_one_mutation(good):
    assert mutated(good, 1, 5) == mutated(good, 1, 5)
    assert len({mutated(good, 1, index).quote for index in range(FEW)}) > FEW / 4


@pytest.mark.parametrize("kind", [kind for kind in verifiers.GOOD if "td" in kind.lower()])
def test_confcom_and_dcap_qvl_accept_good_quotes_of_tds(kind):
    good = verifiers.GOOD[kind]()
    result = judge(good, Mutated("nothing", good.quote, good.collateral))
    accepted = kind != "tdx_quote_outdated"
    assert (result.ours == ACCEPTED, result.dcap_qvl == ACCEPTED) == (accepted, accepted)
    for index in range(FEW):
        assert judge(good, mutated(good, 1, index)).ours in {ACCEPTED, *VerdictKind}


def test_another_root_is_refused_by_all():
    other = replace(GOOD, root=None)
    assert not other.verdict().ok


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_atheris_runs_a_target(tmp_path):
    pytest.importorskip("atheris", reason="atheris exists for CPython 3.11 on x86-64 Linux only")
    outcome = guided.run_target("policy-file", 1, 1, None, tmp_path)
    assert not outcome.finding
    assert outcome.inputs > 0


def test_an_input_runs_without_atheris(tmp_path, capsys):
    (tmp_path / "input").write_bytes(b"allow_simulated = true")
    assert guided.main(["policy-file", "--input", str(tmp_path / "input")]) == 0
