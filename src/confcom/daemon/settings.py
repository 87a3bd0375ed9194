"""Settings of a daemon: one dataclass, whose fields carry their flag's help. The class defines the argparse parser.

Each flag has an environment variable as its fallback. There is no configuration file: flags, chart values
and variables map one to one, and `--help` is the reference.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from confcom.daemon.logs import LogLevel
from confcom.daemon.probe_server import ProbeAddress
from confcom.errors import SettingsError

ENVIRONMENT_PREFIX = "CONFCOM_"
"""The prefix of every variable, so that `env | grep CONFCOM_` shows all variables for a daemon."""

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Flag:
    field: str
    text: str
    convert: Callable[[str], Any]
    metavar: str
    """The placeholder of the value in `--help`; empty for a switch, whose flags are `--name` and `--no-name`."""
    default: Any
    shown_default: str
    variable: str

    @property
    def name(self) -> str:
        """The flag's name with its dashes."""
        return "--" + self.field.replace("_", "-")


def setting(
    default: T,
    text: str,
    convert: Callable[[str], T],
    metavar: str,
    *,
    shown: str = "",
    variable: str = "",
) -> T:
    """Return a dataclass field for the flag `--name VALUE`, where `name` is the field's name.

    `convert` returns the value, or raises ValueError with the reason. `shown` is the default's text in
    `--help` where `str(default)` is not suitable. `variable` is by default CONFCOM_ and the name in capitals.
    """

    def flag(name: str) -> Flag:
        told = shown or ("none" if default is None else str(default))
        named = variable or ENVIRONMENT_PREFIX + name.upper()
        return Flag(name, text, convert, metavar, default, told, named)

    made: T = field(default=default, metadata={_FLAG: flag})
    return made


def choice(default: E, text: str, metavar: str) -> E:
    return setting(default, text, member_of(type(default)), metavar)


def switch(text: str, *, default: bool = False) -> bool:
    """Return a field for `--name` and `--no-name`, whose variable accepts true/false, yes/no, on/off, 1/0."""
    return setting(default, text, parse_switch, "", shown="on" if default else "off")


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises SettingsError where argparse would exit the process."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(
            f"{self.prog}: {message}", error_code="command-line-refused", remedy=f"see {self.prog} --help"
        )


def parse_switch(text: str) -> bool:
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

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"it must be a whole number, not {text!r}") from None
        if not lowest <= value <= highest:
            raise ValueError(f"it must be from {lowest} to {highest}, not {value}")
        return value

    return convert


def member_of(kind: type[E]) -> Callable[[str], E]:

    def convert(text: str) -> E:
        try:
            return kind(text.strip().lower())
        except ValueError:
            raise ValueError(f"it must be one of {', '.join(kind)}, not {text!r}") from None

    return convert


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    probe_address: ProbeAddress | None = setting(
        None, "address of /livez, /readyz and /metrics: HOST:PORT or unix:PATH", ProbeAddress.parse, "ADDR"
    )
    log_level: LogLevel = choice(LogLevel.INFO, f"one of {', '.join(LogLevel)}", "LEVEL")


S = TypeVar("S", bound=DaemonSettings)


class SettingsParser(Generic[S]):
    """The argparse parser of a settings dataclass; settings that every daemon has are last in `--help`."""

    def __init__(
        self, kind: type[S], prog: str, *, description: str, environ: Mapping[str, str], epilog: str = ""
    ) -> None:
        self._kind = kind
        self._environ = environ
        self._parser = _Parser(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        common = {one.name for one in fields(DaemonSettings)}
        ordered = sorted(fields(kind), key=lambda one: one.name in common)
        self.flags: list[Flag] = [one.metadata[_FLAG](one.name) for one in ordered]
        for flag in self.flags:
            told = f"{flag.text} (default: {flag.shown_default}; {flag.variable})".replace("%", "%%")
            value = {"metavar": flag.metavar} if flag.metavar else {"action": argparse.BooleanOptionalAction}
            self._parser.add_argument(flag.name, dest=flag.field, default=None, help=told, **value)

    def parse(self, arguments: Sequence[str]) -> S:
        """Parse the settings: flags override variables, which override defaults. Empty variables are ignored."""
        values = vars(self._parser.parse_args(arguments))
        for flag in self.flags:
            values[flag.field] = self._value(flag, values[flag.field])
        return self._kind(**values)

    def _value(self, flag: Flag, given: object) -> object:
        if isinstance(given, str):
            try:
                return flag.convert(given)
            except ValueError as error:
                self._parser.error(f"argument {flag.name}: {error}")
        if given is not None:
            return given
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
