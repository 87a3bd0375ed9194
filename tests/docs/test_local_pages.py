"""Runs the commands of pages that need only this machine, unchanged and in the page's order."""

import json
import re
import sys

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from confcom.testing import Attestation
from confcom.testing.collateral_service import serve_collateral
from confcom.verify import read_collateral
from testkit.collateral_service import answers_of, serving
from testkit.conditions import wait_until
from testkit.documentation import ROOT, blocks, commands, text_of

PLATFORM = "docs/explanation/simulated-platform.md"
GET = "docs/how-to/get-a-quote.md"
WITHOUT_INTERNET = "docs/how-to/collateral-without-internet.md"
VERIFY = "docs/how-to/verify-a-quote.md"
TUTORIAL = "docs/tutorial/first-quote.md"
INSTALL = "docs/how-to/install-on-a-cluster.md"
HELPER = "confcom quote-helper --simulated --state-dir STATE --socket {folder}/aesm/aesm.socket"
CALL = """
def make_report(target_info):
    from confcom.testing import SimulatedEnclave, report_data
    return SimulatedEnclave.from_name("mine").create_report(target_info, report_data(b"my challenge"))

print((attest(make_report) if "attest" in globals() else quote).hex())
"""


def lines_of(page):
    return [command.line for command in commands(page)]


@pytest.fixture
def socket(short_dir, start):
    """Socket of a running quote helper that has its platform in the folder STATE."""
    path = short_dir / "aesm" / "aesm.socket"
    process = start(HELPER.format(folder=short_dir))
    wait_until(lambda: path.is_socket() or process.poll() is not None)
    assert path.is_socket(), process.stdout.read()
    return path


def test_the_simulated_platform(typed):
    *local, of_a_cluster = lines_of(PLATFORM)
    assert "read with kubectl" in of_a_cluster
    done = typed("set -e\n" + "\n".join(local))
    assert done.returncode == 0, done.stderr
    shown = typed("ls trust platform")
    assert {"root.pem", "root.sha256", "collateral", "simulated-root"} <= set(shown.stdout.split())


def test_get_a_quote(short_dir, socket, typed):
    done = typed("set -e\n" + "\n".join(lines_of(GET)), CONFCOM_AESM_SOCKET=str(socket))
    assert done.returncode == 0, done.stderr
    assert "c0ffee" in done.stdout
    assert (short_dir / "q.bin").stat().st_size > 4000
    programs = blocks(GET, "python")
    assert len(programs) == 2
    for program in programs:
        (short_dir / "program.py").write_text(program + CALL)
        ran = typed("python program.py", SGX_AESM_ADDR="1", CONFCOM_AESM_SOCKET=str(socket))
        assert ran.returncode == 0, ran.stderr
        body = Quote.parse(bytes.fromhex(ran.stdout)).body
        assert body.mr_enclave == SimulatedEnclave.from_name("mine").mr_enclave
        assert body.report_data == b"my challenge".ljust(64, b"\0")


def test_verify_a_quote(short_dir, socket, typed):
    export, fingerprint, verify, fetch, hardware, in_a_script, decide, *_of_tds = lines_of(VERIFY)
    quote = typed(f"confcom quote --socket {socket} --report-data abcdef --output json --out q.bin")
    assert quote.returncode == 0, quote.stderr
    expected = re.search(r'"mr_enclave": "(\w+)"', typed("confcom inspect q.bin --output json").stdout)[1]
    assert typed(f"{export} && {fingerprint}").returncode == 0
    done = typed(verify, MRENCLAVE=expected)
    assert done.returncode == 0, done.stdout
    begins, _, ends = text_of(VERIFY).partition("--allow-simulated\n")[2].partition("```")[0].partition("...\n")
    assert done.stdout.startswith(begins)
    assert done.stdout.endswith(f"\n{ends}")
    assert typed(f"{in_a_script}\n{decide}", MRENCLAVE=expected).stdout == "rely on it\n"
    assert typed(f"{in_a_script}\n{decide}", MRENCLAVE="00" * 32).stdout == "not what I asked for\n"
    with serving(answers_of(read_collateral(short_dir / "out" / "collateral"))) as (_, url):
        fetched = typed(fetch.replace("intel", url))
    assert fetched.returncode == 0, fetched.stderr
    assert hardware.startswith("confcom verify q.bin --root intel --collateral collateral.json")
    assert typed(verify.replace("out/collateral", "collateral.json"), MRENCLAVE=expected).returncode == 0
    program, _of_tds = blocks(VERIFY, "python")
    call = f'print(decide(bytes.fromhex("{expected}"), bytes.fromhex("abcdef")).mr_enclave.hex())\n'
    (short_dir / "program.py").write_text(f"{program}{call}")
    ran = typed("python program.py")
    assert ran.stdout == f"{expected}\n", ran.stdout + ran.stderr


def test_verify_a_tds_quote(short_dir, typed):
    fetch, verify = lines_of(VERIFY)[-2:]
    attestation = Attestation.create()
    (short_dir / "td.bin").write_bytes(attestation.td_quote(b"mine").quote)
    (short_dir / "root.pem").write_bytes(attestation.root.certificate.public_bytes(Encoding.PEM))
    with serve_collateral(attestation) as source:
        fetched = typed(fetch.replace("intel", source.url))
    assert fetched.returncode == 0, fetched.stderr
    for value in (attestation.td.mr_td, attestation.td.rtmr1, attestation.td.rtmr2, b"mine"):
        verify = verify.replace("HEX", value.hex(), 1)
    assert "HEX" not in verify
    done = typed(f"{verify.replace('intel', 'root.pem')} --allow-simulated")
    assert done.stdout.endswith("\nVERIFIED\n"), done.stdout + done.stderr


def test_collateral_without_internet(typed, start):
    file, verify_genuine, pccs, quote, serve, which, standard, early, by_standard, by_early = lines_of(WITHOUT_INTERNET)
    quoted = typed(quote)
    assert quoted.returncode == 0, quoted.stderr
    server = start(serve.replace("early", "early --address 127.0.0.1:0"))
    told = json.loads(server.stdout.readline())["message"]
    netloc = told.partition("http://")[2].partition("/")[0]
    assert told.replace(netloc, "127.0.0.1:8081") in text_of(WITHOUT_INTERNET)
    for command in (standard, early, file.replace("intel", f"http://{netloc}")):
        done = typed(command.replace("127.0.0.1:8081", netloc))
        assert done.returncode == 0, done.stderr
    assert [typed(f"{which}\n{command}").returncode for command in (by_standard, by_early)] == [0, 3]
    assert verify_genuine.startswith("confcom verify q.bin --root intel --collateral collateral.json")
    assert pccs.replace("https://pccs.example:8081 --ca ca.pem", "intel") == file


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_tutorials_first_half(short_dir, typed):
    lines = [one.line for one in commands(TUTORIAL) if one.name == "steps"]
    done = typed("\n".join(f'{line}\necho "exit $?"' for line in lines))
    expected = ["exit 0"] * len(lines)
    expected[next(number for number, line in enumerate(lines) if line.startswith("confcom verify"))] = "exit 3"
    assert re.findall(r"^exit \d+$", done.stdout, re.MULTILINE) == expected, done.stdout + done.stderr
    assert "the exit code is 3" in " ".join(text_of(TUTORIAL).split())
    assert re.search(r"^VERIFIED$", done.stdout, re.MULTILINE)
    assert "SIMULATED-NOT-INTEL!" in done.stdout
    assert (short_dir / "mine.bin").stat().st_size > 4000


@pytest.mark.slow
def test_the_quote_of_a_clusters_job(short_dir, socket, install, typed):
    """A stand-in for kubectl prints the log of the sample workload."""
    install(kubectl="#!/bin/sh\ncat log\n")
    challenge = re.search(r'CONFCOM_CHALLENGE.*\n\s*value: "(\w+)"', (ROOT / "examples" / "job.yaml").read_text())[1]
    variables = {"CONFCOM_AESM_SOCKET": str(socket), "CONFCOM_SGX_ENCLAVE_DEVICE": "/dev/null"}
    variables |= {"CONFCOM_CHALLENGE": challenge, "SGX_AESM_ADDR": "1"}
    done = typed(f"{sys.executable} -m confcom.sample_workload >log", **variables)
    assert done.returncode == 0, done.stderr
    section = re.sub(
        r"\\\n\s*", "", text_of(INSTALL).partition("## Verify quotes of this cluster")[2].partition("\n## ")[0]
    )
    lines = [
        command.replace("export ", "export --state-dir STATE ") for command in lines_of(INSTALL) if command in section
    ]
    done = typed("\n".join(lines))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^VERIFIED$", done.stdout, re.MULTILINE)
    assert typed(re.sub(r" --(mrenclave|report-data) \S+", "", lines[-1])).returncode == 3
