"""A quote provider that relays to an unmodified aesmd of Intel's on a private socket.

Only InitQuoteEx, GetQuoteSizeEx and GetQuoteEx are relayed; the quote helper answers the other calls itself. Facts
about aesmd: its calls are serial, each may wait for PCCS, and a crash leaves its socket file behind.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import AesmError, ConnectionClosedError
from confcom.client import conversation
from confcom.client.blocking import AesmClient
from confcom.client.conversation import Conversation
from confcom.client.errors import ServiceTimeoutError
from confcom.errors import ConfcomError, MalformedError
from confcom.quote_provider.base import Expiring, QuoteProviderError, QuoteResult, QuotingIdentity
from confcom.quote_provider.expected_root import ExpectedRoot
from confcom.quote_provider.quote_checks import QuoteChecker
from confcom.sgx.report import QeReportInfo, Report

T = TypeVar("T")

CALL_SECONDS: Final = 30.0
"""For one call of aesmd. Intel's client gives up after 15 s; aesmd waits for PCCS without a limit, and the chart's
configuration of it repeats a failed request once, after a second."""
CONCURRENT_CALLS: Final = 2
"""aesmd makes one quote at a time. A second request waits in its socket, so that it is never idle between two."""

HANGS: Final = "aesmd-hangs"
"""Code of the error for a call that did not return in time."""

_PEER_CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred (unix(7)): pid, uid, gid."""

_READ_LOG: Final = "read aesmd's log on this node"
_REMEDIES: Final[Mapping[int, str]] = MappingProxyType(
    {
        AesmErrorCode.UNEXPECTED_ERROR: "read aesmd's log: PCCS may not know the platform (0xe047), have no "
        "certificate for its TCB (0xe049), or have an untrusted TLS certificate (0xe065); or the PCE or the ID enclave "
        "cannot be loaded (/dev/sgx_enclave, /dev/sgx_provision, EPC)",
        AesmErrorCode.NETWORK_ERROR: "check that aesmd reaches PCCS: pccs_url in its sgx_default_qcnl.conf, DNS, proxy "
        "and egress rules",
        AesmErrorCode.OUT_OF_EPC: "give aesmd more EPC: its three enclaves need 3 MiB",
        AesmErrorCode.SERVICE_UNAVAILABLE: "check that aesmd's container has /dev/sgx_enclave, /dev/sgx_provision (its "
        "group, sgx_prv) and EPC, and that it is started with --supported_attestation_types=ECDSA",
        AesmErrorCode.UNSUPPORTED_ATT_KEY_ID: "check that aesmd's container has /dev/sgx_enclave, /dev/sgx_provision "
        "(its group, sgx_prv) and EPC: without these it does not load the quoting enclave",
        AesmErrorCode.NO_PLATFORM_CERT_DATA: "register the platform: PCCS has no PCK certificate for it",
    }
)
"""What to do about aesmd's errors, by their usual causes."""


class AesmdQuoteProvider:
    """A QuoteProvider that relays to an aesmd; it checks every answer.

    Args:
        socket_path: aesmd's private socket.
        root: the root in which the chain of every quote must end.
        call_seconds: deadline of one call.
    """

    def __init__(self, socket_path: Path, root: ExpectedRoot, *, call_seconds: float = CALL_SECONDS) -> None:
        self._client = AesmClient(socket_path, timeout=call_seconds)
        self._checker = QuoteChecker(root)
        self._identity: QuotingIdentity | None = None
        self._size = 0

    @property
    def name(self) -> str:
        """Name for logs and metrics."""
        return "aesmd"

    @property
    def blocking(self) -> bool:
        """True: a call waits for aesmd."""
        return True

    @property
    def max_concurrent_calls(self) -> int:
        """Maximum number of concurrent calls."""
        return CONCURRENT_CALLS

    def identity(self) -> QuotingIdentity:
        """Return the target info and the attestation key's id, as aesmd's InitQuoteEx gives them."""
        target = self._ask(conversation.init_quote())
        self._identity = QuotingIdentity(target.target_info, target.pub_key_id)
        return self._identity

    def quote_size(self) -> int:
        """Return the size of the next quote in bytes, as aesmd's GetQuoteSizeEx gives it."""
        size = self._ask(conversation.quote_size())
        self._checker.check_size(size)
        self._size = size
        return size

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> QuoteResult:
        """Get a quote from aesmd, and check it.

        A restarted aesmd, or one whose certificate was renewed, wants InitQuoteEx first. The client need not know as
        long as target info and key stay the same.
        """
        identity = self._identity or self.identity()
        try:
            return self._quote(report, qe_report_info, identity, self._size or self.quote_size())
        except QuoteProviderError as error:
            if error.code not in _RETRIED or self.identity() != identity:
                raise
            return self._quote(report, qe_report_info, identity, self.quote_size())

    def expiries(self, now: datetime) -> Mapping[Expiring, datetime]:  # noqa: ARG002
        """Return nothing: the provider knows the certificates only from the quotes."""
        return {}

    def close(self) -> None:
        """Do nothing: every call has a connection of its own."""

    def supported_key_count(self) -> int:
        """Return how many attestation keys aesmd has; without a quoting enclave it refuses.

        Raises:
            QuoteProviderError: aesmd refused or did not answer.
        """
        return len(self._ask(conversation.supported_key_ids()))

    def require_other_process(self) -> None:
        """Reject this process's own socket as upstream: each call would wait for itself.

        Raises:
            QuoteProviderError: this process serves the socket, or it cannot be connected to.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._client.timeout)
            try:
                connection.connect(str(self._client.socket_path))
            except OSError as error:
                raise _lost(error.strerror or str(error), error_code="aesmd-unreachable") from error
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        if _PEER_CREDENTIALS.unpack(credentials)[0] == os.getpid():
            raise QuoteProviderError(
                AesmErrorCode.SERVICE_UNAVAILABLE,
                "the quote helper would relay to itself",
                error_code="aesmd-is-this-helper",
                why=f"it serves {self._client.socket_path} itself",
                remedy="give --aesmd-socket the private socket of Intel's aesmd",
            )

    def _quote(
        self, report: Report, qe_report_info: QeReportInfo | None, identity: QuotingIdentity, size: int
    ) -> QuoteResult:
        answer = self._ask(conversation.get_quote_of_size(size, report, qe_report_info))
        self._checker.check(answer.quote, size=size, pub_key_id=identity.pub_key_id)
        return QuoteResult(answer.quote, answer.qe_report_info)

    def _ask(self, asked: Conversation[T]) -> T:
        try:
            return self._client.converse(asked)
        except AesmError as error:
            raise _refusal(error) from error
        except ServiceTimeoutError as error:
            raise _lost(f"it did not answer within {self._client.timeout:g} s", error_code=HANGS) from error
        except ConnectionClosedError as error:
            raise _lost("it closed the connection without an answer", error_code="aesmd-closed") from error
        except MalformedError as error:
            raise QuoteProviderError(
                AesmErrorCode.UNEXPECTED_ERROR,
                "aesmd gave an answer that is not relayed",
                error_code="aesmd-malformed",
                why=error.what,
                remedy="check which program serves the helper's private AESM socket",
            ) from error
        except ConfcomError as error:
            raise _lost(f"{error.what} ({error.error_code})", error_code="aesmd-unreachable") from error


_RETRIED: Final = frozenset(
    {AesmErrorCode.ATT_KEY_NOT_INITIALIZED, AesmErrorCode.PARAMETER_ERROR, AesmErrorCode.ATT_KEY_CERT_DATA_INVALID}
)
"""Refusals that InitQuoteEx may end: no attestation key yet, another size of quotes, another key."""


def _refusal(error: AesmError) -> QuoteProviderError:
    try:
        code = AesmErrorCode(error.code)
    except ValueError:
        code = AesmErrorCode.UNEXPECTED_ERROR
    remedy = _REMEDIES.get(code, _READ_LOG)
    return QuoteProviderError(code, error.what, error_code=error.error_code, why=error.why, remedy=remedy)


def _lost(why: str, *, error_code: str) -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.SERVICE_UNAVAILABLE,
        "aesmd makes no quotes",
        error_code=error_code,
        why=why,
        remedy=_READ_LOG,
        lost=True,
    )
