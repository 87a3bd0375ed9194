"""The same target under atheris, which looks for inputs that run code that no input ran before.

atheris is not one of the project's locked packages: docs/how-to/fuzz.md says how to run this.
"""

from __future__ import annotations

import sys
from random import Random
from typing import Final

from confcom.errors import ConfcomError, ExitCode, UnavailableError

ENDINGS_AND_CUTS: Final = 2
"""Bytes before what is sent, as atheris sees an input: how the client leaves, and where its first piece ends."""


class WrongBehaviourError(ConfcomError):
    """What atheris reports, and keeps the input of."""


def main(arguments: list[str]) -> None:
    """Run until atheris ends; its own flags follow, such as -runs=100000 or -max_total_time=60.

    Raises:
        UnavailableError: atheris is not installed.
    """
    try:
        import atheris  # noqa: PLC0415 # only here, and optional
    except ImportError as error:
        raise UnavailableError(
            "atheris is not installed",
            why=str(error),
            remedy="see docs/how-to/fuzz.md: it needs an environment of its own",
        ) from error
    with atheris.instrument_imports(include=["confcom.aesm", "confcom.quote_helper.quoting.service"]):
        from fuzz.inputs import Ending, Input  # noqa: PLC0415
        from fuzz.mutations import Generator  # noqa: PLC0415
        from fuzz.oracle import Finding  # noqa: PLC0415
        from fuzz.session_target import SessionTarget  # noqa: PLC0415
    endings = tuple(Ending)

    def as_input(data: bytes) -> Input:
        how, cut, sent = data[:1], data[1:ENDINGS_AND_CUTS], data[ENDINGS_AND_CUTS:]
        at = int.from_bytes(cut, "little")
        ending = endings[int.from_bytes(how, "little") % len(endings)]
        return Input(tuple(filter(None, (sent[:at], sent[at:]))), ending)

    # libFuzzer ends the process by itself, so nothing here may have to be put away afterwards.
    with SessionTarget() as target:
        generator = Generator(target.corpus, seed=0)

        def one_input(data: bytes) -> None:
            sent = as_input(data)
            (result,) = target.run([sent])
            if isinstance(result, Finding):
                raise WrongBehaviourError(result.rule, why=result.detail, remedy=f"--replay {sent}")

        def mutate(data: bytes, max_size: int, seed: int) -> bytes:
            """Half of the time bytes as libFuzzer likes, else a request of the generator's."""
            if Random(seed).random() < 0.5:
                return bytes(atheris.Mutate(data, max_size))
            return (data[:ENDINGS_AND_CUTS].ljust(ENDINGS_AND_CUTS, b"\0") + generator.make(seed).data)[:max_size]

        atheris.Setup(arguments, one_input, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    try:
        main(sys.argv)
    except UnavailableError as unavailable:
        print(unavailable, file=sys.stderr)
        sys.exit(ExitCode.UNAVAILABLE)
