"""Reads policies in TOML, whose keys are the names of the policies' arguments, and lists of platforms."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, Final, Literal, overload

from confcom.errors import SettingsError, WrongTypeError, WrongValueError
from confcom.sgx.report import report_data
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import path_argument
from confcom.verify.files import input_name, read_input
from confcom.verify.policy import platform_id
from confcom.verify.sgx_policy import Identity, SgxPolicy
from confcom.verify.tdx_policy import TdImage, TdxPolicy

MAX_POLICY_FILE_SIZE: Final = 4 * 1024 * 1024
"""Largest policy file in bytes, enough for 40,000 platforms with a comment each."""
DURATIONS: Final = ("platform_grace_period", "qe_grace_period", "max_collateral_age", "clock_leeway")
DURATION_PATTERN: Final = r"([0-9]{1,6})([dhm])"
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}
_TEES: Final = {tee.name.lower(): tee for tee in TeeType}
_POLICIES: Final[dict[TeeType, tuple[type[SgxPolicy | TdxPolicy], str, type[Identity | TdImage]]]] = {
    TeeType.SGX: (SgxPolicy, "identities", Identity),
    TeeType.TDX: (TdxPolicy, "images", TdImage),
}
"""The policy, its argument that is an array of tables, and the class that each table describes."""


class PolicyFileError(SettingsError):
    """A policy file is not TOML, is of another TEE, or has an unknown name; or a file of platforms has a wrong line."""

    error_code = "policy-file"


@overload
def read_policy(
    path: str | os.PathLike[str], challenge: bytes | None = None, *, tee: Literal[TeeType.SGX] = TeeType.SGX
) -> SgxPolicy: ...


@overload
def read_policy(
    path: str | os.PathLike[str], challenge: bytes | None = None, *, tee: Literal[TeeType.TDX]
) -> TdxPolicy: ...


@overload
def read_policy(
    path: str | os.PathLike[str], challenge: bytes | None = None, *, tee: TeeType | None
) -> SgxPolicy | TdxPolicy: ...


def read_policy(
    path: str | os.PathLike[str], challenge: bytes | None = None, *, tee: TeeType | None = TeeType.SGX
) -> SgxPolicy | TdxPolicy:
    """Read a policy from a TOML file; if a challenge is given, the policy also demands it as report data.

    Args:
        path: the file, or `-` for standard input; `confcom policy from-quote` writes such a file, and
            policy.schema.json beside this module describes its form.
        challenge: 1 to 64 bytes that the enclave or TD was asked to put into its report.
        tee: the TEE of the policy, SGX or TDX, or None for either. The file says `tee = "tdx"`, or nothing for SGX.

    Returns:
        An SgxPolicy, or a TdxPolicy if the file is of TDX.

    Raises:
        UnreadableInputError: the file cannot be read.
        SettingsError: the file is not TOML, or has an unknown name, or a value that no quote could have, or is a policy
            of the other TEE.
    """
    import tomllib  # noqa: PLC0415 # a service whose policy is written in Python needs no TOML

    path = path_argument("the policy file", path)
    name = input_name(path)
    try:
        document = tomllib.loads(read_input(path, MAX_POLICY_FILE_SIZE).decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise PolicyFileError(
            f"{name} is not TOML", why=str(error), remedy="`confcom policy from-quote` writes one to begin with"
        ) from error
    try:
        policy = _policy(document, tee)
    except SettingsError as error:
        error.what = f"{name}: {error.what}"
        raise
    return policy if challenge is None else replace(policy, report_data=report_data(challenge))


def read_platforms(path: str | os.PathLike[str]) -> frozenset[bytes]:
    """Read the accepted machines from a text file, for a policy's `platforms`.

    Args:
        path: the file, or `-` for standard input, of at most 4 MiB. Each line has a PPID, a platform instance id (32
            hexadecimal digits each) or the SHA-256 of one (64 digits); text after `#` is a comment. Lines may be empty.

    Returns:
        What the lines have, 16 or 32 bytes each. The result of a file without platforms is empty: no machine.

    Raises:
        UnreadableInputError: the file cannot be read.
        PolicyFileError: the file is not text, or a line has something else.
    """
    path = path_argument("the file of platforms", path)
    name, platforms = input_name(path), set()
    for number, line in enumerate(read_input(path, MAX_POLICY_FILE_SIZE).splitlines(), 1):
        try:
            if text := line.decode().partition("#")[0].strip():
                platforms.add(platform_id(text))
        except (UnicodeDecodeError, SettingsError) as error:
            raise PolicyFileError(
                f"line {number} of {name} is not a platform",
                why=str(error),
                remedy="write 32 or 64 hexadecimal digits on each line; `confcom inspect` shows a quote's ids",
            ) from error
    return frozenset(platforms)


def _policy(document: dict[str, Any], required: TeeType | None) -> SgxPolicy | TdxPolicy:
    demands = dict(document)
    tee = _tee(demands.pop("tee", TeeType.SGX.name.lower()), required)
    policy, name, alternative = _POLICIES[tee]
    _require_known(demands, policy, f"a policy of {tee.name}")
    demands |= {period: _duration(period, demands[period]) for period in DURATIONS if period in demands}
    if name in demands:
        tables = demands[name]
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise WrongTypeError(name, f"tables: [[{name}]]", tables)
        for table in tables:
            _require_known(table, alternative, f"one of the {name}")
        demands[name] = [alternative(**table) for table in tables]
    return policy(**demands)


def _tee(found: object, required: TeeType | None) -> TeeType:
    known = " or ".join(f'"{name}"' for name in _TEES)
    if not isinstance(found, str):
        raise WrongTypeError("tee", known, found)
    if found not in _TEES:
        raise WrongValueError(f"tee is {found!r}, which is no TEE", remedy=f"write {known}")
    tee = _TEES[found]
    if required is not None and required is not tee:
        name = required.name
        raise PolicyFileError(
            f"it is a policy of {tee.name}, and one of {name} is asked for",
            error_code="policy-tee",
            why=f'the file has tee = "{found}"' if tee is TeeType.TDX else "a file without `tee` is a policy of SGX",
            remedy=f'read it with tee=TeeType.{tee.name}, or write tee = "{name.lower()}" if it is of {name}',
        )
    return tee


def _require_known(names: Mapping[str, Any], kind: type[SgxPolicy | TdxPolicy | Identity | TdImage], what: str) -> None:
    known = {field.name for field in fields(kind)} - {"report_data"}
    if unknown := sorted(names.keys() - known):
        raise PolicyFileError(
            f"{what} has no entry {unknown[0]}",
            error_code="policy-name-unknown",
            why="report_data is of one challenge, and belongs to the call" if "report_data" in unknown else "",
            remedy=f"write one of: {', '.join(sorted(known))}",
        )


def _duration(name: str, value: object) -> timedelta:
    match = re.fullmatch(DURATION_PATTERN, value) if isinstance(value, str) else None
    if match is None:
        raise WrongValueError(f"{name} is not a duration", remedy='write days, hours or minutes: "30d", "12h" or "90m"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
