"""TLS connections to verified peers: sockets, a context for TLS clients, and a transport of httpx2."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, cast

import httpx2

from confcom.errors import ConfcomError, UnavailableError, WrongTypeError, WrongValueError
from confcom.verify.argument_types import time_limit
from confcom.verify.policy import Policy
from confcom.verify.ratls.certificate import CollateralInput, require_arguments, verify_certificate
from confcom.verify.trust import KnownRoot, TrustedRoot
from confcom.verify.verdict import Verdict

CONNECT_SECONDS: Final = 10.0
"""Time limit of each step of `connect`. A handshake with a new quote takes less, and people would wait longer."""


class ConnectError(UnavailableError):
    """A TLS connection to the peer could not be made."""

    error_code = "ratls-not-connected"


class _Context(ssl.SSLContext):
    decide: Callable[[bytes], Verdict[Any]]


class AttestedSocket(ssl.SSLSocket):
    """An `ssl.SSLSocket` that sends and reads no application data before the peer is verified."""

    _verdict: Verdict[Any] | None = None

    @property
    def verdict(self) -> Verdict[Any]:
        """The verdict on the peer. Raises WrongValueError if no handshake was done."""
        return _required(self._verdict)

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001 # as in ssl
        super().do_handshake(block)
        try:
            self._verdict = _decide(self)
        except BaseException:
            self.close()
            raise

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 # sendall and sendfile call send
        _required(self._verdict)
        return super().send(data, flags)

    def write(self, data: Any) -> int:  # noqa: ANN401 # as in ssl
        _required(self._verdict)
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401 # recv calls read
        _required(self._verdict)
        return super().read(len, buffer)


class _AttestedObject(ssl.SSLObject):
    """Counterpart of AttestedSocket for event loops, which send and receive the bytes themselves."""

    _verdict: Verdict[Any] | None = None

    def do_handshake(self) -> None:
        super().do_handshake()
        self._verdict = _decide(self)

    def write(self, data: Any) -> int:  # noqa: ANN401 # as in ssl
        _required(self._verdict)
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401 # as in ssl
        _required(self._verdict)
        return super().read(len, buffer)


def _decide(connection: ssl.SSLSocket | ssl.SSLObject) -> Verdict[Any]:
    verdict = cast("_Context", connection.context).decide(connection.getpeercert(binary_form=True) or b"")
    verdict.require_ok()
    return verdict


def _required(verdict: Verdict[Any] | None) -> Verdict[Any]:
    # Without this check, OpenSSL would start an unverified handshake at the first write.
    if verdict is None:
        raise WrongValueError("the peer was not verified yet", remedy="call do_handshake first")
    return verdict


def client_context(
    policy: Policy,
    collateral: CollateralInput,
    root: TrustedRoot | KnownRoot | None = None,
    now: datetime | None = None,
    *,
    nonce: bytes | None = None,
) -> ssl.SSLContext:
    """Return a context for TLS clients that verifies the peer's quote at the end of each handshake.

    The context checks neither certificate authorities nor host names unless its attributes demand such
    checks. If the peer is not verified, the handshake of a socket or asyncio connection with this context
    raises NotVerifiedError, whose `verdict` has the reasons. The arguments are those of `verify_certificate`;
    a function for collateral is called during the handshake and delays it.

    Raises:
        SettingsError: for the same reasons as in `verify_certificate`.
    """
    require_arguments(policy, nonce)
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_RENEGOTIATION  # renegotiation could change the certificate (TLS 1.2)
    context.sslsocket_class, context.sslobject_class = AttestedSocket, _AttestedObject
    context.decide = lambda certificate: verify_certificate(certificate, policy, collateral, root, now, nonce=nonce)
    return context


def connect(
    host: str,
    port: int,
    policy: Policy,
    collateral: CollateralInput,
    root: TrustedRoot | KnownRoot | None = None,
    *,
    now: datetime | None = None,
    nonce: bytes | None = None,
    seconds: float = CONNECT_SECONDS,
) -> AttestedSocket:
    """Return a TLS connection to a verified peer.

    Args:
        host: the peer's name or address.
        port: the peer's TCP port.
        policy: as for `verify_certificate`, which also describes the next four arguments.
        collateral: if it is None, every peer is refused.
        root: None means the root for which the collateral was prepared, or else INTEL.
        now: None means the present.
        nonce: None means that the nonce is not checked.
        seconds: the time limit of each step of `connect`, and later of each call of the socket.

    Raises:
        ConnectError: no peer answers, or the peer does not speak TLS 1.2 or later.
        NotVerifiedError: the peer was not verified; the error's `verdict` has the reasons.
        SettingsError: for the same reasons as in `verify_certificate`.
    """
    context = client_context(policy, collateral, root, now, nonce=nonce)
    if not isinstance(host, str):
        raise WrongTypeError("the host", "text", host)
    limit = time_limit(seconds)
    try:
        plain = socket.create_connection((host, port), limit)
        try:
            return cast("AttestedSocket", context.wrap_socket(plain, server_hostname=host))
        finally:
            plain.close()  # after success, wrap_socket has taken over the descriptor
    except ConfcomError:
        raise
    except (OSError, ValueError, OverflowError) as error:
        raise ConnectError(
            f"there is no TLS connection to {host}:{port}",
            why=str(error),
            remedy="check the address, and that a TLS service listens there",
        ) from error


class RatlsTransport(httpx2.HTTPTransport):
    """A transport for `httpx2.Client` that connects to verified peers only.

    If the peer is not verified, a request raises NotVerifiedError and is not sent. URLs must begin with
    https. The arguments are those of `verify_certificate`. The peer is verified once per connection.
    """

    def __init__(
        self,
        policy: Policy,
        collateral: CollateralInput,
        root: TrustedRoot | KnownRoot | None = None,
        now: datetime | None = None,
        *,
        nonce: bytes | None = None,
    ) -> None:
        super().__init__(verify=client_context(policy, collateral, root, now, nonce=nonce), trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request over TLS; refuse a URL without https."""
        if not isinstance(request, httpx2.Request):  # httpx would end with an AssertionError
            raise WrongTypeError("the client", "one of httpx2, or one of another library with client_context", request)
        if request.url.scheme != "https":
            raise WrongValueError(
                f"a request to {request.url.host} would be sent without TLS",
                why="only a TLS handshake proves who the peer is",
                remedy="write https://, and follow no redirect to http://",
            )
        return super().handle_request(request)
