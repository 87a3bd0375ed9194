"""The playground's errors. The control API transfers an error by its class name."""

from __future__ import annotations

from confcom.errors import ConfcomError, MalformedError, SettingsError, UnavailableError
from confcom.playground.api.views import NodeState


class ManifestError(MalformedError):
    """The API server would refuse this manifest; `what` is the API server's text."""

    error_code = "manifest-refused"


class AlreadyExistsError(ConfcomError):
    """An object of that kind and name exists already."""

    error_code = "already-exists"


class NotFoundError(ConfcomError):
    """No object of that kind and name exists."""

    error_code = "not-found"


class NodeUnavailableError(UnavailableError):
    """No node answers on the control socket."""

    error_code = "node-unavailable"


class WaitTimeoutError(ConfcomError):
    """A condition did not hold in time; `state` is the last state that the client received."""

    error_code = "wait-timeout"

    def __init__(self, what: str, *, state: NodeState, remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.state = state


BY_NAME: dict[str, type[ConfcomError]] = {
    kind.__name__: kind
    for kind in (
        ManifestError,
        AlreadyExistsError,
        NotFoundError,
        NodeUnavailableError,
        MalformedError,
        SettingsError,
        UnavailableError,
        ConfcomError,
    )
}
