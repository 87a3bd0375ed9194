import dataclasses
import os
import signal
import sys

import pytest

from confcom.demo import story
from confcom.demo.container_runtime import SAMPLE_WORKLOAD, Image
from confcom.demo.job_file import example
from confcom.demo.ledger import DeviceLedger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATCHED_COMMAND = """
import sys
from confcom.cli.main import main
{patch}
sys.argv = ["confcom", {name!r}, *sys.argv[1:]]
main()
"""


@pytest.fixture
def fails(play):
    """Plays the demo, and expects that only step `number` fails, with this code; returns the error."""

    async def run(number, code, **options):
        report = await play(**options)
        assert not report.ok
        assert [step.ok for step in report.steps] == [True] * (len(report.steps) - 1) + [False]
        error = report.steps[-1].error
        assert (report.steps[-1].number, error["code"]) == (number, code)
        return error

    return run


@pytest.mark.parametrize("name", ["quote-helper", "device-plugin"])
async def test_a_daemon_is_killed(fails, name):
    async def kill(demo):
        process = demo.processes.daemons[name]
        process.send_signal(signal.SIGKILL)
        await process.wait()
        if name == "device-plugin":
            await demo.node.changes.until(lambda: not any(demo.node.ledger.allocatable().values()))

    assert name in (await fails(3, "process-ended", after=(2, kill)))["what"]


BROKEN = {
    "platform that cannot be made": ("simulation", "raise SystemExit('disk full')", 1, "command-failed", "disk full"),
    "plugin that ends at once": ("device-plugin", "raise SystemExit('no EPC')", 2, "process-ended", "no EPC"),
    "helper that is never ready": ("quote-helper", "import time; time.sleep(60)", 2, "not-ready-in-time", "missing"),
    "verifier that accepts all": ("verify", """print('{"kind": "verified"}')""", 5, "verdict-differs", ""),
    "command without JSON": ("simulation", "print('everything is fine')", 1, "output-not-json", "fine"),
    "command with a list": ("simulation", "print([])", 1, "output-not-json", "[]"),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
async def test_a_program_is_broken(fails, script, case):
    command, program, step, code, why = case
    patience = 5.0 if code == "not-ready-in-time" else 20.0
    error = await fails(step, code, instead={command: script(program)}, patience=patience)
    assert why in error["why"]


async def test_a_plugin_never_registers(fails, script, short_dir):
    lost = f'position = sys.argv.index("--device-plugin-dir") + 1\nsys.argv[position] = {str(short_dir)!r}'
    command = script(PATCHED_COMMAND.format(patch=lost, name="device-plugin"))
    await fails(2, "not-ready-in-time", instead={"device-plugin": command}, patience=1)


async def test_a_verifier_that_takes_simulated_for_genuine(fails, script):
    patch = """
import io, contextlib
real = main
def main():
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            real()
    finally:
        print(out.getvalue().replace('"platform": "simulated"', '"platform": "genuine"'))
"""
    command = script(PATCHED_COMMAND.format(patch=patch, name="verify"))
    await fails(5, "simulated-taken-for-genuine", instead={"verify": command})


@pytest.mark.parametrize(
    ("method", "answer", "code"),
    [("release", None, "not-ready-in-time"), ("fits", True, "job-not-pending")],
    ids=["EPC is not released", "the scheduler lets everything in"],
)
async def test_a_node_that_counts_wrongly(fails, monkeypatch, method, answer, code):
    async def break_it(demo):
        monkeypatch.setattr(DeviceLedger, method, lambda *_: answer)
        demo.processes = dataclasses.replace(demo.processes, ready_seconds=3.0)

    await fails(6, code, after=(5, break_it))


IMPOSTOR = ("-m", "confcom.sample_workload", "--enclave", "impostor")
JOBS = {
    "exits with 1": (("-c", "raise SystemExit(1)"), 4, "job-failed", "exit code 1"),
    "prints no quote": (("-c", "pass"), 4, "no-quote", ""),
    "is another enclave": (IMPOSTOR, 5, "verdict-differs", "authentic-not"),
}


@pytest.mark.parametrize("case", JOBS.values(), ids=JOBS)
async def test_a_job_fails(fails, case):
    argv, step, code, told = case
    image = Image((sys.executable, *argv), {"PATH": os.environ["PATH"]})
    error = await fails(step, code, images={SAMPLE_WORKLOAD: image})
    assert told in f"{error['what']} {error['why']}"


@pytest.fixture
def change(monkeypatch, tmp_path):
    def edit(*replacements):
        text = example("job.yaml").read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "job.yaml").write_text(text)
        monkeypatch.setattr(story, "example", lambda name: tmp_path / name if name == "job.yaml" else example(name))

    return edit


AMOUNT, IMAGE = "sgx_epc_mem_in_MiB: 10", f"image: {SAMPLE_WORKLOAD}"


async def test_a_changed_file_changes_the_run(play, change, monkeypatch):
    monkeypatch.setattr(story, "STEPS", dict(list(story.STEPS.items())[:4]))
    change((AMOUNT, "sgx_epc_mem_in_MiB: 25"), ('"' + "0" * 64 + '"', "c0ffee"), ("name: sgx-test", "name: mine"))
    report = await play()
    assert report.ok, report.steps[-1].error
    assert report.steps[2].data == {"challenge": "c0ffee", "allocated_mib": 25}
    assert {"enclave memory: 25 MiB", "challenge: 3 bytes"} <= set(report.steps[3].data["output"])


@pytest.mark.parametrize(
    ("replacement", "code"),
    [
        ((AMOUNT, "sgx_epc_mem_in_MiB: 163"), "job-pending"),
        ((IMAGE, "image: nginx:1"), "image-unknown"),
        ((IMAGE, f"{IMAGE}\n        tty: true"), "job-file-unusable"),
    ],
    ids=["too much", "image", "unknown field"],
)
async def test_a_file_that_cannot_run_ends_step_3(fails, change, replacement, code):
    change(replacement)
    assert (await fails(3, code))["do"] or code == "job-pending"
