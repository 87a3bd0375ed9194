"""Settings of a daemon: argparse flags, each with an environment variable as its fallback.

There is no configuration file: flags, chart values and variables map one to one, and `--help` is the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from confcom.daemon.logs import LEVELS, LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.errors import SettingsError

ENVIRONMENT_PREFIX = "CONFCOM_"
"""The prefix of every fallback's name, so that `env | grep CONFCOM_` shows all variables that influence a daemon."""

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Flag:
    """One declared flag, as parsing, shell completion and the reference use it."""

    name: str
    """With its dashes."""
    text: str
    variable: str
    convert: Callable[[str], Any]
    default: Any
    shown_default: str
    metavar: str = ""
    """The placeholder of its value in `--help`; empty for a switch."""
    words: tuple[str, ...] = ()  # all values, if they are a closed set

    @property
    def destination(self) -> str:
        """The attribute of the parsed namespace."""
        return self.name.removeprefix("--").replace("-", "_")


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises SettingsError where argparse would exit the process."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(
            f"{self.prog}: {message}", error_code="command-line-refused", remedy=f"see {self.prog} --help"
        )


class SettingsParser:
    """A parser of a daemon's flags, which reads them from a command line, the environment, or their defaults."""

    def __init__(self, prog: str, *, description: str, environ: Mapping[str, str], epilog: str = "") -> None:
        self._parser = _Parser(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._environ = environ
        self.flags: list[Flag] = []

    def add(
        self,
        name: str,
        *,
        convert: Callable[[str], T],
        default: T | None,
        metavar: str,
        text: str,
        shown_default: str = "",
        variable: str = "",
        words: tuple[str, ...] = (),
    ) -> None:
        """Declare `name VALUE`; `convert` returns the value, or raises ValueError with the reason.

        Its variable is by default `CONFCOM_` and the flag's name in capitals. `shown_default` is for `--help`, where
        `str(default)` is not suitable.
        """
        shown = shown_default or ("none" if default is None else str(default))
        flag = Flag(name, text, variable or _variable(name), convert, default, shown, metavar, words)
        self.flags.append(flag)
        self._parser.add_argument(
            name,
            dest=flag.destination,
            default=None,
            type=_argparse_type(convert),
            metavar=metavar,
            help=_help(f"{text} (default: {shown}; {flag.variable})"),
        )

    def add_switch(self, name: str, *, text: str, default: bool = False) -> None:
        """Declare `name` and `--no-name`. The variable accepts true/false, yes/no, on/off, 1/0."""
        shown = "on" if default else "off"
        flag = Flag(name, text, _variable(name), parse_switch, default, shown)
        self.flags.append(flag)
        self._parser.add_argument(
            name,
            dest=flag.destination,
            default=None,
            action=argparse.BooleanOptionalAction,
            help=_help(f"{text} (default: {shown}; {flag.variable})"),
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the settings: a flag overrides its variable, a variable the default; an empty variable is ignored.

        Raises:
            SettingsError: a flag is unknown, or `convert` refuses the value of a flag or a variable.
        """
        values = self._parser.parse_args(arguments)
        for flag in self.flags:
            if getattr(values, flag.destination) is None:
                setattr(values, flag.destination, self._fallback(flag))
        return values

    def format_help(self) -> str:
        """Return the text that `--help` prints."""
        return self._parser.format_help()

    def _fallback(self, flag: Flag) -> object:
        text = self._environ.get(flag.variable, "")
        if not text:
            return flag.default
        try:
            return flag.convert(text)
        except ValueError as error:
            raise SettingsError(
                f"{self._parser.prog}: the environment variable {flag.variable} is {text!r}",
                error_code="variable-refused",
                why=str(error),
                remedy=f"correct or unset {flag.variable}, or give {flag.name}",
            ) from error


def parse_switch(text: str) -> bool:
    """Return the value of a switch, written as true/false, yes/no, on/off or 1/0, in any case."""
    try:
        return _WORDS[text.strip().lower()]
    except KeyError:
        raise ValueError("it must be true or false") from None


def parse_path(text: str) -> Path:
    """Return a path; an empty text is refused, since it would mean the current directory."""
    if not text:
        raise ValueError("a path cannot be empty")
    if "\0" in text:
        raise ValueError("a path cannot contain a zero byte")
    return Path(text)


def integer_between(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a converter for whole numbers from `lowest` to `highest`, both included."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"it must be a whole number, not {text!r}") from None
        if not lowest <= value <= highest:
            raise ValueError(f"it must be from {lowest} to {highest}, not {value}")
        return value

    return convert


def one_of(*words: str) -> Callable[[str], str]:
    """Return a converter for a closed set of words, in any case."""

    def convert(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError(f"it must be one of {', '.join(words)}, not {text!r}")
        return word

    return convert


def member_of(kind: type[E]) -> Callable[[str], E]:
    """Return a converter for the values of a string enum, in any case."""
    choose = one_of(*kind)

    def convert(text: str) -> E:
        return kind(choose(text))

    return convert


def add_common_flags(parser: SettingsParser) -> None:
    """Declare the flags of every daemon: `--probe-address`, `--log-level`, `--log-format`."""
    parser.add(
        "--probe-address",
        convert=ProbeAddress.parse,
        default=None,
        metavar="ADDR",
        text="address of /livez, /readyz and /metrics: HOST:PORT or unix:PATH",
    )
    parser.add(
        "--log-level",
        convert=one_of(*LEVELS),
        default="info",
        metavar="LEVEL",
        text=f"one of {', '.join(LEVELS)}",
        words=tuple(LEVELS),
    )
    parser.add(
        "--log-format",
        convert=member_of(LogFormat),
        default=LogFormat.AUTO,
        metavar="FORMAT",
        text="auto (text on a terminal, else json), text, or json",
        words=tuple(LogFormat),
    )


def _argparse_type(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert_or_explain(text: str) -> object:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert_or_explain


def _variable(flag: str) -> str:
    return ENVIRONMENT_PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def _help(text: str) -> str:
    return text.replace("%", "%%")
