"""Tells which extra installs an optional package."""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Final, NoReturn

from confcom.errors import UnavailableError, explain

PUBLISHED: Final = False
"""Whether a public index has confcom; until then, an install by name could fetch a stranger's package."""

NAME: Final = "confcom"
_SOURCE: Final = NAME if PUBLISHED else "THE WHEEL OR CHECKOUT OF CONFCOM"
_EXTRAS: Final = {
    "google": "client",
    "grpc": "daemon",
    "prometheus_client": "daemon",
    "uvloop": "daemon",
    "click": "cli",
    "msgspec": "cli",
    "yaml": "cli",
    "httpx2": "collateral",
    "cbor2": "ratls",
}
"""The extra of a package, keyed by the import name. lightkube is in two extras: `cli` and `controller`."""


class MissingExtraError(UnavailableError, ImportError):
    """A Python package is not installed; only an extra of confcom installs it."""

    error_code = "extra-missing"

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {module}, which is not installed",
            why=f"it belongs to the extra {extra!r}, which verifying does not need",
            remedy=f"install it with: pip install '{_SOURCE}[{extra}]'",
        )


def missing_extra(error: ModuleNotFoundError, *, extra: str = "") -> MissingExtraError | None:
    """Return an error that names `extra`, or else the missing module's extra; None if no extra has the module."""
    module = (error.name or "").partition(".")[0]
    found = "cli" if module == "lightkube" else _EXTRAS.get(module)
    return None if found is None else MissingExtraError(module, extra or found)


def require(module: str, extra: str = "") -> None:
    """Raise MissingExtraError if an extra's module is not installed; `extra` selects one of several extras."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise (MissingExtraError(module, extra) if extra else missing_extra(error)) or error from error


@contextlib.contextmanager
def exit_without_extra(extra: str) -> Iterator[None]:
    """End the program with a message if an import in the block fails because an extra is not installed."""
    try:
        yield
    except (MissingExtraError, ModuleNotFoundError) as error:
        failure = error if isinstance(error, MissingExtraError) else missing_extra(error, extra=extra)
        if failure is None:
            raise
        sys.stderr.write(explain(failure))
        raise SystemExit(failure.exit_code) from error


def run_as_module(package: str, extra: str) -> NoReturn:
    """Run the daemon whose `main` is in confcom.PACKAGE and needs an extra's packages, then exit.

    Imports leave 0.3 MB of garbage, whose collection would take a twentieth of a daemon's start. Imported objects
    live until the end. Freezing them keeps later collections from blocking the event loop for 10 ms each.
    """
    gc.disable()
    with exit_without_extra(extra):
        main = importlib.import_module(f"{NAME}.{package}.main").main
    gc.freeze()
    gc.enable()
    sys.exit(main(sys.argv[1:], prog=f"python -m {NAME}.{package}", environ=os.environ, stderr=sys.stderr))
