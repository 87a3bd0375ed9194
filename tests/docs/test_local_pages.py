"""Pages whose commands need nothing but this machine, run in their order as they stand."""

import re
from pathlib import Path

import pytest

from testkit.documentation import ROOT, blocks, commands, text_of

PLAYGROUND = "docs/reference/playground.md"
PLATFORM = "docs/explanation/simulated-platform.md"
GET = "docs/how-to/get-a-quote.md"
VERIFY = "docs/how-to/verify-a-quote.md"
HELPER = "confcom quote-helper --simulated --state-dir STATE --socket {folder}/aesm/aesm.socket"


def lines_of(page):
    return [command.line for command in commands(page)]


@pytest.fixture
def socket(folder, start, until_served):
    """Where a quote helper answers, whose platform is in STATE."""
    path = folder / "aesm" / "aesm.socket"
    until_served(start(HELPER.format(folder=folder)), path)
    return path


@pytest.mark.slow
def test_playground(folder, start, typed, until, until_served):
    (folder / "examples").symlink_to(ROOT / "examples")
    export, node, plugin, helper, *rest = [line.replace("/tmp/node", f"{folder}/n") for line in lines_of(PLAYGROUND)]
    directory = export.partition("=")[2].partition("#")[0].strip()
    until(start(f"env CONFCOM_PLAYGROUND_DIR={directory} {node.partition('#')[0]}"), "node")
    start(plugin)
    until_served(start(helper), Path(helper.partition("--socket ")[2].split()[0]))
    said = []
    for line in rest:
        pod = wait_for_pod(typed, directory) if line.startswith("confcom playground logs") else ""
        done = typed(re.sub(r"sgx-test-\w+", pod, line), CONFCOM_PLAYGROUND_DIR=directory)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)
    assert "quote: " in "".join(said)


def wait_for_pod(typed, directory):
    """The Job's pod, once it has ended; each look is a command, so no sleep is needed."""
    for _ in range(100):
        shown = typed("confcom playground get", CONFCOM_PLAYGROUND_DIR=directory).stdout
        found = re.search(r"(sgx-test-\w+).*Succeeded", shown)
        if found:
            return found[1]
    return pytest.fail(shown)


def test_the_simulated_platform(typed):
    *local, of_a_cluster = lines_of(PLATFORM)
    assert "read with kubectl" in of_a_cluster
    done = typed("set -e\n" + "\n".join(local))
    assert done.returncode == 0, done.stderr
    shown = typed("ls trust platform")
    assert {"root.pem", "root.sha256", "collateral", "platform.json"} <= set(shown.stdout.split())


def test_get_a_quote(folder, socket, typed):
    done = typed("set -e\n" + "\n".join(lines_of(GET)), CONFCOM_AESM_SOCKET=str(socket))
    assert done.returncode == 0, done.stderr
    assert "c0ffee" in done.stdout
    assert (folder / "q.bin").stat().st_size > 4000


def test_verify_a_quote(folder, socket, typed):
    export, fingerprint, verify, hardware, in_a_script, decide = lines_of(VERIFY)
    quote = typed(f"confcom quote --socket {socket} --report-data abcdef --output json --out q.bin")
    assert quote.returncode == 0, quote.stderr
    shown = typed("confcom inspect q.bin --output json").stdout
    expected = re.search(r'"mr_enclave": "(\w+)"', shown)[1]
    assert typed(f"{export} && {fingerprint}").returncode == 0
    done = typed(verify, MRENCLAVE=expected)
    assert done.returncode == 0, done.stdout
    begins, _, ends = text_of(VERIFY).partition("--allow-simulated\n")[2].partition("```")[0].partition("...\n")
    assert done.stdout.startswith(begins)
    assert done.stdout.endswith(f"\n{ends}")
    assert typed(f"{in_a_script}\n{decide}", MRENCLAVE=expected).stdout == "rely on it\n"
    assert typed(f"{in_a_script}\n{decide}", MRENCLAVE="00" * 32).stdout == "not what I asked for\n"
    assert hardware.startswith("confcom verify q.bin --root intel")
    (program,) = blocks(VERIFY, "python")
    yours = f'expected, challenge = "{expected}", bytes.fromhex("abcdef")\n'
    (folder / "program.py").write_text(f"{yours}{program}print(verdict.ok)\n")
    ran = typed("python program.py")
    assert ran.stdout == "True\n", ran.stdout + ran.stderr
