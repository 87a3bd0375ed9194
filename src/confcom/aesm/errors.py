"""Errors of the AESM protocol, and errors that an AESM service reports."""

from __future__ import annotations

from confcom.aesm.error_code import AesmErrorCode, advice_for, describe
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
    """Bytes that violate the AESM protocol. A server closes the connection without an answer, as Intel's does."""


class FrameError(ProtocolError):
    """A frame with a length that no known client or server sends, or a frame that was cut."""


class MalformedMessageError(ProtocolError):
    """A frame whose body is not the expected message."""

    error_code = "not-an-aesm-message"


class UnknownRequestError(ProtocolError):
    """A well-formed request of an unknown kind."""

    error_code = "unknown-request"


class SessionMisuseError(ConfcomError):
    """The calling program used a session in the wrong order: a bug in that program, not in the peer."""

    error_code = "session-misuse"


class ConnectionClosedError(UnavailableError):
    """The service closed the connection before its answer was complete."""


class AesmError(ConfcomError):
    """The service refused a call. `code` is its number, known or not, and `call` the call, such as `InitQuoteEx`.

    Numbers with the same remedy have one `error_code`, such as `aesm-busy`.
    """

    def __init__(self, code: int, call: str) -> None:
        advice = advice_for(code)
        super().__init__(
            f"the AESM service refused {call} with {describe(code)}",
            error_code=advice.error_code,
            why=advice.meaning,
            remedy=advice.remedy,
        )
        self.code = code
        self.call = call
        if code in _TRANSIENT:
            self.exit_code = ExitCode.UNAVAILABLE


class StaleTargetError(AesmError):
    """Number 42: the quoting enclave changed. Call `init_quote` again, and make a new report for its target info."""

    def __init__(self, call: str) -> None:
        super().__init__(AesmErrorCode.ATT_KEY_NOT_INITIALIZED, call)


def service_error(code: int, call: str) -> AesmError:
    """Return the error for a code other than 0; code 42, which callers handle, has its own type."""
    if code == AesmErrorCode.ATT_KEY_NOT_INITIALIZED:
        return StaleTargetError(call)
    return AesmError(code, call)
