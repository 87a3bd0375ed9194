"""Errors of fetching collateral: the fault is the service's, the network's or the cache's, never that of a quote."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from confcom.errors import MalformedError, UnavailableError, shortened
from confcom.extras import require

require("httpx2", "collateral")

import httpx2  # noqa: E402 # require() must run first: its error names the extra

REVOKED: Final = "collateral-revoked"
"""The code of collateral whose signer or CA the root has revoked."""
_HEADERS_TOO_LARGE: Final = 431
"""h11's hint for a head that is larger than the client's buffer (RFC 6585, section 5)."""


class FetchError(UnavailableError):
    """A service did not answer, refused, or sent no collateral that can be used; or the cache cannot be used.

    The code says which of these happened. If the answer cannot be read or fails a check, the cause (`__cause__`) is the
    error about this.
    """

    error_code = "collateral-not-fetched"
    retry_after: str = ""
    """The header Retry-After of a service that refused: seconds, or a date."""


@dataclass(frozen=True, slots=True)
class _Fault:
    why: str
    code: str
    remedy: str = "check that the address is that of a service of collateral, and no proxy's page"

    def error(self, what: str, message: str = "") -> FetchError:
        why = f"{self.why}: {shortened(message).rstrip('.')}" if message else self.why
        return FetchError(what, error_code=self.code, why=why, remedy=self.remedy)


_KEY = _Fault("the service requires a key", code="source-key", remedy="give a key by --api-key-file (Source.api_key)")
_UNKNOWN = _Fault(
    "the service does not know this platform or this set",
    code="source-unknown-platform",
    remedy="let the PCCS fetch it first; ask Intel's own service, or for another set; or check the address",
)
_BUSY = _Fault("it was asked too often", code="source-busy", remedy="keep what was fetched (CollateralCache)")
_FAILED = _Fault(
    "the service has an error of its own",
    code="source-failed",
    remedy="read the service's log, or ask its operator; a PCCS fails so if it cannot reach Intel",
)
_REFUSED = _Fault("the service does not take this request", code="source-refused")
_STATUSES: Final = {401: _KEY, 403: _KEY, 404: _UNKNOWN, 410: _UNKNOWN, 429: _BUSY}
_REDIRECT = _Fault(
    "redirects are not followed, since they could lead to another host",
    code="source-redirect",
    remedy="give the address that the service really has",
)

_NAME = _Fault("its host name has no address", code="source-name", remedy="check the address, and DNS")
_NOT_REACHED = _Fault(
    "no connection to it can be made, or the connection broke",
    code="source-not-reached",
    remedy="check that the service runs, the network, and HTTPS_PROXY",
)
PROXY = _Fault(
    "the proxy in the environment cannot be used, or has refused",
    code="source-proxy",
    remedy="correct HTTPS_PROXY, which takes http://HOST:PORT, or name the service in NO_PROXY",
)
CA_FILE = _Fault("it is no file of certificates", code="source-ca-file", remedy="give a file of PEM")
_TLS = _Fault("TLS failed", code="source-tls", remedy="check the port, and that it speaks TLS 1.2 or 1.3")
_TLS_NAME = _Fault(
    "its certificate is for another host",
    code="source-tls-name",
    remedy="write the address with a name in the certificate, or give the service a certificate for this one",
)
_TLS_DATES = _Fault(
    "its certificate has expired, or is not valid yet",
    code="source-tls-dates",
    remedy="renew the service's certificate; check the clock of this machine",
)
_TLS_AUTHORITY = _Fault(
    "an unknown authority issued its certificate",
    code="source-tls-authority",
    remedy="give the authority of its certificate by --ca (Source.ca_file)",
)
_CERTIFICATE_FAULTS: Final = {9: _TLS_DATES, 10: _TLS_DATES, 62: _TLS_NAME, 64: _TLS_NAME}
"""Keyed by OpenSSL's X509_V_ERR_ (x509_vfy.h): CERT_NOT_YET_VALID, CERT_HAS_EXPIRED, HOSTNAME_MISMATCH, and
IP_ADDRESS_MISMATCH."""

_SILENT = _Fault(
    "it did not end its answer within the time limit",
    code="source-silent",
    remedy="try again; `curl -v` to the same address shows where it waits",
)
_PROTOCOL = _Fault(
    "its answer is not HTTP, or not whole",
    code="source-protocol",
    remedy="try again; check the port, and that it speaks https",
)
_HEADERS = _Fault("its answer has headers without end", code="source-headers")
TOO_LARGE = _Fault("no such document is that large", code="source-too-large")
COMPRESSED = _Fault(
    "the answer is compressed, and Accept-Encoding: identity was asked for",
    code="source-compressed",
    remedy="let the service, or the proxy before it, obey Accept-Encoding",
)

ANOTHER_SET = _Fault(
    "it is not the one that was asked for",
    code="collateral-of-another-set",
    remedy="try again, since sets may change between two requests; else ask Intel's own service",
)
CONTENT = _Fault(
    "a part is missing, or cannot be read",
    code="source-content",
    remedy="check that the address is that of a service of collateral, and that no proxy drops headers or changes "
    "documents: each must come byte for byte as Intel signed it",
)

_REFUSALS: Final = (*_STATUSES.values(), _REFUSED, _REDIRECT, _HEADERS, TOO_LARGE, COMPRESSED)
_FAULTS: Final = (*_REFUSALS, *_CERTIFICATE_FAULTS.values(), _TLS_AUTHORITY)
LASTING: Final = {REVOKED} | {fault.code for fault in _FAULTS}
"""Codes of faults that a second request meets, too."""


def refusal(response: httpx2.Response, url: str) -> FetchError:
    if response.is_redirect:
        return _REDIRECT.error(f"{url} redirects to another address", response.headers.get("Location", ""))
    fault = _STATUSES.get(response.status_code, _FAILED if response.is_server_error else _REFUSED)
    error = fault.error(f"{url} answered {response.status_code}", response.headers.get("Error-Message", ""))
    error.retry_after = response.headers.get("Retry-After", "")
    return error


def failure(error: BaseException, url: str) -> FetchError:
    """Return the error for a request without an answer, or with an answer that did not end."""
    return _fault(list(_causes(error))).error(f"{url} gave no whole answer", str(error))


def unreadable(error: MalformedError, source: str) -> FetchError:
    fault = ANOTHER_SET if error.error_code == "collateral-mixed" else CONTENT
    return fault.error(f"{source} sent what is no collateral", error.what)


def _fault(errors: list[BaseException]) -> _Fault:
    for error in errors:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _CERTIFICATE_FAULTS.get(error.verify_code, _TLS_AUTHORITY)
        if getattr(error, "error_status_hint", 0) == _HEADERS_TOO_LARGE:
            return _HEADERS
    kinds = (
        (TimeoutError, _SILENT),
        (ssl.SSLError, _TLS),
        (socket.gaierror | httpx2.InvalidURL, _NAME),
        (httpx2.ProxyError, PROXY),
        (httpx2.NetworkError | httpx2.TimeoutException | OSError, _NOT_REACHED),
    )
    return next((fault for kind, fault in kinds if any(isinstance(error, kind) for error in errors)), _PROTOCOL)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
