"""Fuzzing led by coverage: one target of `fuzz.parsers` under atheris, in a process of its own.

    python -m fuzz.guided TARGET --seconds 30 --corpus DIR --findings DIR
    python -m fuzz.guided TARGET --input FILE

The first form needs atheris, and prints what libFuzzer prints. The second runs one input, without atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, Final

NAMES: Final = ("quote", "certification", "tcb-documents", "crl", "ratls-certificate", "policy-file")
"""The targets, as `fuzz.parsers` names them. That module is imported late: atheris changes code during its import."""
INSTRUMENTED: Final = ["confcom", "tomllib", "fuzz.parsers"]
"""Modules whose branches lead the fuzzer. tomllib is Python too, and reads policy files."""
INPUT_SECONDS: Final = 20
"""Time limit of one input. The slowest seed takes 30 ms; a machine that does something else makes this tenfold."""
MEMORY_MIB: Final = 1024
"""Limit of the process's memory. A target needs about 80 MiB."""
MAX_SHOWN: Final = 2_000
"""Characters of a finding's traceback that are printed."""
SHARE_OF_BYTES: Final = 0.4
"""Share of mutations that libFuzzer makes; the others keep the format's structure."""
SHARE_OF_SEEDS: Final = 0.5
"""Share of our mutations that begin with a good input. libFuzzer drops those that reach no other branch of Python, and
most of a certificate and of a revocation list is read by code that it does not see."""
_STATISTIC: Final = re.compile(r"^stat::(\w+): +(\d+)$", re.MULTILINE)
_DONE: Final = re.compile(r"^Done \d+ runs", re.MULTILINE)
"""What libFuzzer prints at the end of its time."""
_INPUT: Final = re.compile(r"^(?:input:|.*Test unit written to) (\S+)", re.MULTILINE)
_COVERAGE: Final = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run under atheris gave."""

    target: str
    inputs: int
    coverage: str
    """Edges, features and the size of the corpus, in libFuzzer's words."""
    memory_mib: int
    finding: str
    """The end of what the process printed, and the file with the input; empty if nothing was found."""

    def __str__(self) -> str:
        line = f"{self.target}: {self.inputs:,} inputs, {self.coverage}, {self.memory_mib} MiB at most"
        return f"{line}\n{self.finding}" if self.finding else f"{line}; nothing is wrong"


def is_available() -> bool:
    """Return whether atheris is installed: it exists for CPython 3.11 on x86-64 Linux."""
    return find_spec("atheris") is not None


def run_target(name: str, seconds: int, seed: int, corpus: Path | None, findings: Path) -> Outcome:
    """Fuzz one target in a process of its own; `corpus` keeps inputs of interest for the next run."""
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="confcom-fuzz-") as temporary:
        kept = Path(temporary) / "corpus" if corpus is None else corpus / name
        kept.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzz.guided", name, "--seconds", str(seconds), "--seed", str(seed)]
        command += ["--corpus", str(kept), "--findings", str(findings)]
        # atheris ends its process without the removal of temporary folders.
        environ = {**os.environ, "TMPDIR": temporary}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, check=False)
        log = done.stdout.decode(errors="replace")
        # At the end of a slow process libFuzzer's alarm may still ring and change the exit code.
        is_done = _DONE.search(log) is not None
        if corpus is not None and is_done:
            _minimise(name, kept)
    statistics = dict(_STATISTIC.findall(log))
    coverage = _COVERAGE.findall(log)
    edges = "{} edges, {} features, corpus of {} ({})".format(*coverage[-1]) if coverage else "no coverage"
    finding = "" if is_done else f"WRONG: {_end_of(log)}"
    inputs = int(statistics.get("number_of_executed_units", 0))
    return Outcome(name, inputs, edges, int(statistics.get("peak_rss_mb", 0)), finding)


def _minimise(name: str, corpus: Path) -> None:
    """Keep of a corpus only what covers something that no smaller input covers."""
    with tempfile.TemporaryDirectory(prefix="confcom-fuzz-") as temporary:
        command = [sys.executable, "-m", "fuzz.guided", name, "--merge-into", temporary, "--corpus", str(corpus)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        needed = {file.name: file.read_bytes() for file in Path(temporary).iterdir()}
    if not needed:
        return
    for file in corpus.iterdir():
        file.unlink()
    for file_name, data in needed.items():
        (corpus / file_name).write_bytes(data)


def _end_of(log: str) -> str:
    """Return the traceback or libFuzzer's error, and where the input is."""
    begins = [at for mark in ("Uncaught Python exception", "ERROR: libFuzzer") if (at := log.find(mark)) >= 0]
    text = log[min(begins) :] if begins else log[-MAX_SHOWN:]
    files = _INPUT.findall(log)[:1]
    shown = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]}\n...\n{text[-MAX_SHOWN // 2 :]}"
    return "\n".join([shown.strip(), *(f"  input: {file}" for file in files)])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.guided", description="one target under atheris")
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--input", type=Path, help="run this input alone, without atheris")
    parser.add_argument("--seconds", type=int, default=30, help="time to fuzz (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="other mutations (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of inputs (default: %(default)s)")
    parser.add_argument("--findings", type=Path, default=Path(), help="folder for what breaks (default: %(default)s)")
    parser.add_argument("--merge-into", type=Path, help="write the needed part of the corpus here, and fuzz nothing")
    asked = parser.parse_args(arguments)
    if asked.input is not None:
        _new_target(asked.target).check(asked.input.read_bytes())
        print("nothing is wrong")
        return 0
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = _new_target(asked.target)
    with tempfile.TemporaryDirectory(prefix="confcom-fuzz-") as temporary:
        flags = [f"-max_len={target.max_size}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}"]
        flags += [f"-seed={asked.seed}", f"-artifact_prefix={asked.findings}/{asked.target}-", "-print_final_stats=1"]
        if target.words:
            words = Path(temporary) / "words"
            words.write_text("".join(f'"{_quoted(word)}"\n' for word in target.words))
            flags.append(f"-dict={words}")
        seeds = Path(temporary) / "seeds"
        seeds.mkdir()
        first: list[bytes] = list(target.seeds().values())
        for number, data in enumerate(first):
            (seeds / str(number)).write_bytes(data)
        if asked.merge_into is not None:
            flags += ["-merge=1", str(asked.merge_into)]
        else:
            flags.append(f"-max_total_time={asked.seconds}")

        def mutated(data: bytes, max_size: int, seed: int) -> bytes:
            random = Random(seed)
            if random.random() < SHARE_OF_BYTES:
                return bytes(atheris.Mutate(data, max_size))
            begin = random.choice(first) if random.random() < SHARE_OF_SEEDS else data
            return bytes(target.mutate(begin, random)[:max_size])

        def checked(data: bytes) -> None:
            try:
                target.check(data)
            except BaseException:
                # libFuzzer writes it too, but its alarm may end a slow process before.
                file = asked.findings / f"{asked.target}-{hashlib.sha256(data).hexdigest()[:16]}"
                file.write_bytes(data)
                print(f"input: {file}", flush=True)
                raise

        atheris.Setup([sys.argv[0], *flags, str(asked.corpus), str(seeds)], checked, custom_mutator=mutated)
        atheris.Fuzz()  # ends the process
    return 0


def _new_target(name: str) -> Any:  # noqa: ANN401 # a Target, whose module is imported only now
    parsers = importlib.import_module("fuzz.parsers")
    return parsers.TARGETS[name](importlib.import_module("fuzz.evidence").SimulatedEvidence.create())


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
