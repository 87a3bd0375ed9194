"""`confcom hardware-report`, as one types it."""

import http.server
import json
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from confcom.cli.group import cli
from confcom.errors import ExitCode
from confcom.hardware_report import collect as collecting
from confcom.hardware_report.collect import query_rpm
from confcom.quote_helper.quoting.last_quote import anatomy_of

GENUINE = Path(__file__).parents[1] / "vectors" / "genuine-quotes" / "quote_pck_cert_chain.bin"


@pytest.fixture
def confcom(node):
    def call(*arguments):
        words = ["hardware-report", "--host-root", str(node.root), "--socket", str(node.socket), *map(str, arguments)]
        return CliRunner().invoke(cli, words, catch_exceptions=False)

    return call


def test_json_and_text(confcom):
    done = confcom("-o", "json")
    assert done.exit_code == ExitCode.OK
    document = json.loads(done.stdout)
    assert document["format"] == "confcom-hardware-report/1"
    assert document["sections"]["system"]["kernel"]["value"] == "6.8.0-45-generic"
    assert document["sections"]["report"]["other_root"]["value"] is True
    done = confcom()
    assert done.exit_code == ExitCode.OK
    assert "kernel: 6.8.0-45-generic" in done.stdout


def test_it_is_written_to_a_file(confcom, tmp_path):
    file = tmp_path / "report.json"
    done = confcom("-o", "json", "--out", file)
    assert (done.exit_code, done.stdout) == (ExitCode.OK, "")
    assert json.loads(file.read_text())["findings"] is not None


def test_a_file_that_cannot_be_written_is_an_error(confcom, tmp_path):
    done = confcom("-o", "json", "--out", tmp_path / "missing" / "report.json")
    assert done.exit_code == ExitCode.FAILED
    assert json.loads(done.stdout)["error"]["code"] == "report-not-writable"


def test_a_quote(confcom):
    document = json.loads(confcom("-o", "json", "--quote", GENUINE).stdout)
    assert document["sections"]["quote"]["platform"]["value"] == "genuine"


def quote_findings(document):
    return {one["code"] for one in document["findings"] if one["section"] == "quote"}


@pytest.fixture
def helper():
    """The probes of a quote helper, with what its last quote is."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Probes)
    server.page = (200, anatomy_of(GENUINE.read_bytes()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.address = f"127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Probes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.page if self.path == "/last-quote" else (404, b"")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_last_quote_of_the_helper_is_as_one_in_a_file(confcom, helper):
    asked = json.loads(confcom("-o", "json", "--probe-address", helper.address).stdout)
    named = json.loads(confcom("-o", "json", "--quote", GENUINE).stdout)
    assert asked["sections"]["quote"] == named["sections"]["quote"]
    assert asked["sections"]["quote"]["platform"]["value"] == "genuine"


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ((404, b"no quote yet"), "quote-none-yet"),
        ((200, b"{}"), "quote-page-unreadable"),
        ((200, b"\xff" * 1000), "quote-page-unreadable"),
    ],
)
def test_a_helper_without_a_quote_is_a_finding(confcom, helper, page, code):
    helper.page = page
    assert quote_findings(json.loads(confcom("-o", "json", "--probe-address", helper.address).stdout)) == {code}


def test_probes_that_do_not_answer_are_a_finding_and_so_is_no_quote_at_all(confcom, tmp_path):
    asked = json.loads(confcom("-o", "json", "--probe-address", f"unix:{tmp_path}/none").stdout)
    assert quote_findings(asked) == {"quote-helper-unreachable"}
    assert quote_findings(json.loads(confcom("-o", "json").stdout)) == {"quote-not-named"}


@pytest.mark.parametrize("wrong", [["--probe-address", "nowhere"], ["--quote", "q", "--probe-address", ":1"]])
def test_mistakes_about_the_quote(confcom, wrong):
    assert confcom(*wrong).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("kind", ["missing", "directory", "long", "device"])
def test_a_quote_that_cannot_be_read_is_a_finding(confcom, tmp_path, kind):
    file = tmp_path / "q.bin"
    if kind == "directory":
        file.mkdir()
    elif kind == "long":
        file.write_bytes(bytes(1 << 20))
    elif kind == "device":
        file = Path("/dev/zero")
    done = confcom("-o", "json", "--quote", file)
    assert done.exit_code == ExitCode.OK
    expected = {"missing": "unreadable", "long": "too-long"}.get(kind, "not-a-regular-file")
    assert expected in {one["code"] for one in json.loads(done.stdout)["findings"] if one["section"] == "quote"}


@pytest.mark.parametrize("wrong", [["--timeout", "0"], ["--cluster"], ["--host-root", ""], ["-o", "yaml"]])
def test_mistakes_in_the_command_line(confcom, wrong):
    assert confcom(*wrong).exit_code == ExitCode.USAGE


def test_this_machine_has_a_report_whatever_it_is(tmp_path):
    words = ["hardware-report", "-o", "json", "--socket", str(tmp_path / "aesm.socket")]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == ExitCode.OK
    codes = {one["code"] for one in json.loads(done.stdout)["findings"]}
    assert "no-socket" in codes
    assert "section-failed" not in codes


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("printf 'libsgx-urts\\t2.25-1\\n'", "libsgx-urts\t2.25-1\n"),
        ("exit 1", None),
        ("exec sleep 30", None),
    ],
)
def test_rpm_is_a_program_that_may_fail(tmp_path, monkeypatch, script, expected):
    rpm = tmp_path / "rpm"
    monkeypatch.setattr(collecting, "RPM", rpm)
    monkeypatch.setattr(collecting, "RPM_SECONDS", 0.5)
    assert query_rpm() is None
    rpm.write_text(f"#!/bin/sh\n{script}\n")
    os.chmod(rpm, 0o755)  # noqa: PTH101
    assert query_rpm() == expected
