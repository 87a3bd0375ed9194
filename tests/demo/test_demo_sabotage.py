"""Whatever is broken, the story ends at the step that broke, and says so."""

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


def fails_at(report, number):
    assert not report.ok
    assert [step.ok for step in report.steps] == [True] * (number - 1) + [False]
    error = report.steps[-1].error
    assert error["what"]
    return f"{error['what']} {error['why']}"


def kill(name):
    def act(context):
        process = context.processes.running[name].process
        process.send_signal(signal.SIGKILL)
        process.wait()

    return act


def after(number, act):
    return lambda reached, context: act(context) if reached == number else None


def test_undisturbed_it_holds(play):
    report = play()
    assert report.ok, report.steps[-1].error
    assert len(report.steps) == 6


def test_helper_killed_before_the_job(play):
    report = play(after_step=after(2, kill("quote-helper")))
    assert "exit code" in fails_at(report, 4)


def test_plugin_killed_before_the_job(play):
    report = play(after_step=after(2, kill("device-plugin")), patience=3)
    assert "sgx-test" in fails_at(report, 3)


def test_plugin_that_never_registers(play, script, short_folder):
    short_folder.mkdir()
    lost = f'position = sys.argv.index("--device-plugin-dir") + 1\nsys.argv[position] = {str(short_folder)!r}'
    plugin = script(PATCHED_COMMAND.format(patch=lost, name="device-plugin"))
    report = play(instead={"device-plugin": plugin}, patience=3)
    assert "device plugin" in fails_at(report, 2)


def test_plugin_that_ends_at_once(play, script):
    report = play(instead={"device-plugin": script("raise SystemExit('no EPC here')")})
    message = fails_at(report, 2)
    assert "device-plugin ended with exit code 1" in message
    assert "no EPC here" in message


def test_helper_that_is_never_ready(play, script):
    report = play(instead={"quote-helper": script("import time; time.sleep(60)")}, patience=2)
    assert "quote helper" in fails_at(report, 2)


def test_platform_that_cannot_be_made(play, script):
    report = play(instead={"simulation": script("raise SystemExit('disk full')")})
    assert "disk full" in fails_at(report, 1)


@pytest.mark.parametrize("offset", [20, 48 + 64, 48 + 320, 500, 700], ids=["header", "mrenclave", "data", "key", "qe"])
def test_quote_with_a_flipped_byte(play, script, offset):
    image = f"{SAMPLE}={' '.join(script(FLIPPED.format(offset=offset), 'flip'))}"
    report = play(instead={"playground": script(WITH_IMAGE.format(image=image))})
    assert "not-authentic where verified was due" in fails_at(report, 5)


def test_wrong_root_trusted(play, script):
    report = play(instead={"simulation": script(WRONG_ROOT)})
    assert "where verified was due" in fails_at(report, 5)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ('{"kind": "verified", "platform": "simulated"}', "verified where authentic-not-authorised was due"),
        ('{"kind": "verified", "platform": "genuine"}', "simulated must never pass for genuine"),
        ("everything is fine", "printed no JSON"),
    ],
)
def test_verifier_that_accepts_everything(play, script, answer, complaint):
    report = play(instead={"verify": script(f"print({answer!r})")})
    assert complaint in fails_at(report, 5)


def test_epc_that_is_not_freed(play, script):
    patch = "from confcom.playground.kubelet import ledger; ledger.DeviceLedger.release = lambda *arguments: None"
    report = play(instead={"playground": script(PATCHED_COMMAND.format(patch=patch, name="playground"))}, patience=3)
    assert "sgx-holding" in fails_at(report, 6)


def test_scheduler_that_lets_everything_in(play, script):
    patch = "from confcom.playground import node; node.unschedulable = lambda *arguments: ''"
    report = play(instead={"playground": script(PATCHED_COMMAND.format(patch=patch, name="playground"))}, patience=3)
    assert "sgx-large" in fails_at(report, 6)


def test_job_that_exits_1(play, script):
    image = f"{SAMPLE}={' '.join(script('raise SystemExit(1)', 'failing'))}"
    report = play(instead={"playground": script(WITH_IMAGE.format(image=image))})
    message = fails_at(report, 4)
    assert "ended Failed where Succeeded was due" in message
    assert "exit code 1" in message


def test_job_that_prints_no_quote(play, script):
    image = f"{SAMPLE}={sys.executable} -c pass"
    report = play(instead={"playground": script(WITH_IMAGE.format(image=image))})
    assert "printed no quote" in fails_at(report, 4)


def test_quote_of_another_enclave(play, script):
    image = f"{SAMPLE}={sys.executable} -m confcom.sample_workload --enclave impostor"
    report = play(instead={"playground": script(WITH_IMAGE.format(image=image))})
    assert "authentic-not-authorised where verified was due" in fails_at(report, 5)


def test_node_that_dies_in_the_middle(play):
    report = play(after_step=after(4, kill("node")))
    message = fails_at(report, 6)
    assert "playground" in message or "node" in message


def test_nothing_of_the_machine_is_touched(play):
    def machine():
        devices = sorted(entry.name for entry in Path("/dev").iterdir())
        return devices, Path("/run/aesmd").exists(), Path("/proc/self/mounts").read_text()

    before = machine()
    assert play().ok
    assert machine() == before
