"""With any input a command ends with a documented exit code, a readable last line, and no traceback."""

import json
import os
import sys
from pathlib import Path

import pytest

from confcom.cli.failures import TRACEBACK_VARIABLE
from confcom.errors import ExitCode
from testkit.confcom_process import Case, call, execute

pytestmark = pytest.mark.slow

QUOTE = Path(__file__).parent.parent / "vectors" / "genuine-quotes" / "quote_pck_cert_chain.bin"
ESCAPES = b"\x1b[2J\x1b]0;owned\x07\r\nError: forged\xe2\x80\xae\xff"
"""Bytes that clear a terminal, rename its window, forge a line, reverse text, and are invalid UTF-8."""
JSON = b'{"kind": "List", "apiVersion": "v1", "items": []}'
VERDICTS = {ExitCode.NOT_AUTHORISED, ExitCode.NOT_AUTHENTIC, ExitCode.UNUSABLE, ExitCode.NOT_READY}
"""Exit codes with which a command may name the fault in its result on stdout, and not on stderr."""


def script(stdout=b"", stderr=b"", code=0):
    read = b"".join(b"\\%03o" % byte for byte in stdout)
    told = b"".join(b"\\%03o" % byte for byte in stderr)
    return b"#!/bin/sh\nprintf '%s'\nprintf '%s' >&2\nexit %d\n" % (read, told, code)


RESULT = {
    "demo": [],
    "enable": [],
    "status": [],
    "update": [],
    "rollback": [],
    "disable": [],
    "test": [],
    "tcb": [],
    "sysdump": [],
    "version": [],
    "quote": ["--report-data", "00"],
    "inspect": [],
    "verify": ["--root", "intel"],
    "hardware-report": ["--socket", "missing"],
    "simulation create": [],
    "simulation export": ["--state-dir", "missing"],
}
"""Commands that print a result, each with the options that the command requires."""
COMMANDS = RESULT | {"quote-helper": [], "device-plugin": [], "completion": []}
CLUSTER = {
    "enable": ["enable", "--simulated", "--timeout", "1", "--set", "image.registry=r"],
    "status": ["status"],
    "update": ["update", "--timeout", "1"],
    "rollback": ["rollback", "--timeout", "1"],
    "disable": ["disable", "--yes", "--no-wait"],
    "test": ["test", "--timeout", "1"],
    "tcb": ["tcb"],
    "sysdump": ["sysdump"],
    "version": ["version"],
    "export": ["simulation", "export", "out"],
}
KUBECTLS = {
    "missing": {},
    "no program": {"kubectl": b"\x7fELF garbage"},
    "a page": {"kubectl": script(b"<!DOCTYPE html><html><title>Log in</title>" + ESCAPES)},
    "another context": {"kubectl": script(b"", b'error: context "' + ESCAPES + b'" does not exist', 1)},
    "silence": {"kubectl": script(b"", b"", 1)},
    "killed": {"kubectl": b"#!/bin/sh\nkill -9 $$\n"},
}
"""Stand-ins for kubectl; tests/addon/test_api.py has more cases of output that is not JSON."""
ANSWERING = {"kubectl": script(JSON)}
FILES = {
    "missing": "missing",
    "a directory": "folder",
    "huge": "huge.bin",
    "binary": "binary.bin",
    "empty": "empty.bin",
    "deep": "deep.json",
    "zeros": "/dev/zero",
    "a loop": "loop",
    "below a file": "empty.bin/x",
    "escapes": b"missing" + ESCAPES,
    "a long name": "x" * 5000,
    "no name": "",
}


def of_commands():
    found = {
        "no command": Case(()),
        "unknown command": Case((b"bogus" + ESCAPES,)),
        "unknown option before the command": Case((b"--bogus" + ESCAPES,)),
        "unknown command, as JSON": Case(("bogus", "-o", "json")),
        "group without a command": Case(("simulation",)),
        "unknown command of a group": Case(("simulation", b"bogus" + ESCAPES)),
        "unknown shell": Case(("completion", b"tcsh" + ESCAPES)),
    }
    for command, needed in COMMANDS.items():
        words = command.split()
        found[f"{command}: unknown option"] = Case((*words, *needed, b"--bogus" + ESCAPES))
        found[f"{command}: too many arguments"] = Case((*words, *needed, *[b"--", b"a" + ESCAPES] * 5))
        if command in RESULT:
            found[f"{command}: unknown format"] = Case((*words, *needed, b"-o", b"yaml" + ESCAPES))
    return found


def of_clusters():
    found = {}
    for kind, programs in KUBECTLS.items():
        for command, words in CLUSTER.items():
            found[f"{command}: kubectl: {kind}"] = Case(tuple(words), programs=programs)
        if "kubectl" in programs:
            helm = {"helm": programs["kubectl"]}
            found[f"update: helm: {kind}"] = Case(("update", "--timeout", "1"), programs=ANSWERING | helm)
    return found


def of_files():
    found = {
        "inspect: no permission": Case(("inspect", "closed.bin")),
        "quote: socket: behind no permission": Case(("quote", "--report-data", "00", "--socket", "closed/x")),
        "simulation create: behind no permission": Case(("simulation", "create", "closed/x")),
    }
    for kind, file in FILES.items():
        found |= {
            f"inspect: {kind}": Case(("inspect", file)),
            f"verify: root: {kind}": Case(("verify", str(QUOTE), "--root", file)),
            f"verify: collateral: {kind}": Case(("verify", str(QUOTE), "--root", "intel", "--collateral", file)),
            f"simulation export: {kind}": Case(("simulation", "export", "--state-dir", file, "out")),
            f"quote: socket: {kind}": Case(("quote", "--report-data", "00", "--socket", file)),
            f"enable: values: {kind}": Case(("enable", "--dry-run", "--values", file), programs=ANSWERING),
            f"enable: chart: {kind}": Case(("enable", "--dry-run", "--chart", file), programs=ANSWERING),
        }
        if kind not in {"missing", "a directory", "escapes"}:
            found[f"simulation create: {kind}"] = Case(("simulation", "create", file))
    return found


def of_arguments():
    verify = ("verify", str(QUOTE), "--root", "intel")
    cases = [
        *((*verify, "--mrenclave", value) for value in ("zz", "00", ESCAPES)),
        *((*verify, "--at", value) for value in ("tomorrow", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")),
        *(("quote", "--report-data", value) for value in ("", "zz", "00" * 65, ESCAPES)),
        *(("enable", "--timeout", value) for value in ("x", "0")),
        *(("rollback", number) for number in ("0", "-1", "x", "9" * 5000)),
        ("simulation", "export", "--state-dir", "platform", "--context", "x", "out"),
        ("demo", "--mode", "magic"),
        ("quote-helper", "--log-level", ESCAPES),
        ("quote-helper", "--simulated", "--state-dir", "empty.bin", "--socket", "a/aesm.socket"),
        ("device-plugin", "--max-epc-mib", ESCAPES),
    ]
    return {f"{words[0]} {words[-2]!r:.40} {words[-1]!r:.40}": Case(words) for words in cases}


def of_streams():
    found = {}
    for name, arguments in {
        "inspect": ("inspect", "-"),
        "verify": ("verify", "-", "--root", "intel"),
        "disable": ("disable",),
    }.items():
        found[f"{name}: closed stdin"] = Case(arguments, closed=(0,), programs=ANSWERING)
        found[f"{name}: nothing on stdin"] = Case(arguments, programs=ANSWERING)
        found[f"{name}: garbage on stdin"] = Case(arguments, stdin=bytes(range(256)) * 9000, programs=ANSWERING)
    found |= {
        "closed stdout: help": Case(("--help",), closed=(1,)),
        "closed stdout: inspect": Case(("inspect", str(QUOTE)), closed=(1,)),
        "closed stdout: a mistake": Case(("status", "--bogus", "-o", "json"), closed=(1,)),
        "closed stdin and stdout": Case(("inspect", "-"), closed=(0, 1)),
        "the variable of a daemon's option": Case(("quote-helper",), environ={"CONFCOM_LOG_LEVEL": "\x1b[2J"}),
        "an encoding without letters": Case(
            ("inspect", "ü\u202e".encode()), environ={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        ),
    }
    return found


CASES = of_commands() | of_clusters() | of_files() | of_arguments() | of_streams()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files of all cases; its path is short, because socket paths must be short."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "folder").mkdir()
    (folder / "empty.bin").touch()
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "deep.json").write_text("[" * 100_000)
    with (folder / "huge.bin").open("wb") as file:
        file.truncate(8 << 30)
    (folder / "loop").symlink_to("loop")
    (folder / "platform" / "simulated-root").mkdir(parents=True)
    (folder / "platform" / "simulated-root" / "seed").write_bytes(bytes(1000))
    (folder / "closed.bin").write_bytes(QUOTE.read_bytes())
    (folder / "closed").mkdir()
    for one in ("closed.bin", "closed"):
        (folder / one).chmod(0)
    yield folder
    (folder / "closed").chmod(0o700)


@pytest.fixture
def run(place, monkeypatch):
    """Runs a case; uses a new process if the streams, the interpreter or the modes of files matter."""
    monkeypatch.chdir(place)

    def run(case):
        alone = case.closed or case.environ or any(str(word).startswith("closed") for word in case.arguments)
        return execute(case, place) if alone else call(case, place)

    return run


def fault(case, done):
    """Description of a wrong exit code or a wrong output; empty if nothing is wrong."""
    out, err = done.stdout, done.stderr
    if done.returncode not in set(ExitCode) - {ExitCode.OK}:
        return f"exit code {done.returncode}"
    # The remedy of an unforeseen error (a bug or an unexplained system error) names TRACEBACK_VARIABLE.
    for word in (b"Traceback", b"Exception ignored", TRACEBACK_VARIABLE.encode()):
        if word in out + err:
            return word.decode()
    told = err or (out if done.returncode in VERDICTS else b"")
    try:
        lines = told.decode().split("\n")
    except UnicodeDecodeError:
        return "no UTF-8"
    if lines[-1] or not "".join(lines[-2:]).strip():
        return "no last line"
    if not all(line.isprintable() for line in lines) or "Error: forged" in lines:
        return "not printable"
    return ""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_ends_with_a_message_and_a_documented_code(case, run):
    done = run(case)
    assert not fault(case, done), (
        f"{fault(case, done)}\n{done.stdout.decode(errors='replace')}\n{done.stderr.decode(errors='replace')}"
    )


@pytest.fixture
def path(tmp_path):
    return os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))


def test_a_bug_shows_its_traceback_only_on_request(run, tmp_path, path):
    (tmp_path / "sitecustomize.py").write_text(
        "import confcom.verify.files\nconfcom.verify.files.read_quote = lambda path: {}['a bug']\n"
    )
    done = run(Case(("inspect", str(QUOTE), "-o", "json"), environ={"PYTHONPATH": path}))
    assert done.returncode == ExitCode.FAILED
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "internal-error"
    assert "KeyError: 'a bug' (sitecustomize.py, line 2)" in error["why"]
    assert TRACEBACK_VARIABLE in error["do"]
    assert b"Traceback" not in done.stderr
    environ = {"PYTHONPATH": path, TRACEBACK_VARIABLE: "1"}
    assert b"Traceback" in run(Case(("inspect", str(QUOTE)), environ=environ)).stderr


KILLER = f"#!{sys.executable}\nimport os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)\n"


@pytest.mark.parametrize("at", ["import", "status"])
def test_ctrl_c_during_import_or_kubectl_ends_it_quietly(at, place, tmp_path, path):
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    importing = Case(("status",), environ={"PYTHONPATH": path})
    done = execute(importing if at == "import" else Case(("status",), programs={"kubectl": KILLER.encode()}), place)
    assert (done.returncode, done.stdout) == (ExitCode.INTERRUPTED, b"")
    assert len(done.stderr.splitlines()) <= 1


def test_a_change_goes_on_when_nobody_can_be_told(run):
    """The command drops output for a closed stderr, and exits with the same code as usual."""
    codes = [run(Case(tuple(CLUSTER["enable"]), closed=closed)).returncode for closed in ((), (2,))]
    assert codes == [ExitCode.UNAVAILABLE] * 2
