"""The valid names of a device plugin's resources; the kubelet, and so its stand-in, refuses others.

Follows IsExtendedResourceName of Kubernetes (pkg/apis/core/helper, pkg/apis/core/v1/helper).
"""

import re

MAX_SUBDOMAIN = 253
"""Maximum characters of the part before the slash, including the prefix `requests.` that quotas add (RFC 1123)."""
MAX_LABEL = 63
"""Maximum characters of the part after the slash (RFC 1123)."""

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
"""A DNS label and a DNS subdomain, as in Kubernetes' own patterns."""
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"


def extended_resource(name: str) -> bool:
    """Return whether a device plugin may use this resource name."""
    domain, slash, rest = name.partition("/")
    return bool(
        slash
        and "kubernetes.io/" not in name
        and not name.startswith("requests.")
        and len(f"requests.{domain}") <= MAX_SUBDOMAIN
        and re.fullmatch(SUBDOMAIN, domain)
        and len(rest) <= MAX_LABEL
        and re.fullmatch(_NAME, rest)
    )
