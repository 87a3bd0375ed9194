"""Intel's configuration files, read as its libraries read them, without secrets. Pure.

Values are shown only for known keys, and only if they have the form that the key takes: a value in the wrong place may
be a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from confcom.hardware_report.document.redaction import Value, redacted, redacted_url
from confcom.hardware_report.document.report import Finding, Section

QCNL = "/etc/sgx_default_qcnl.conf"
AESMD = "/etc/aesmd.conf"
FILES = (QCNL, AESMD)

Form = Callable[[object], Value]
"""Returns what is shown of a value; raises FormError if it does not have the form of its key."""


class FormError(Exception):
    """A value, or a file, does not have the expected form."""


def _url(value: object) -> Value:
    if not isinstance(value, str):
        raise FormError
    return redacted_url(value)


def _boolean(value: object) -> Value:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise FormError


def _number(value: object) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1_000_000:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,7}", value):
        return int(value)
    raise FormError


def _one_of(*words: str) -> Form:
    def shown(value: object) -> Value:
        if value not in words:
            raise FormError
        return str(value)

    return shown


def _option_names(value: object) -> Value:
    """Say only how many headers and parameters there are: their values may be keys."""
    if not isinstance(value, dict):
        raise FormError
    return redacted(len(value), "members")


QCNL_KEYS: Mapping[str, Form] = MappingProxyType(
    {
        "pccs_url": _url,
        "use_secure_cert": _boolean,
        "collateral_service": _url,
        "tcb_update_type": _one_of("standard", "early"),
        "pccs_api_version": _one_of("3.0", "3.1", "4.0"),
        "retry_times": _number,
        "retry_delay": _number,
        "local_pck_url": _url,
        "pck_cache_expire_hours": _number,
        "verify_collateral_cache_expire_hours": _number,
        "local_cache_only": _boolean,
        "custom_request_options": _option_names,
    }
)
"""The keys that Intel's network library (QCNL) knows, in JSON; the older form has them in capital letters."""

AESMD_KEYS: Mapping[str, Form] = MappingProxyType(
    {
        "proxy type": _one_of("default", "direct", "manual"),
        "aesm proxy": _url,
        "whitelist url": _url,
        "default quoting type": _one_of("ecdsa_256", "epid_linkable", "epid_unlinkable"),
        "qpl log level": _one_of("error", "info"),
    }
)


def configuration_section(qcnl: str | None, aesmd: str | None, present: Collection[str]) -> Section:
    """Return what both files say.

    Args:
        qcnl: content of QCNL; None if it is not there or cannot be read.
        aesmd: content of AESMD; None likewise.
        present: those of the two files that are there.
    """
    values: dict[str, Value] = {"files": [*present], "qcnl_syntax": None, "qcnl": None, "aesmd": None}
    findings: list[Finding] = []
    if qcnl is not None:
        values |= _read_qcnl(qcnl, findings)
    elif QCNL not in present:
        findings.append(
            Finding(
                code="qcnl-missing",
                what=f"{QCNL} is not there, so the quote provider library asks https://localhost:8081",
                do="install libsgx-dcap-default-qpl, and set pccs_url; where aesmd runs in a container, look there",
            )
        )
    if aesmd is not None:
        values["aesmd"], _, _ = _known({key.lower(): value for key, value in _pairs(aesmd)}, AESMD_KEYS)
    elif AESMD not in present:
        what = f"{AESMD} is not there; quotes do not need it"
        findings.append(Finding(code="aesmd-conf-missing", what=what, do="nothing is to be done"))
    return Section("configuration", values, tuple(findings))


def _read_qcnl(text: str, findings: list[Finding]) -> dict[str, Value]:
    if not text.lstrip().startswith("{"):
        given: Mapping[str, object] = {key.lower(): value for key, value in _pairs(text) if key.isupper()}
        syntax = "key=value"
    else:
        try:
            given, syntax = _parse_json(text), "JSON"
        except (FormError, ValueError, RecursionError):
            findings.append(
                Finding(
                    code="qcnl-not-json",
                    what=f"{QCNL} begins with a brace and is not valid JSON: Intel's stack then makes quotes without a "
                    "PCK certificate, and reports success",
                    do="mend the file (comments are allowed, commas at the end are not), and restart aesmd",
                )
            )
            return {"qcnl_syntax": "invalid JSON"}
    shown, unknown, wrong = _known(given, QCNL_KEYS)
    if unknown:
        findings.append(
            Finding(
                code="qcnl-unknown-keys",
                what=f"{QCNL} has {unknown} keys that Intel's network library does not know, and ignores",
                do="compare them with Intel's example; keys are case-sensitive",
            )
        )
    if wrong:
        findings.append(
            Finding(
                code="qcnl-wrong-values",
                what=f"{QCNL}: values of these keys do not have the form that the key takes: {', '.join(wrong)}",
                do="compare them with Intel's example; a value of another type is ignored without a message",
            )
        )
    return {"qcnl_syntax": syntax, "qcnl": shown}


def _known(given: Mapping[str, object], forms: Mapping[str, Form]) -> tuple[dict[str, Value], int, list[str]]:
    """Return the known keys with what is shown, the number of unknown keys, and the known ones with wrong values."""
    shown: dict[str, Value] = {}
    wrong = []
    for key in forms.keys() & given.keys():
        try:
            shown[key] = forms[key](given[key])
        except FormError:
            wrong.append(key)
            shown[key] = "redacted (not of the form that this key takes)"
    return dict(sorted(shown.items())), len(given.keys() - forms.keys()), sorted(wrong)


def _parse_json(text: str) -> dict[str, Any]:
    parsed = json.loads(without_comments(text), parse_constant=_reject)
    if not isinstance(parsed, dict):
        raise FormError
    return parsed


def _reject(constant: str) -> NoReturn:
    raise FormError(constant)


_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


def without_comments(text: str) -> str:
    """Return JSON without `//` and `/* */` comments, which QCNL's parser accepts; strings stay as they are."""
    return _COMMENT.sub(lambda found: found[0] if found[0].startswith('"') else " ", text)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and not key.lstrip().startswith("#"):
            yield key.strip(), value.strip()
