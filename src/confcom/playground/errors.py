"""The playground's branch of the error tree. Errors cross the control socket by class name."""

from __future__ import annotations

from confcom.errors import ConfcomError, ExitCode, MalformedError, SettingsError, UnavailableError
from confcom.playground.views import NodeState


class ManifestError(MalformedError):
    """The API server would not take this manifest; `what` is in its words."""


class AlreadyExistsError(ConfcomError):
    """An object of that kind and name is there already."""


class NotFoundError(ConfcomError):
    """No object of that kind and name."""


class NodeUnavailableError(UnavailableError):
    """No node answers on the control socket."""


class WaitTimeoutError(ConfcomError):
    """What was waited for did not happen in time; `state` is the last that was seen."""

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, *, state: NodeState, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why=why, remedy=remedy)
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
