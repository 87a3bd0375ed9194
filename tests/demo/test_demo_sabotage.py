"""Whatever is broken, the demo ends at the step that broke, and says so."""

import signal
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SAMPLE = "registry.test/confcom/sample-workload:latest"

PATCHED_COMMAND = """
import sys
from confcom.cli.main import main
{patch}
sys.argv = ["confcom", {name!r}, *sys.argv[1:]]
main()
"""

WITH_IMAGE = """
import sys
from confcom.cli.main import main
arguments = sys.argv[1:]
if arguments[0] == "node":
    arguments += ["--image", {image!r}]
sys.argv = ["confcom", "playground", *arguments]
main()
"""

FLIPPED = """
import base64, subprocess, sys
done = subprocess.run([sys.executable, "-m", "confcom.sample_workload"], capture_output=True, text=True, check=True)
for line in done.stdout.splitlines():
    if line.startswith("quote: "):
        quote = bytearray(base64.b64decode(line.removeprefix("quote: ")))
        quote[{offset}] ^= 1
        line = "quote: " + base64.b64encode(quote).decode()
    print(line)
"""

WRONG_ROOT = """
import sys
from confcom.cli.main import main
arguments = sys.argv[1:]
if arguments[0] == "export":
    other = arguments[arguments.index("--state-dir") + 1] + "-other"
    sys.argv = ["confcom", "simulation", "create", other]
    try:
        main()
    except SystemExit:
        pass
    arguments[arguments.index("--state-dir") + 1] = other
sys.argv = ["confcom", "simulation", *arguments]
main()
"""


def failure(report):
    """The number of the step that failed, after all others held, and its error."""
    assert not report.ok
    assert [step.ok for step in report.steps] == [True] * (len(report.steps) - 1) + [False]
    return report.steps[-1].number, report.steps[-1].error


def fails_at(report):
    """The number of the step that failed, and the code of its error."""
    number, error = failure(report)
    return number, error["code"]


def be_impatient(context):
    """From here on nothing comes that is waited for."""
    context.job_seconds = 2.0


@pytest.fixture
def with_image(script):
    """Replaces the sample image by a program, in the arguments of `play`."""

    def instead(command):
        return {"playground": script(WITH_IMAGE.format(image=f"{SAMPLE}={command}"))}

    return instead


@pytest.fixture
def patched(script):
    """A command with something changed in it before it runs."""

    def instead(name, patch):
        return {name: script(PATCHED_COMMAND.format(patch=patch, name=name))}

    return instead


def test_undisturbed_it_holds(play):
    report = play()
    assert report.ok, report.steps[-1].error
    assert len(report.steps) == 6


@pytest.mark.parametrize(
    ("name", "after", "step", "code"),
    [
        ("quote-helper", 2, 4, "job-ended-otherwise"),
        ("device-plugin", 2, 3, "job-too-slow"),
        ("node", 4, 6, "command-failed"),
    ],
)
def test_a_daemon_is_killed(play, name, after, step, code):
    def act(context):
        process = context.processes.running[name].process
        process.send_signal(signal.SIGKILL)
        process.wait()
        if code == "job-too-slow":
            be_impatient(context)

    assert fails_at(play(after=(after, act))) == (step, code)


def test_plugin_that_never_registers(play, patched, short_folder):
    short_folder.mkdir()
    lost = f'position = sys.argv.index("--device-plugin-dir") + 1\nsys.argv[position] = {str(short_folder)!r}'
    assert fails_at(play(instead=patched("device-plugin", lost), patience=3)) == (2, "not-ready-in-time")


def test_plugin_that_ends_at_once(play, script):
    number, error = failure(play(instead={"device-plugin": script("raise SystemExit('no EPC here')")}))
    assert (number, error["code"]) == (2, "process-ended")
    assert "device-plugin" in error["what"]
    assert "no EPC here" in error["why"]


def test_helper_that_is_never_ready(play, script):
    instead = {"quote-helper": script("import time; time.sleep(60)")}
    assert fails_at(play(instead=instead, patience=2)) == (2, "not-ready-in-time")


def test_platform_that_cannot_be_made(play, script):
    number, error = failure(play(instead={"simulation": script("raise SystemExit('disk full')")}))
    assert (number, error["code"]) == (1, "command-failed")
    assert "disk full" in error["why"]


@pytest.mark.parametrize("offset", [20, 48 + 64, 48 + 320, 500, 700], ids=["header", "mrenclave", "data", "key", "qe"])
def test_quote_with_a_flipped_byte(play, script, with_image, offset):
    program = " ".join(script(FLIPPED.format(offset=offset), "flip"))
    number, error = failure(play(instead=with_image(program)))
    assert (number, error["code"]) == (5, "verdict-differs")
    assert " not-authentic " in error["what"]


def test_wrong_root_trusted(play, script):
    assert fails_at(play(instead={"simulation": script(WRONG_ROOT)})) == (5, "verdict-differs")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('{"kind": "verified", "platform": "simulated"}', "verdict-differs"),
        ('{"kind": "verified", "platform": "genuine"}', "simulated-taken-for-genuine"),
        ("everything is fine", "output-not-json"),
        ("[]", "output-not-json"),
    ],
)
def test_verifier_that_accepts_everything(play, script, answer, code):
    assert fails_at(play(instead={"verify": script(f"print({answer!r})")})) == (5, code)


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        (
            "from confcom.playground.kubelet import ledger; ledger.DeviceLedger.release = lambda *arguments: None",
            "job-too-slow",
        ),
        ("from confcom.playground import node; node.unschedulable = lambda *arguments: ''", "job-not-pending"),
    ],
    ids=["EPC is not released", "the scheduler lets everything in"],
)
def test_node_that_counts_wrongly(play, patched, patch, code):
    impatience = be_impatient if code == "job-too-slow" else lambda _: None
    assert fails_at(play(instead=patched("playground", patch), after=(5, impatience))) == (6, code)


def test_job_that_exits_1(play, script, with_image):
    number, error = failure(play(instead=with_image(" ".join(script("raise SystemExit(1)", "failing")))))
    assert (number, error["code"]) == (4, "job-ended-otherwise")
    assert "exit code 1" in error["why"]


def test_job_that_prints_no_quote(play, with_image):
    assert fails_at(play(instead=with_image(f"{sys.executable} -c pass"))) == (4, "no-quote")


def test_quote_of_another_enclave(play, with_image):
    program = f"{sys.executable} -m confcom.sample_workload --enclave impostor"
    number, error = failure(play(instead=with_image(program)))
    assert (number, error["code"]) == (5, "verdict-differs")
    assert " authentic-not-authorised " in error["what"]


def test_nothing_of_the_machine_is_touched(play):
    def machine():
        devices = sorted(entry.name for entry in Path("/dev").iterdir())
        return devices, Path("/run/aesmd").exists(), Path("/proc/self/mounts").read_text()

    before = machine()
    assert play().ok
    assert machine() == before
