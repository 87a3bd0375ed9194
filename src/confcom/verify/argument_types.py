"""Type checks for arguments of the public interface, so that a wrong type is reported at the call that passed it."""

import contextlib
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from confcom.errors import WrongTypeError, WrongValueError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

GivenT_contra = TypeVar("GivenT_contra", contravariant=True)
KeptT_co = TypeVar("KeptT_co", covariant=True)

MAX_CLOCK_LEEWAY: Final = timedelta(minutes=5)
"""The greatest leeway for clocks. Kerberos recommends the same (RFC 4120, 8.2); a clock that NTP sets needs less."""


class Argument(Protocol[GivenT_contra, KeptT_co]):
    """The type of a dataclass's field that is given as one type, and kept as another."""

    def __get__(self, instance: object, owner: type) -> KeptT_co: ...

    def __set__(self, instance: object, value: GivenT_contra) -> None: ...


Binary: TypeAlias = Argument[bytes | str | None, bytes | None]


def argument(default: object, convert: Callable[[str, object], object]) -> Any:  # noqa: ANN401 # a field of any type
    """Return a dataclass's field. If it is given, `check_arguments` calls `convert` with the field's name and value."""
    return field(default=default, metadata={"convert": convert})


def sized(*sizes: int) -> Any:  # noqa: ANN401 # as above
    return argument(None, lambda name, value: binary(name, value, *sizes))


def bounded(most: int) -> Any:  # noqa: ANN401 # as above
    return argument(None, lambda name, value: number(name, value, most))


def set_of(convert: Callable[[object], object], default: object) -> Any:  # noqa: ANN401 # as above
    return argument(default, lambda name, values: frozenset(map(convert, collection(name, values))))


def tuple_of(kind: type) -> Any:  # noqa: ANN401 # as above
    def checked(name: str, values: object) -> tuple[object, ...]:
        for value in (elements := collection(name, values)):
            if not isinstance(value, kind):
                raise WrongTypeError(f"each of the {name}", f"a {kind.__name__}", value)
        return elements

    return argument(None, checked)


def check_arguments(instance: "DataclassInstance") -> None:
    """Check and convert the fields that `argument` made. `__post_init__` calls this function."""
    for one in fields(instance):
        if (value := getattr(instance, one.name)) is not one.default:
            object.__setattr__(instance, one.name, one.metadata["convert"](one.name, value))


def collection(name: str, values: object) -> tuple[object, ...]:
    """Return the elements of an argument, which must be no text."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise WrongTypeError(name, "a set, list or tuple", values)
    return tuple(values)


def binary(name: str, value: object, *sizes: int) -> bytes | None:
    """Return bytes or hexadecimal text as bytes, whose number must be one of `sizes`; None stays None."""
    if value is None:
        return None
    expected = " or ".join(f"{size} bytes or {size * 2} hexadecimal digits" for size in sizes)
    remedy = f"pass {expected}; `confcom inspect` shows what a quote carries"
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value)
        except ValueError as error:
            raise WrongValueError(f"{name} is text that is not hexadecimal", why=str(error), remedy=remedy) from error
    if not isinstance(value, bytes):
        raise WrongTypeError(name, expected, value)
    if len(value) not in sizes:
        raise WrongValueError(f"{name} must be {expected}, not {len(value)} bytes", remedy=remedy)
    return value


def number(name: str, value: object, most: int) -> int | None:
    """Return the value if it is an integer (no bool) from 0 to `most`; None stays None."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongTypeError(name, f"an integer between 0 and {most}", value)
    if not 0 <= value <= most:
        raise WrongValueError(
            f"{name} must be between 0 and {most}, not {value}",
            why=f"the field has {most.bit_length()} bits",
            remedy=f"pass a number from 0 to {most}",
        )
    return value


def boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongTypeError(name, "True or False", value)
    return value


def duration(name: str, value: object) -> timedelta:
    if not isinstance(value, timedelta):
        raise WrongTypeError(name, "a timedelta, such as timedelta(days=30)", value)
    if value < timedelta(0):
        raise WrongValueError(f"{name} must not be negative, and is {value}", remedy="pass zero or more")
    return value


def clock_leeway(name: str, value: object) -> timedelta:
    leeway = duration(name, value)
    if leeway > MAX_CLOCK_LEEWAY:
        raise WrongValueError(
            f"{name} must not be more than {MAX_CLOCK_LEEWAY}, and is {leeway}",
            why="a clock that is further off is wrong for other certificates, too",
            remedy="set the clock, for example by NTP",
        )
    return leeway


def time_limit(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongTypeError("the time limit", "a number of seconds", value)
    if not 0 < value < math.inf:
        raise WrongValueError(f"a time limit of {value} s cannot be kept", remedy="pass a positive number")
    return value


def path_argument(name: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise WrongTypeError(name, "a path: text, or os.PathLike", value)
    return Path(os.fsdecode(value))


def require_instant(time: datetime) -> datetime:
    """Return the time in UTC; refuse times without a time zone, or before 1970, when Unix time began."""
    if not isinstance(time, datetime):
        raise WrongTypeError("the time", "a datetime with a time zone", time)
    with contextlib.suppress(OverflowError):
        if time.tzinfo is not None and time.timestamp() >= 0:
            return time.astimezone(UTC)
    raise WrongValueError(
        f"{time.isoformat()} is not an instant since 1970",
        why="certificates are valid between instants, not between wall-clock times",
        remedy="pass a time with its offset from UTC, such as 2026-11-24T12:00:00Z; in Python, datetime.now(UTC)",
    )
