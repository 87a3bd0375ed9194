"""The commands as a person types them."""

from __future__ import annotations

import base64
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from confcom.cli.group import cli
from confcom.sgx.collateral import COLLATERAL_FILES
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE
from confcom.verify.policy import Policy
from testkit.verify.verify_lab import CHALLENGE, Evidence, Lab

GENUINE = Path(__file__).parents[1] / "vectors" / "genuine-quotes"
AT = "2026-11-24T12:00:00Z"


@pytest.fixture(scope="module")
def files(lab: Lab, evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cli")
    (directory / "q.bin").write_bytes(evidence.quote)
    (directory / "root.pem").write_bytes(lab.platform.pki.root.pem)
    (directory / "collateral").mkdir()
    for name, data in evidence.collateral.to_files().items():
        (directory / "collateral" / name).write_bytes(data)
    return directory


def run(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


def verify(
    files: Path, *arguments: object, quote: object = None, root: object = None, at: str = AT, stdin: bytes = b""
):
    base = ["verify", quote or files / "q.bin", "--root", root or files / "root.pem", "--at", at]
    return run(*base, "--collateral", files / "collateral", *arguments, stdin=stdin)


@pytest.fixture(scope="module")
def demands(lab: Lab) -> list[str]:
    return ["--mrenclave", lab.enclave.mr_enclave.hex(), "--report-data", CHALLENGE.hex(), "--allow-simulated"]


def test_verified(files: Path, demands: list[str]) -> None:
    result = verify(files, *demands)
    assert result.exit_code == 0, result.output
    first, *checks, last = result.output.splitlines()[0:1] + result.output.splitlines()[2:]
    assert (first, last) == ("platform: simulated, so no hardware protects the enclave", "VERIFIED")
    document = json.loads(verify(files, *demands, "--output", "json").stdout)["checks"]
    assert [line.split()[:2] for line in checks] == [[one["status"], one["name"]] for one in document]


def test_json_is_the_verdict(files: Path, demands: list[str]) -> None:
    result = verify(files, *demands, "--output", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"], document["kind"]) == (0, True, "verified")
    assert {check["status"] for check in document["checks"]} <= {"passed", "not-checked"}


def test_nothing_demanded_is_not_authorised(files: Path) -> None:
    result = verify(files)
    assert result.exit_code == 3
    assert result.output.endswith("\nfailed: platform, identity, report_data\nAUTHENTIC NOT AUTHORISED\n")
    lines = result.output.splitlines()
    at = lines.index("failed       platform")
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["required:", "found:", "why:"]


def test_simulated_only_on_request(files: Path, demands: list[str]) -> None:
    assert verify(files, *demands[:-1]).exit_code == 3


def test_a_changed_byte(files: Path, demands: list[str], evidence: Evidence) -> None:
    changed = bytearray(evidence.quote)
    changed[200] ^= 1
    result = verify(files, *demands, quote="-", stdin=bytes(changed))
    assert result.exit_code == 4
    assert "did not sign" in result.output


def test_intels_root_rejects_it(files: Path, demands: list[str]) -> None:
    result = verify(files, *demands, root="intel")
    assert result.exit_code == 4
    assert "platform: unknown" in result.output
    assert "46e403bd34f05a3f" in result.output


def test_a_replayed_quote(files: Path, demands: list[str]) -> None:
    assert verify(files, *demands[:3], CHALLENGE[::-1].hex(), *demands[4:]).exit_code == 3


def test_expired_collateral(files: Path, demands: list[str]) -> None:
    result = verify(files, *demands, at="2027-06-01")
    assert result.exit_code == 5
    assert "failed: collateral" in result.output


def test_no_collateral(files: Path) -> None:
    result = run("verify", files / "q.bin", "--root", files / "root.pem")
    assert result.exit_code == 5


def test_collateral_that_is_not_there(files: Path) -> None:
    result = run("verify", files / "q.bin", "--root", files / "root.pem", "--collateral", files)
    assert result.exit_code == 5
    assert f"pass {files / 'collateral'}" in result.output


def test_json_where_the_input_cannot_be_read(files: Path, lab: Lab, tmp_path: Path) -> None:
    """A script that reads the JSON must not have to read prose for these."""
    (tmp_path / "ca.pem").write_bytes(lab.platform.pki.pck_ca.pem)
    (tmp_path / "long.bin").write_bytes(bytes(MAX_QUOTE_SIZE + 1))
    (tmp_path / "collateral").mkdir()
    for name in COLLATERAL_FILES:
        (tmp_path / "collateral" / name).write_bytes(b"{}")
    for arguments, what in (
        ({"quote": tmp_path / "none.bin"}, "none.bin cannot be read"),
        ({"quote": tmp_path / "long.bin"}, "long.bin is larger than"),
        ({"root": tmp_path / "none.pem"}, "none.pem cannot be read"),
        ({"root": tmp_path / "ca.pem"}, "is not a root"),
        ({"root": files / "q.bin"}, "something other than PEM certificates"),
        ({"collateral": tmp_path / "none"}, "there is no collateral directory"),
        ({"collateral": files}, "is incomplete"),
        ({"collateral": tmp_path / "collateral"}, "not a signed tcbInfo document"),
    ):
        given = {"quote": files / "q.bin", "root": files / "root.pem", "collateral": files / "collateral"} | arguments
        options = ["--root", given["root"], "--collateral", given["collateral"], "--output", "json"]
        result = run("verify", given["quote"], *options)
        document = json.loads(result.stdout)
        assert (result.exit_code, document["ok"], document["kind"]) == (5, False, "unusable")
        assert (document["platform"], document["claims"]) == ("unknown", None)
        (check,) = document["checks"]
        assert (check["name"], check["status"]) == ("input", "failed")
        assert what in check["found"]
        assert check["why"]
        assert what in document["error"]["what"]
        assert document["error"]["exit_code"] == 5
        text = run("verify", given["quote"], *options[:-2])
        assert text.exit_code == 5
        assert what in text.stderr


@pytest.mark.parametrize("argument", ["quote", "root", "collateral"])
def test_a_file_without_permission_is_unusable_input(files: Path, argument: str, monkeypatch) -> None:
    given = {"quote": files / "q.bin", "root": files / "root.pem", "collateral": files / "collateral"}
    opened = os.open

    def refuse(path, *arguments, **options):
        if str(path).startswith(str(given[argument])):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # as the kernel tells users who are not root
    options = ["--root", given["root"], "--collateral", given["collateral"], "--output", "json"]
    result = run("verify", given["quote"], *options)
    assert (result.exit_code, json.loads(result.stdout)["kind"]) == (5, "unusable")
    assert "Permission denied" in result.stdout
    assert argument != "quote" or run("inspect", given["quote"]).exit_code == 5


@pytest.mark.parametrize("encode", [bytes.hex, lambda quote: base64.b64encode(quote).decode()])
def test_a_quote_as_text(files: Path, demands: list[str], evidence: Evidence, encode) -> None:
    result = verify(files, *demands, quote="-", stdin=encode(evidence.quote).encode())
    assert result.exit_code == 0, result.output


def test_a_mistake_on_the_command_line_is_no_verdict(files: Path) -> None:
    result = verify(files, "--mrenclave", "abcd", "--output", "json")
    assert result.exit_code == 2
    assert list(json.loads(result.stdout)) == ["error"]


def test_a_pipe_is_read_from_standard_input_only(files: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for result in (verify(files, quote=tmp_path / "fifo"), run("inspect", tmp_path / "fifo")):
        assert result.exit_code == 5
        assert "fifo is not a regular file" in result.stderr
        assert "standard input" in result.stderr


def test_not_a_quote(files: Path) -> None:
    result = verify(files, quote="-", stdin=b"hello")
    assert result.exit_code == 5
    assert result.output.endswith("\nUNUSABLE\n")


def test_short_report_data_is_padded_aloud(files: Path, demands: list[str]) -> None:
    result = verify(files, "--report-data", "abcd", "--output", "json")
    assert "2 bytes of report data are filled up with zeros to 64" in result.stderr
    (check,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "report_data"]
    assert check["required"] == "abcd" + "00" * 62


@pytest.mark.parametrize(
    "mistake",
    [
        ["--mrenclave", "xyz"],
        ["--mrenclave", "abcd"],
        ["--report-data", "00" * 65],
        ["--accept-tcb", "Revoked"],
        ["--min-isv-svn", "65536"],
    ],
)
def test_mistakes_on_the_command_line_are_usage_errors(files: Path, mistake: list[str]) -> None:
    result = verify(files, *mistake)
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_time_that_is_none(files: Path) -> None:
    result = verify(files, at="tomorrow")
    assert result.exit_code == 2
    assert "2026-11-24T12:00:00Z" in result.stderr


def test_time_with_an_offset_is_the_same_instant(files: Path, demands: list[str]) -> None:
    result = verify(files, *demands, "--output", "json", at="2026-11-24T17:00:00+05:00")
    assert result.exit_code == 0
    assert f"the root is valid at {AT}" in result.output


def test_statuses_advisories_and_numbers_reach_the_policy(files: Path, demands: list[str], lab: Lab) -> None:
    signer = ["--mrsigner", lab.enclave.mr_signer.hex(), "--isv-prod-id", "0", "--min-isv-svn", "0"]
    assert verify(files, *demands[2:], *signer).exit_code == 0
    assert verify(files, *demands, "--accept-tcb", "OutOfDate").exit_code == 3
    assert verify(files, *demands, "--accept-tcb", "OutOfDate", "--accept-tcb", "UpToDate").exit_code == 0
    assert verify(files, *demands, "--reject-advisory", "SIMULATED-NOT-GENUINE-INTEL").exit_code == 3


def test_inspect(files: Path) -> None:
    result = run("inspect", files / "q.bin")
    assert result.exit_code == 0
    assert "SIMULATED SGX PCK Certificate - NOT INTEL" in result.output
    assert '("SIMULATED-NOT-INTEL!")' in result.output


def test_inspect_json_from_standard_input(evidence: Evidence) -> None:
    result = run("inspect", "-", "--output", "json", stdin=evidence.quote)
    assert result.exit_code == 0
    document = json.loads(result.output)
    assert document["sections"]["report_body"]["report_data"] == CHALLENGE.hex()
    assert document["stopped"] is None


def test_inspect_says_where_it_stops(evidence: Evidence) -> None:
    result = run("inspect", "-", stdin=evidence.quote[:1000])
    assert result.exit_code == 5
    assert "MRENCLAVE" in result.output
    assert "stopped: the quote ends inside the signature data" in result.output


@pytest.mark.parametrize("name", ["quote_pck_cert_chain.bin", "quote_raw_tcb.bin"])
def test_inspect_genuine_quotes(name: str) -> None:
    result = run("inspect", GENUINE / name)
    assert result.exit_code == 0
    assert "warning: DEBUG enclave" in result.output


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_help_has_examples_on_lines_of_their_own(command: str) -> None:
    lines = run(command, "--help").output.splitlines()
    assert any(line.startswith((f"    confcom {command} ", f"  confcom {command} ")) for line in lines)


WITHOUT_DCAP_QVL = """
import sys
from dataclasses import replace
sys.modules["dcap_qvl"] = None
from confcom.cli.main import main
main()
"""


def test_inspect_needs_no_verifier_and_verify_says_what_to_install(files: Path) -> None:
    def confcom(*arguments: object) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", WITHOUT_DCAP_QVL, *map(str, arguments)]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert confcom("inspect", files / "q.bin").returncode == 0
    refused = confcom("verify", files / "q.bin", "--root", files / "root.pem")
    assert refused.returncode == 6
    assert "pip install 'confcom[verify]'" in refused.stderr


def test_the_reference_names_every_check(lab: Lab, evidence: Evidence) -> None:
    demanding = replace(lab.policy, mr_signer=bytes(32), isv_prod_id=1, min_isv_svn=1)
    names = {"input"} | {check.name for policy in (demanding, Policy()) for check in evidence.verdict(policy).checks}
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "verify.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in reference] == []
