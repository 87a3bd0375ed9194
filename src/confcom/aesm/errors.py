"""What can go wrong between an AESM client and its service."""

from __future__ import annotations

from confcom.aesm.advice import advice_for, describe
from confcom.aesm.error_code import AesmErrorCode
from confcom.errors import ConfcomError, ExitCode, MalformedError, UnavailableError

_TRANSIENT = frozenset(
    {
        AesmErrorCode.NETWORK_ERROR,
        AesmErrorCode.NETWORK_BUSY_ERROR,
        AesmErrorCode.SERVICE_STOPPED,
        AesmErrorCode.BUSY,
        AesmErrorCode.BACKEND_SERVER_BUSY,
        AesmErrorCode.SERVICE_UNAVAILABLE,
    }
)


class ProtocolError(MalformedError):
    """Bytes that are not AESM's protocol. A server closes the connection without a byte, as Intel's does."""


class FrameError(ProtocolError):
    """A length that no known client or server sends."""


class MalformedMessageError(ProtocolError):
    """A frame whose body is not the message it should be."""


class UnknownRequestError(ProtocolError):
    """A well-formed request of a kind that AESM does not know."""


class SessionMisuseError(ConfcomError):
    """The program that drives a session broke its order of calls: a bug in that program, not in the peer."""


class ConnectionClosedError(UnavailableError):
    """The service closed the connection before its answer was complete."""


class AesmError(ConfcomError):
    """The service answered, with an error; its number is never shown without its name and advice.

    Args:
        code: the number from the wire, known or not.
        call: what was asked, for the message: `InitQuoteEx`.
    """

    def __init__(self, code: int, call: str) -> None:
        advice = advice_for(code)
        super().__init__(
            f"the AESM service refused {call} with {describe(code)}", why=advice.meaning, remedy=advice.remedy
        )
        self.code = code
        self.call = call
        if code in _TRANSIENT:
            self.exit_code = ExitCode.UNAVAILABLE


class StaleTargetError(AesmError):
    """42: the quoting enclave changed since InitQuoteEx; call it again, make a new report, and ask again."""

    def __init__(self, call: str) -> None:
        super().__init__(AesmErrorCode.ATT_KEY_NOT_INITIALIZED, call)


def service_error(code: int, call: str) -> AesmError:
    """The error for a code other than 0; the one that callers react to has a type of its own."""
    if code == AesmErrorCode.ATT_KEY_NOT_INITIALIZED:
        return StaleTargetError(call)
    return AesmError(code, call)
