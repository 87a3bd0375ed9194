"""Errors of the AESM protocol, and errors that an AESM service reports."""

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
    """Bytes that violate the AESM protocol; our server, like Intel's, then closes the connection without an answer."""

    error_code = "not-an-aesm-message"


class SessionMisuseError(ConfcomError):
    """The calling program used a session in the wrong order; the bug is in this program, not in the peer."""

    error_code = "session-misuse"


class ConnectionClosedError(UnavailableError):
    """The service closed the connection before its answer was complete."""


class AesmError(ConfcomError):
    """The service refused a call. `code` is the error number, even an unknown one; `call` is a name like `InitQuoteEx`.

    Error numbers with the same remedy share one `error_code`, such as `aesm-busy`.
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
    """Error 42: the quoting enclave changed. Call `init_quote` again, and make a new report for the new target info."""

    def __init__(self, call: str) -> None:
        super().__init__(AesmErrorCode.ATT_KEY_NOT_INITIALIZED, call)


def service_error(code: int, call: str) -> AesmError:
    """Return the error for a code other than 0. Code 42 has its own type, because callers handle it."""
    if code == AesmErrorCode.ATT_KEY_NOT_INITIALIZED:
        return StaleTargetError(call)
    return AesmError(code, call)
