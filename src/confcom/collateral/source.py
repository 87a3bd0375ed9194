"""Services that provide collateral: Intel's (PCS API v4), caches of Intel's (PCCS), and Azure's cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from confcom.errors import SettingsError, WrongTypeError
from confcom.sgx.tee_type import TeeType

API_PATH: Final = "/sgx/certification/v4/"
ENDED_VERSIONS: Final = ("/v1/", "/v2/", "/v3/")
"""API versions that Intel has ended: versions 2 and 3 on 30 April 2026, version 1 earlier."""
INTEL_ROOT_CRL_URL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
"""URL of the root's revocation list, which PCS does not serve. Intel's root certificate has the same URL, but
this package never reads a URL from a certificate."""


class SourceError(SettingsError):
    """The address or the key of a collateral service is invalid."""

    error_code = "collateral-source"


@dataclass(frozen=True, slots=True)
class Source:
    """A service that provides collateral.

    Args:
        url: the service's address up to the API version: https://HOST[:PORT]/sgx/certification/v4/. The API
            path may be omitted. Plain http is accepted only if HOST is this machine. The address for TDX is the
            same with `tdx` in place of the path's last `sgx`.
        root_crl_url: URL of the root's revocation list; by default the service's path `rootcacrl`, as in a PCCS.
        api_key: a subscription key, sent as Ocp-Apim-Subscription-Key.
        ca_file: a PEM file of authorities that may certify the service; by default the system's authorities.

    Raises:
        SettingsError: an argument has a wrong type, or the address or the key cannot be used.
    """

    url: str
    root_crl_url: str = ""
    api_key: str = field(default="", repr=False)
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("url", "root_crl_url", "api_key"):
            if not isinstance(value := getattr(self, name), str):
                raise WrongTypeError(f"the source's {name}", "text", value)
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise SourceError("the source's api_key is no text that a header takes", remedy="pass the key alone")
        _require_address(self.url)
        if self.root_crl_url:
            _require_address(self.root_crl_url)

    @property
    def base(self) -> str:
        """The service's address with the API's path, ending in a slash."""
        path = urlsplit(self.url).path.rstrip("/")
        return self.url.rstrip("/") + (API_PATH if not path else "/")

    def base_of(self, tee: TeeType) -> str:
        """Return the service's address for a TEE's TCB info and QE identity, ending in a slash.

        Raises:
            SettingsError: the TEE is TDX, and the address has no path for SGX from which TDX's path could follow.
        """
        if tee is TeeType.SGX:
            return self.base
        path = urlsplit(self.base).path
        before, sgx, after = path.rpartition("/sgx/")
        if not sgx:
            raise SourceError(
                f"{self.base} has no path for TDX",
                why="TDX's documents are at the path of SGX with tdx in place of sgx, and this path has no sgx",
                remedy=f"write the address up to the version: https://HOST{API_PATH}, also for quotes of TDX",
            )
        return f"{self.base.removesuffix(path)}{before}/tdx/{after}"

    @property
    def root_crl(self) -> str:
        """The address of the root's revocation list."""
        return self.root_crl_url or f"{self.base}rootcacrl"


def _require_address(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    hostname = parts.hostname
    if parts.scheme not in {"https", "http"} or not hostname or not url.isprintable():
        raise SourceError(f"{url!r} is no address of a service", remedy=f"write https://HOST{API_PATH}, intel or azure")
    if parts.scheme == "http" and hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise SourceError(
            f"{url} is not encrypted",
            why="an old set could be put in the answer's place, and nobody would notice",
            remedy="write https://, and give the service's authority by --ca (Source.ca_file) if it has one of its own",
        )
    if any(version in f"{parts.path.lower()}/" for version in ENDED_VERSIONS):
        raise SourceError(
            f"{url} is of a version of Intel's API that has ended",
            why="Intel ended versions 2 and 3 on 30 April 2026; their last collateral has expired since",
            remedy=f"use version 4: https://{parts.netloc}{API_PATH}",
        )
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise SourceError(
            f"{hostname}: the address has more than a host and a path",
            remedy="give a key by --api-key-file, and the address without query or user",
        )


INTEL_PCS: Final = Source(f"https://api.trustedservices.intel.com{API_PATH}", INTEL_ROOT_CRL_URL)
"""Intel's own service, which requires no key for collateral."""
AZURE_CACHE: Final = Source(f"https://global.acccache.azure.net{API_PATH}", INTEL_ROOT_CRL_URL)
"""Azure's cache. Azure's policy is to serve, by default, TCB info whose nextUpdate has passed."""
