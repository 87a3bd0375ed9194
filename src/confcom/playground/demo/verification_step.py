"""Step 5: a relying party verifies the quote with public files only."""

from __future__ import annotations

from typing import Any

from confcom.errors import ExitCode
from confcom.playground.demo.commands import StepError
from confcom.playground.demo.context import DemoContext, Notes

REPORT_DATA_OFFSET = 48 + 320
"""The offset of the report data in a quote: after the header (48 bytes) and 320 bytes of the report body."""


CHANGE_COMMAND = (
    'python -c \'import sys; q = bytearray(open(sys.argv[1], "rb").read()); '
    f"q[{REPORT_DATA_OFFSET}] ^= 1; "
    'open(sys.argv[2], "wb").write(q)\' {folder}/q.bin {folder}/changed.bin'
)


def verification(context: DemoContext, notes: Notes) -> None:
    """Step 5: verify the quote; check that a changed byte, Intel's root and a replay are refused."""
    exported = ("simulation", "export", "--state-dir", str(context.layout.platform), str(context.trust))
    context.run(notes, *exported)
    policy = ("--mrenclave", _expected_mrenclave(context, notes), "--report-data", context.challenge.hex())

    verdict = _verify(context, notes, context.quote.name, ExitCode.OK, *policy, "--allow-simulated")
    if verdict.get("platform") != "simulated":
        raise StepError(
            f"the quote was taken for {verdict.get('platform')}: simulated must never pass for genuine",
            error_code="simulated-taken-for-genuine",
        )
    notes.say("verified by dcap-qvl under the simulated root; marked as SIMULATED")
    notes.data["verified"] = verdict

    refused = _verify(context, notes, context.quote.name, ExitCode.NOT_AUTHORISED, *policy)
    notes.say(f"without --allow-simulated it is {refused['kind']}: simulated never passes for genuine")

    notes.add_command(context.commands.abbreviate(CHANGE_COMMAND.format(folder=context.folder)))
    changed = bytearray(context.quote.read_bytes())
    changed[REPORT_DATA_OFFSET] ^= 1
    (context.folder / "changed.bin").write_bytes(changed)
    refused = _verify(context, notes, "changed.bin", ExitCode.NOT_AUTHENTIC, *policy, "--allow-simulated")
    notes.say(f"one bit of its report data changed: {refused['kind']}")
    notes.data["changed_byte"] = refused["kind"]

    refused = _verify(
        context, notes, context.quote.name, ExitCode.NOT_AUTHENTIC, *policy, "--allow-simulated", root="intel"
    )
    notes.say(f"under Intel's root: {refused['kind']}")
    notes.data["intel_root"] = refused["kind"]

    replayed = ("--mrenclave", policy[1], "--report-data", context.random(len(context.challenge)).hex())
    refused = _verify(context, notes, context.quote.name, ExitCode.NOT_AUTHORISED, *replayed, "--allow-simulated")
    notes.say(f"replayed against another challenge: {refused['kind']}")
    notes.data["replayed"] = refused["kind"]


def _expected_mrenclave(context: DemoContext, notes: Notes) -> str:
    """Return the MRENCLAVE that the workload's builder published; the relying party does not ask the workload."""
    published = context.commands.run_module("confcom.sample_workload", "--print-identity")
    notes.add_command(published.shown)
    identity = published.json()
    notes.say("the workload's builder published its MRENCLAVE; the workload itself is not asked")
    notes.define(context.commands, "MRENCLAVE", str(identity["mr_enclave"]))
    notes.data["expected_mrenclave"] = identity["mr_enclave"]
    return str(identity["mr_enclave"])


def _verify(
    context: DemoContext, notes: Notes, quote: str, expected: ExitCode, *policy: str, root: str | None = None
) -> dict[str, Any]:
    trusted = root or str(context.trust / "root.pem")
    arguments = ("--root", trusted, "--collateral", str(context.trust / "collateral"), *policy)
    quote_path = str(context.folder / quote)
    result = context.commands.run("verify", quote_path, *arguments, "--output", "json", accept=tuple(_VERDICTS))
    notes.add_command(context.commands.shown("verify", quote_path, *arguments))
    verdict = result.json()
    if result.exit_code != expected:
        raise StepError(
            f"`confcom verify {quote}` said {verdict.get('kind')} where {_VERDICTS[expected]} was due",
            error_code="verdict-differs",
            why=_failed_checks(verdict),
            remedy=f"run it by hand: {context.commands.shown('verify', quote_path, *arguments)}",
        )
    return verdict


_VERDICTS = {
    ExitCode.OK: "verified",
    ExitCode.NOT_AUTHORISED: "authentic-not-authorised",
    ExitCode.NOT_AUTHENTIC: "not-authentic",
    ExitCode.UNUSABLE: "unusable",
}


def _failed_checks(verdict: dict[str, Any]) -> str:
    failed = (check for check in verdict.get("checks", ()) if check.get("status") == "failed")
    return "; ".join(f"{check['name']}: {check['why']}" for check in failed)
