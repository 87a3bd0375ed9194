import json

import pytest

from confcom.verify import read_collateral
from testkit.collateral_caches import EVIDENCE, FOR_TDX, LAB, TD_QUOTE
from testkit.collateral_service import answers_of, serving
from testkit.programs import run_confcom
from testkit.verify.verify_lab import CHALLENGE, run_verify


@pytest.fixture
def files(tmp_path):
    return EVIDENCE.write(tmp_path)


def test_what_is_fetched_verifies(files):
    out = files / "fetched.json"
    with serving(answers_of(EVIDENCE.collateral)) as (service, url):
        (files / "key").write_text("from a file\n")
        done = run_confcom("collateral", "fetch", files / "q.bin", "--from", url, "--out", out, "--output", "json")
        keyed = ("collateral", "fetch", files / "q.bin", "--from", url, "--out", out)
        assert run_confcom(*keyed, env={"CONFCOM_PCS_API_KEY": "of a variable"}).exit_code == 0
        assert run_confcom(*keyed, "--api-key-file", files / "key").exit_code == 0
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["tee"], facts["fmspc"], facts["evaluation_number"]) == ("SGX", "53494d534758", 1)
    keys = [headers.get("Ocp-Apim-Subscription-Key") for headers in service.headers]
    assert keys == [None] * 4 + ["of a variable"] * 4 + ["from a file"] * 4
    demands = ("--mrenclave", LAB.enclave.mr_enclave.hex(), "--report-data", CHALLENGE.hex(), "--allow-simulated")
    verified = run_verify(files, files / "q.bin", "--collateral", out, *demands)
    assert verified.exit_code == 0, verified.output


def test_collateral_for_tdx_is_fetched_by_a_tds_quote(files):
    (files / "td.bin").write_bytes(TD_QUOTE)
    with serving(answers_of(FOR_TDX)) as (_, url):
        arguments = ("collateral", "fetch", files / "td.bin", "--from", url, "--out", files / "out")
        done = run_confcom(*arguments, "--output", "json")
    assert json.loads(done.stdout)["tee"] == "TDX"
    assert read_collateral(files / "out") == FOR_TDX


def test_expired_collateral_is_told(files):
    expired = LAB.edit_json(EVIDENCE, "tcb_info", lambda document: document.update(nextUpdate="2026-11-24T00:00:00Z"))
    with serving(answers_of(expired.collateral)) as (_, url):
        arguments = ("collateral", "fetch", files / "q.bin", "--from", url, "--out", files / "out")
        assert json.loads(run_confcom(*arguments, "--output", "json").stdout)["expired"] is True
        assert "expired" in run_confcom(*arguments).stderr


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [
        (["--from", "https://pcs.test/sgx/certification/v3/"], 2),
        (["--from", "pcs"], 2),
        (["--from", "intel", "--early", "--evaluation", "3"], 2),
        (["--from", "http://127.0.0.1:9"], 6),
        (["--from", "intel", "--api-key-file", "/none"], 5),
    ],
)
def test_what_cannot_be_asked(files, options, exit_code):
    done = run_confcom("collateral", "fetch", files / "q.bin", *options, "--out", files / "out")
    assert done.exit_code == exit_code, done.output
    assert not (files / "out").exists()


def test_a_result_that_cannot_be_written(files):
    with serving(answers_of(EVIDENCE.collateral)) as (_, url):
        done = run_confcom("collateral", "fetch", files / "q.bin", "--from", url, "--out", files / "none" / "out")
    assert done.exit_code == 1
