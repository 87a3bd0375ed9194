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


@pytest.fixture
def fails(play):
    """Plays, expects that this step fails with this code after all others held, and gives its error."""

    def run(number, code, **options):
        report = play(**options)
        assert not report.ok
        assert [step.ok for step in report.steps] == [True] * (len(report.steps) - 1) + [False]
        error = report.steps[-1].error
        assert (report.steps[-1].number, error["code"]) == (number, code)
        return error

    return run


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


def test_undisturbed_it_holds_and_nothing_of_the_machine_is_touched(play):
    def machine():
        devices = sorted(entry.name for entry in Path("/dev").iterdir())
        return devices, Path("/run/aesmd").exists(), Path("/proc/self/mounts").read_text()

    before = machine()
    report = play()
    assert report.ok, report.steps[-1].error
    assert len(report.steps) == 6
    assert machine() == before


@pytest.mark.parametrize(
    ("name", "after", "step", "code"),
    [
        ("quote-helper", 2, 4, "job-ended-otherwise"),
        ("device-plugin", 2, 3, "job-too-slow"),
        ("node", 4, 6, "command-failed"),
    ],
)
def test_a_daemon_is_killed(fails, name, after, step, code):
    def act(context):
        process = context.processes.running[name].process
        process.send_signal(signal.SIGKILL)
        process.wait()
        if code == "job-too-slow":
            be_impatient(context)

    fails(step, code, after=(after, act))


def test_plugin_that_never_registers(fails, patched, short_folder):
    short_folder.mkdir()
    lost = f'position = sys.argv.index("--device-plugin-dir") + 1\nsys.argv[position] = {str(short_folder)!r}'
    fails(2, "not-ready-in-time", instead=patched("device-plugin", lost), patience=3)


def test_plugin_that_ends_at_once(fails, script):
    error = fails(2, "process-ended", instead={"device-plugin": script("raise SystemExit('no EPC here')")})
    assert "device-plugin" in error["what"]
    assert "no EPC here" in error["why"]


def test_helper_that_is_never_ready(fails, script):
    instead = {"quote-helper": script("import time; time.sleep(60)")}
    fails(2, "not-ready-in-time", instead=instead, patience=2)


def test_platform_that_cannot_be_made(fails, script):
    error = fails(1, "command-failed", instead={"simulation": script("raise SystemExit('disk full')")})
    assert "disk full" in error["why"]


@pytest.mark.parametrize("offset", [20, 48 + 64, 48 + 320, 500, 700], ids=["header", "mrenclave", "data", "key", "qe"])
def test_quote_with_a_flipped_byte(fails, script, with_image, offset):
    program = " ".join(script(FLIPPED.format(offset=offset), "flip"))
    assert " not-authentic " in fails(5, "verdict-differs", instead=with_image(program))["what"]


def test_wrong_root_trusted(fails, script):
    fails(5, "verdict-differs", instead={"simulation": script(WRONG_ROOT)})


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('{"kind": "verified", "platform": "simulated"}', "verdict-differs"),
        ('{"kind": "verified", "platform": "genuine"}', "simulated-taken-for-genuine"),
        ("everything is fine", "output-not-json"),
        ("[]", "output-not-json"),
    ],
)
def test_verifier_that_accepts_everything(fails, script, answer, code):
    fails(5, code, instead={"verify": script(f"print({answer!r})")})


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
def test_node_that_counts_wrongly(fails, patched, patch, code):
    impatience = be_impatient if code == "job-too-slow" else lambda _: None
    fails(6, code, instead=patched("playground", patch), after=(5, impatience))


def test_job_that_exits_1(fails, script, with_image):
    instead = with_image(" ".join(script("raise SystemExit(1)", "failing")))
    assert "exit code 1" in fails(4, "job-ended-otherwise", instead=instead)["why"]


def test_job_that_prints_no_quote(fails, with_image):
    fails(4, "no-quote", instead=with_image(f"{sys.executable} -c pass"))


def test_quote_of_another_enclave(fails, with_image):
    program = f"{sys.executable} -m confcom.sample_workload --enclave impostor"
    assert " authentic-not-authorised " in fails(5, "verdict-differs", instead=with_image(program))["what"]
