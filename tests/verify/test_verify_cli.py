import json
import os
import re
from pathlib import Path

import pytest

from confcom.simulation.enclave import SimulatedEnclave
from testkit.programs import run_confcom
from testkit.verify.td_lab import MEASURED
from testkit.verify.verify_lab import CHALLENGE, failed_in, run_verify

APP = SimulatedEnclave.from_name("app")
DEMANDS = ["--mrenclave", APP.mr_enclave.hex(), "--report-data", CHALLENGE.hex(), "--allow-simulated"]


@pytest.fixture(scope="module")
def files(evidence, tmp_path_factory):
    return evidence.write(tmp_path_factory.mktemp("cli"))


def verify(files, *arguments, quote=None, **options):
    return run_verify(files, quote or files / "q.bin", *arguments, **options)


def verdict_of(result, exit_code, kind):
    document = json.loads(result.stdout)
    assert (result.exit_code, document["kind"], document["ok"]) == (exit_code, kind, kind == "verified")
    return document


def test_verified(files):
    result = verify(files, *DEMANDS)
    assert result.exit_code == 0, result.output
    platform, _tcb, *checks, last = result.output.splitlines()
    assert platform.startswith("platform: simulated,")
    assert last == "VERIFIED"
    document = verdict_of(verify(files, *DEMANDS, "--output", "json"), 0, "verified")
    assert [line.split()[:2] for line in checks] == [[one["status"], one["name"]] for one in document["checks"]]
    assert {check["status"] for check in document["checks"]} <= {"passed", "not-checked"}


def test_nothing_demanded_is_not_authorised(files):
    result = verify(files)
    assert result.exit_code == 3
    assert result.output.endswith("\nfailed: platform, identity, report_data\nAUTHENTIC NOT AUTHORISED\n")
    lines = result.output.splitlines()
    at = lines.index("failed       platform")
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["required:", "found:", "why:"]
    not_a_quote = verify(files, quote="-", input=b"hello")
    assert not_a_quote.exit_code == 5
    assert not_a_quote.output.endswith("\nUNUSABLE\n")


SIGNER = ["--mrsigner", APP.mr_signer.hex(), "--isv-prod-id", "0", "--min-isv-svn", "0"]
OUTCOMES = {
    # Options; the exit code, and the failures.
    "simulated without being asked for": (DEMANDS[:-1], 3, ["platform"]),
    "a replayed quote": ([*DEMANDS, "--report-data", CHALLENGE[::-1].hex()], 3, ["report-data"]),
    "expired collateral": ([*DEMANDS, "--at", "2027-06-01"], 5, ["collateral"]),
    "the same instant in another zone": ([*DEMANDS, "--at", "2026-11-24T17:00:00+05:00"], 0, []),
    "the signer in place of the enclave": ([*DEMANDS[2:], *SIGNER], 0, []),
    "only what is out of date": ([*DEMANDS, "--accept-tcb", "OutOfDate"], 3, ["tcb-status"]),
    "also what is out of date": ([*DEMANDS, "--accept-tcb", "OutOfDate", "--accept-tcb", "UpToDate"], 0, []),
    "an advisory": ([*DEMANDS, "--reject-advisory", "SIMULATED-NOT-GENUINE-INTEL"], 3, ["advisories"]),
}


@pytest.mark.parametrize(("options", "exit_code", "codes"), OUTCOMES.values(), ids=OUTCOMES)
def test_options_reach_the_policy(files, options, exit_code, codes):
    result = verify(files, *options, "--output", "json")
    assert (result.exit_code, failed_in(result)) == (exit_code, codes)


@pytest.fixture(scope="module")
def td_files(tdx_lab, tmp_path_factory):
    return tdx_lab.evidence().write(tmp_path_factory.mktemp("td"))


REGISTERS = {name: (f"--{name.replace('_', '-')}", value.hex()) for name, value in MEASURED.items()}
OTHER, ENCLAVE = "00" * 48, ["--mrenclave", "00" * 32]
TD_FILE = f'tee = "tdx"\nmr_td = "{MEASURED["mr_td"].hex()}"\n'
TD_OUTCOMES = {
    # The policy file, options; the exit code, and the failures.
    "every register": ("", [word for register in REGISTERS.values() for word in register], 0, []),
    "MRTD alone": ("", REGISTERS["mr_td"], 0, []),
    "registers without MRTD": ("", REGISTERS["rtmr1"], 3, ["identity"]),
    "another MRTD": ("", ["--mr-td", OTHER], 3, ["mr-td"]),
    "a file": (TD_FILE, [], 0, []),
    "a file and another register": (TD_FILE, ["--rtmr2", OTHER], 3, ["rtmr2"]),
    "an option replaces the file's": (f'tee = "tdx"\nmr_td = "{OTHER}"', REGISTERS["mr_td"], 0, []),
    "a file of enclaves": (f'mr_enclave = "{"00" * 32}"', [], 3, ["tee"]),
    "an option of enclaves": ("", ENCLAVE, 3, ["tee"]),
    "nothing": ("", [], 3, ["tee"]),
}


@pytest.mark.parametrize("row", TD_OUTCOMES.values(), ids=TD_OUTCOMES)
def test_policies_of_tds(td_files, tmp_path, row):
    text, options, exit_code, codes = row
    (tmp_path / "policy.toml").write_text(text)
    given = [*options, *(("--policy", tmp_path / "policy.toml") if text else ())]
    given += ["--report-data", CHALLENGE.hex(), "--allow-simulated"]
    result = verify(td_files, *given, "--output", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, failed_in(result)) == (exit_code, codes)
    shown = verify(td_files, *given).output.splitlines()
    if codes == ["tee"]:
        assert document["claims"] is None
        (check,) = [check for check in document["checks"] if check["code"] == "tee"]
        assert all(words in check["why"] for words in ("TdxPolicy", "--mr-td", 'tee = "tdx"'))
    else:
        assert {name: document["claims"][name] for name in MEASURED} == {n: v.hex() for n, v in MEASURED.items()}
        assert {f"{name}: {value.hex()}" for name, value in MEASURED.items()} <= set(shown)


def test_a_policy_of_tds_refuses_an_enclave(files):
    result = verify(files, *REGISTERS["mr_td"], "--output", "json")
    (tee, *_) = [check for check in json.loads(result.stdout)["checks"] if check["status"] == "failed"]
    assert (result.exit_code, tee["code"]) == (3, "tee")
    assert all(words in tee["why"] for words in ("SgxPolicy", "--mrenclave"))


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("", [*REGISTERS["rtmr3"], *ENCLAVE], ("--rtmr3", "--mrenclave")),
        ("", [*REGISTERS["mr_td"], "--min-isv-svn", "0"], ("--mr-td", "--min-isv-svn")),
        (TD_FILE, ENCLAVE, ("--mrenclave", "policy.toml", "TDX")),
        ("allow_debug = true", REGISTERS["mr_td"], ("--mr-td", "policy.toml", "SGX")),
    ],
)
def test_one_policy_is_of_one_tee(files, tmp_path, text, options, named):
    (tmp_path / "policy.toml").write_text(text)
    given = ("--policy", tmp_path / "policy.toml") if text else ()
    result = verify(files, *options, *given, "--output", "json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (2, "command-line-refused")
    assert all(name in error["what"] for name in named)


def test_intels_root_rejects_it(files):
    document = verdict_of(verify(files, *DEMANDS, "--output", "json", "--root", "intel"), 4, "not-authentic")
    assert document["platform"] == "unknown"
    assert "44a0196b2b99f889" in next(check["required"] for check in document["checks"] if check["code"] == "root")


@pytest.mark.parametrize(
    ("argument", "name", "code"),
    [
        ("quote", "none.bin", "unreadable"),
        ("--root", "ca.pem", "not-a-root"),
        ("--root", "q.bin", "not-pem"),
        ("--collateral", "none", "unreadable"),
    ],
)
def test_json_where_the_input_cannot_be_read(files, lab, argument, name, code):
    """A script that reads the JSON must not need to read prose for these errors."""
    (files / "ca.pem").write_bytes(lab.platform.pki.pck_ca.pem)
    given = [files / name] if argument == "quote" else [files / "q.bin", argument, files / name]
    document = verdict_of(run_verify(files, *given, "--output", "json"), 5, "unusable")
    assert (document["platform"], document["claims"]) == ("unknown", None)
    (check,) = document["checks"]
    assert (check["code"], check["status"], check["found"]) == ("input", "failed", document["error"]["what"])
    assert check["why"]
    assert (document["error"]["code"], document["error"]["exit_code"]) == (code, 5)
    text = run_verify(files, *given)
    assert text.exit_code == 5
    assert document["error"]["what"] in text.stderr


def test_whether_files_can_be_read_is_not_asked_before(files, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # the kernel's answer to users other than root
    assert verify(files, *DEMANDS).exit_code == run_confcom("inspect", files / "q.bin").exit_code == 0


def test_short_report_data_is_padded_aloud(files):
    result = verify(files, "--report-data", "abcd", "--output", "json")
    assert all(number in result.stderr.split() for number in ("2", "64."))
    (check,) = [check for check in json.loads(result.stdout)["checks"] if check["code"] == "report-data"]
    assert check["required"] == "abcd" + "00" * 62


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        (["--mrenclave", "abcd"], "wrong-value"),
        (["--report-data", "00" * 65], "report-data-size"),
        (["--accept-tcb", "Revoked"], "command-line-refused"),
        (["--min-isv-svn", "65536"], "wrong-value"),
        (["--at", "tomorrow"], "command-line-refused"),
    ],
)
def test_mistakes_on_the_command_line_are_no_verdict(files, mistake, code):
    result = verify(files, *mistake, "--output", "json")
    assert result.exit_code == 2
    assert "Error" in result.stderr
    assert list(json.loads(result.stdout)) == ["schema", "error"]
    assert json.loads(result.stdout)["error"]["code"] == code


def test_inspect(files, evidence):
    result = run_confcom("inspect", files / "q.bin")
    assert result.exit_code == 0
    assert "SIMULATED SGX PCK Certificate - NOT INTEL" in result.output
    assert '("SIMULATED-NOT-INTEL!")' in result.output
    result = run_confcom("inspect", "-", "--output", "json", input=evidence.quote)
    assert result.exit_code == 0
    document = json.loads(result.output)
    assert document["sections"]["report_body"]["report_data"] == CHALLENGE.hex()
    assert document["stopped"] is None


def test_inspect_says_where_it_stops(evidence):
    result = run_confcom("inspect", "-", input=evidence.quote[:1000])
    assert result.exit_code == 5
    stopped = json.loads(run_confcom("inspect", "-", "--output", "json", input=evidence.quote[:1000]).output)["stopped"]
    assert stopped["code"] == "truncated"
    assert f"stopped: {stopped['what']}\n" in result.output


def test_the_reference_lists_the_checks_and_no_others():
    root = Path(__file__).parents[2]
    checks = (
        "input",
        *(
            code
            for path in (root / "src" / "confcom" / "verify").rglob("*.py")
            for code in re.findall(r'[,(]\s*code="([a-z-]+)"', path.read_text())
        ),
    )
    section = (root / "docs" / "reference" / "verify.md").read_text().partition("## Checks")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| (?:confcom|dcap-qvl|policy) \|", section, re.MULTILINE)
    assert {code for cell in cells for code in re.findall("[a-z-]+", cell)} == set(checks)
