"""Reads policies in TOML, whose keys are the names of SgxPolicy's arguments, and lists of platforms."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from confcom.errors import SettingsError, WrongTypeError, WrongValueError
from confcom.verify.argument_types import path_argument
from confcom.verify.files import input_name, read_input
from confcom.verify.policy import platform_id
from confcom.verify.sgx_policy import Identity, SgxPolicy

MAX_POLICY_FILE_SIZE: Final = 4 * 1024 * 1024
"""Largest policy file in bytes, enough for 40,000 platforms with a comment each."""
DURATIONS: Final = ("platform_grace_period", "qe_grace_period", "max_collateral_age", "clock_leeway")
DURATION_PATTERN: Final = r"([0-9]{1,6})([dhm])"
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}
_ARGUMENTS: Final = frozenset(SgxPolicy.__dataclass_fields__) - {"report_data"}


class PolicyFileError(SettingsError):
    """A policy file is not TOML, or has an unknown name; or a file of platforms has a line with something else."""

    error_code = "policy-file"


def read_policy(path: str | os.PathLike[str], challenge: bytes | None = None) -> SgxPolicy:
    """Read a policy from a TOML file; if a challenge is given, the policy also demands it as report data.

    Args:
        path: the file, or `-` for standard input; `confcom policy from-quote` writes such a file, and
            policy.schema.json beside this module describes its form.
        challenge: 1 to 64 bytes that the enclave was asked to put into its report.

    Raises:
        UnreadableInputError: the file cannot be read.
        SettingsError: the file is not TOML, or has an unknown name, or a value that no quote could have.
    """
    demands = policy_arguments(path)
    return SgxPolicy(**demands) if challenge is None else SgxPolicy.for_challenge(challenge, **demands)


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


def policy_arguments(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the arguments of SgxPolicy that a policy file sets; raises the errors of `read_policy`."""
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
        return _arguments(document)
    except SettingsError as error:
        error.what = f"{name}: {error.what}"
        raise


def _arguments(document: Mapping[str, Any]) -> dict[str, Any]:
    _require_known(document, _ARGUMENTS, "a policy")
    demands = dict(document)
    for name in DURATIONS:
        if name in demands:
            demands[name] = _duration(name, demands[name])
    if "identities" in demands:
        tables = demands["identities"]
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise WrongTypeError("identities", "tables: [[identities]]", tables)
        known = frozenset(Identity.__dataclass_fields__)
        for table in tables:
            _require_known(table, known, "an identity")
        demands["identities"] = [Identity(**table) for table in tables]
    SgxPolicy(**demands)
    return demands


def _require_known(names: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    if unknown := sorted(names.keys() - known):
        raise PolicyFileError(
            f"{unknown[0]} is nothing that {what} has",
            error_code="policy-name-unknown",
            why="report_data is of one challenge, and belongs to the call" if "report_data" in unknown else "",
            remedy=f"write one of: {', '.join(sorted(known))}",
        )


def _duration(name: str, value: object) -> timedelta:
    match = re.fullmatch(DURATION_PATTERN, value) if isinstance(value, str) else None
    if match is None:
        raise WrongValueError(f"{name} is not a duration", remedy='write days, hours or minutes: "30d", "12h" or "90m"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
