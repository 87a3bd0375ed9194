"""Removes secrets from Kubernetes objects, by their fields, and from all texts, by patterns. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote

from confcom.hardware_report.software import configuration_facts, redacted_url

HIDDEN: Final = "(redacted)"
MIN_PASSWORD: Final = 4
"""Minimum length of a password that is hidden wherever it occurs; a shorter text would occur in many harmless words."""
_LOGIN: Final = re.compile(r"(:(?:\\?/){2})([^\s/?#\"'<>\\]{1,1024})@")
"""User and password of a URL, also in JSON that escapes slashes."""
_NAMES: Final = (
    r"pass(?:word|wd|phrase)|token|(?:api|subscription|private|secret)[-_]?key|client[-_]?secret|credentials?"
)
_SECRET_KEY: Final = re.compile(rf"(?:{_NAMES}|authorization|secret)$", re.IGNORECASE)
_PROXY_KEYS: Final = frozenset({"http", "https", "http_proxy", "https_proxy"})
"""Keys of the chart's `quoteHelper.collateral.proxy`, and the variables that the chart makes of them."""
_SHOWN_VARIABLES: Final = frozenset({"HOME", "AZDCAP_CACHE", "no_proxy"})
"""The chart's own variables, with harmless values. The values of all other variables are hidden."""
_DATA_KEYS: Final = frozenset({"data", "stringData", "binaryData"})
"""Keys of the content of ConfigMaps and Secrets. Only the configuration of Intel's library is shown, redacted."""
QCNL: Final = "qcnl.conf"
_LEFT_OUT: Final = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration"})
"""Fields that repeat the whole object, the second one as text."""
_SECRETS: Final = (
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}KEY-----|\Z)", re.DOTALL),
        HIDDEN,
    ),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),  # a JSON web token
    (re.compile(r"(authorization\W{1,5}(?:\w+ )?|bearer )[^\s\"',;]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(rf"((?:{_NAMES})\\?[\"']?\s?[:=]\s?)(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s\"',;&}}]+)", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?<![A-Za-z0-9_+/=-])[A-Za-z0-9_+/=-]{200,}"), HIDDEN),  # quotes, records of helm, encrypted PPIDs
)
_IDENTIFIERS: Final = (
    (re.compile(r"((?:qe_?id|ppid|platform_?id|instance_?id)\W{0,5})[0-9a-f]{16,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{32}(?![0-9A-Fa-f])"), HIDDEN),
)
"""Identifiers of a machine. The ids of a quoting enclave and of a platform have 16 bytes; no hash in our logs has."""


@dataclass(frozen=True, slots=True)
class Redaction:
    passwords: frozenset[str] = frozenset()
    """Passwords that are known from URLs, and are hidden wherever they occur."""

    @classmethod
    def of(cls, things: Iterable[object]) -> Self:
        """Make a redaction that knows the passwords in the URLs of these objects."""
        logins = (found[1] for one in things for found in _LOGIN.findall(json.dumps(one, ensure_ascii=False)))
        words = (login.partition(":")[2] for login in logins)
        return cls(frozenset(form for word in words for form in (word, unquote(word)) if len(form) >= MIN_PASSWORD))

    def text(self, shown: str, *, identifiers: bool = False) -> str:
        """Return a text without secrets, and without identifiers of a machine unless `identifiers` are wanted."""
        shown = _LOGIN.sub(rf"\1{HIDDEN}@", shown)
        for password in sorted(self.passwords, key=len, reverse=True):
            shown = shown.replace(password, HIDDEN)
        for pattern, instead in _SECRETS + (() if identifiers else _IDENTIFIERS):
            shown = pattern.sub(instead, shown)
        return shown

    def json(self, thing: object) -> str:
        return json.dumps(self._shown("", thing), indent=1) + "\n"

    def _shown(self, key: str, value: object) -> object:
        shown: object = value
        match value:
            case str() if value and key in _PROXY_KEYS:
                shown = redacted_url(value)
            case str():
                shown = HIDDEN if value and _SECRET_KEY.search(key) else self.text(value)
            case Mapping() if key == "custom":  # the chart's quoteHelper.collateral.custom
                shown = configuration_facts(json.dumps(value))
            case Mapping() if key in _DATA_KEYS:
                shown = {name: configuration_facts(str(one)) if name == QCNL else HIDDEN for name, one in value.items()}
            case Mapping():
                kept = {str(name): one for name, one in value.items() if name not in _LEFT_OUT}
                shown = {self.text(name): self._shown(name, one) for name, one in kept.items()}
            case list() | tuple():
                shown = [self._shown(key, _variable(one) if key == "env" else one) for one in value]
        return shown


def _variable(variable: object) -> object:
    """Return a container's variable; only harmless values are shown."""
    match variable:
        case {"name": name, "value": str(value), **rest} if value and name not in _SHOWN_VARIABLES:
            return {"name": name, "value": redacted_url(value) if name in _PROXY_KEYS else HIDDEN, **rest}
    return variable
