"""What the API server's answers mean where they are no success."""

from __future__ import annotations

from confcom.errors import UnavailableError

GONE, CONFLICT, NOT_FOUND, TOO_MANY, INTERNAL = 410, 409, 404, 429, 500


class ExpiredError(UnavailableError):
    """The version that a watch or a page began at is too old for the API server: everything has to be listed again."""

    error_code = "watch-expired"


class ConflictError(UnavailableError):
    """The object has changed since it was read, or does not exist any more."""

    error_code = "object-changed"


class RefusedError(UnavailableError):
    """The API server, or a policy, does not permit the request."""

    error_code = "api-server-refused"


class UnreadableError(UnavailableError):
    """The API server's answer, or an event of a watch, is no JSON of its kind, or larger than what is read."""

    error_code = "api-server-unreadable"


class TooLargeError(UnreadableError):
    """The answer is larger than what is read."""


def error_of(status: int, message: str) -> UnavailableError:
    """Return the error for a status that the API server answered."""
    what = f"the API server answered {status}"
    if status == GONE:
        return ExpiredError(what, why=message)
    if status in {CONFLICT, NOT_FOUND}:
        return ConflictError(what, why=message)
    if status < INTERNAL and status != TOO_MANY:
        return RefusedError(what, why=message)
    return UnavailableError(what, error_code="api-server-unavailable", why=message)
