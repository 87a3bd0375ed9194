import base64
import functools
import json

import pytest

from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from testkit.programs import run_confcom

REPORT_DATA = bytes.fromhex("c0ffee") + bytes(61)


@pytest.fixture
def quote(socket_path):
    return functools.partial(run_confcom, "quote", "--socket", socket_path)


def test_a_quote_into_a_file(quote, aesmd, tmp_path):
    target = tmp_path / "my q.bin"
    result = quote("--report-data", "c0ffee", "--out", str(target))
    assert result.exit_code == 0, result.output
    parsed = Quote.parse(target.read_bytes())
    assert parsed.body.report_data == REPORT_DATA
    assert parsed.body.mr_enclave == SimulatedEnclave.from_name("confcom quote").mr_enclave
    assert parsed.body.mr_enclave.hex() in result.stdout
    assert f"confcom inspect '{target}'" in result.stdout
    assert "quote: " not in result.stdout


def test_a_quote_on_the_screen(quote, aesmd):
    result = quote("--report-data", "c0ffee")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("quote: ")]
    assert Quote.parse(base64.b64decode(line.removeprefix("quote: "))).body.report_data == REPORT_DATA


def test_a_quote_as_data(quote, aesmd, socket_path, tmp_path):
    facts = json.loads(quote("--report-data", "c0ffee", "--output", "json", "--out", str(tmp_path / "q")).stdout)
    parsed = Quote.parse(base64.b64decode(facts.pop("quote")))
    assert facts == {
        "schema": 1,
        "quote_size": len(parsed.encode()),
        "mrenclave": parsed.body.mr_enclave.hex(),
        "mrsigner": parsed.body.mr_signer.hex(),
        "report_data": REPORT_DATA.hex(),
        "socket": str(socket_path),
        "file": str(tmp_path / "q"),
    }


def require_refused(result, exit_code, code):
    assert result.exit_code == exit_code
    assert list(json.loads(result.stdout)) == ["schema", "error"]
    assert json.loads(result.stdout)["error"]["code"] == code


WRONG = [(["xy"], "command-line-refused"), ([], "command-line-refused")]
WRONG += [([value], "report-data-size") for value in ("00" * 65, "")]


@pytest.mark.parametrize(("value", "code"), WRONG)
def test_wrong_arguments_are_usage_errors(quote, value, code):
    result = quote(*(("--report-data", *value) if value else ()), "--output", "json")
    require_refused(result, 2, code)


def test_a_file_that_cannot_be_written(quote, aesmd, tmp_path):
    result = quote("--report-data", "00", "--out", str(tmp_path / "absent" / "q.bin"), "--output", "json")
    require_refused(result, 1, "quote-not-writable")


def test_a_file_name_that_is_no_text_is_shown_escaped(quote, aesmd, tmp_path):
    target = tmp_path / "\udcff\x1b[2Kq.bin"
    result = quote("--report-data", "00", "--out", str(target))
    assert result.exit_code == 0, result.output
    assert target.exists()
    assert f" {tmp_path}/\\udcff\\x1b[2Kq.bin;" in result.stdout


def test_no_service(quote, socket_path):
    require_refused(quote("--report-data", "00", "--output", "json"), 6, "no-socket")
    text = quote("--report-data", "00")
    assert (text.exit_code, text.stdout) == (6, "")
    assert [line.split(":")[0].strip() for line in text.stderr.splitlines()] == ["Error", "why", "do"]


def test_the_quotes_bytes_on_stdout(quote, aesmd):
    result = quote("--report-data", "c0ffee", "--out", "-")
    assert result.exit_code == 0, result.output
    assert Quote.parse(result.stdout_bytes).body.report_data == REPORT_DATA
    assert "MRENCLAVE" in result.stderr
    assert "quote: " not in result.stderr
    two_documents = quote("--report-data", "c0ffee", "--out", "-", "--output", "json")
    require_refused(two_documents, 2, "command-line-refused")
