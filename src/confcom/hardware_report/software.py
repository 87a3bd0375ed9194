"""Intel's packages and configuration on the node, without secrets. The functions turn texts into facts.

Only harmless values of a configuration's known keys are shown: any other value may be a misplaced password.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from confcom.hardware_report import Facts

QCNL = "/etc/sgx_default_qcnl.conf"
"""Configuration of Intel's network library (QCNL), which fetches the certificates for quotes."""
AESMD = "/etc/aesmd.conf"
DPKG_STATUS = "/var/lib/dpkg/status"
LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1",
    "/usr/lib64/libdcap_quoteprov.so.1",
    "/usr/lib/libdcap_quoteprov.so.1",
    "/opt/intel/sgx-aesm-service/aesm/libdcap_quoteprov.so.1",
    "/opt/intel/sgx-aesm-service/aesm/aesm_service",
    "/opt/intel/sgx-aesm-service/aesm/libsgx_qe3.signed.so.1",
    "/usr/lib/x86_64-linux-gnu/libsgx_qe3.signed.so.1",
    "/usr/lib64/libsgx_qe3.signed.so.1",
)
MAX_PACKAGES: Final = 200
"""Maximum number of listed packages; Intel has fewer."""

_NAMES = re.compile(r"(?:lib)?sgx[a-z0-9.+-]*|libdcap[a-z0-9.+-]*|libtdx[a-z0-9.+-]*|(?:az|tee)-dcap[a-z0-9.+-]*")
_VERSION = re.compile(r"[A-Za-z0-9.+:~_-]{1,128}")

_URL_KEYS = frozenset({"pccs_url", "collateral_service", "local_pck_url", "aesm proxy", "whitelist url"})
_PLAIN_KEYS = frozenset(
    {
        "use_secure_cert",
        "tcb_update_type",
        "pccs_api_version",
        "retry_times",
        "retry_delay",
        "pck_cache_expire_hours",
        "verify_collateral_cache_expire_hours",
        "local_cache_only",
        "custom_request_options",  # contains HTTP headers, which are never shown
        "proxy type",
        "default quoting type",
        "qpl log level",
    }
)
_PLAIN_VALUE = re.compile(
    r"true|false|\d{1,6}(?:\.\d{1,2})?|standard|early|default|direct|manual|ecdsa_256|epid_(?:un)?linkable|error|info",
    re.IGNORECASE,
)
_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_PATH = re.compile(r"[A-Za-z0-9/._~-]{0,512}")


def package_facts(status: str | None) -> Facts | None:
    """Return Intel's packages and versions from the text of DPKG_STATUS; None if there is none."""
    if status is None:
        return None
    listed = _installed(status)
    of_intel = [(name, version) for name, version in listed if _NAMES.fullmatch(name) and _VERSION.fullmatch(version)]
    return dict(sorted(of_intel)[:MAX_PACKAGES])


def configuration_facts(text: str | None) -> Facts | None:
    """Return facts about a configuration (JSON with comments, or key=value lines); None if there is none."""
    if text is None:
        return None
    syntax, given = "key=value", dict(_pairs(text))
    if text.lstrip().startswith("{"):
        try:
            syntax, given = "JSON", dict(json.loads(without_comments(text)))
        except (ValueError, RecursionError):
            return {"syntax": "invalid JSON"}
    values = {key: _shown(key, value) for key, value in sorted(given.items()) if key in _URL_KEYS | _PLAIN_KEYS}
    return {"syntax": syntax, "values": {**values}, "unknown_keys": len(given) - len(values)}


def without_comments(text: str) -> str:
    """Remove from JSON the `//` and `/* */` comments outside of strings, which QCNL's parser accepts."""
    return _COMMENT.sub(lambda found: found[0] if found[0].startswith('"') else " ", text)


def redacted_url(url: str) -> str:
    """Return an http URL without user, password, query and fragment, or the length of any other text."""
    hidden = f"redacted ({len(url)} characters, no plain http URL)"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return hidden
    host = f"[{host}]" if ":" in host else host
    beyond_host = (parts.path, parts.query, parts.fragment)
    if parts.scheme not in {"http", "https"} or any("@" in part for part in beyond_host):
        return hidden
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(parts.path):
        return hidden
    user = "(redacted)@" if "@" in parts.netloc else ""
    rest = "?(redacted)" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{user}{host}{'' if port is None else f':{port}'}{parts.path}{rest}"


def _shown(key: str, value: object) -> str:
    if key in _URL_KEYS and isinstance(value, str):
        return redacted_url(value)
    text = str(value)
    return text if key in _PLAIN_KEYS and _PLAIN_VALUE.fullmatch(text) else "redacted"


def _pairs(text: str) -> Iterator[tuple[str, object]]:
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and not key.lstrip().startswith("#"):
            yield key.strip().lower(), value.strip()


def _installed(status: str) -> Iterator[tuple[str, str]]:
    for block in status.split("\n\n"):
        fields: Mapping[str, str] = dict(
            line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed"):
            yield fields.get("Package", ""), fields.get("Version", "")
