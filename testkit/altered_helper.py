"""Runs the real helper program with alterations for tests, such as short limits or a missing provider.

Usage: altered_helper.py ALTERATIONS FLAG ...

ALTERATIONS is a JSON object. `limits` replaces fields of HelperLimits. Metrics are rendered again only after
`rendering_seconds`. If `provider` is false, no provider comes. With `older_kernel`, SO_PASSRIGHTS is missing.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
from typing import Any, NoReturn

from confcom import passed_descriptors
from confcom.daemon import probe_server
from confcom.extras import run_as_module
from confcom.quote_helper import main as composition
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting import simulated_backend

UNKNOWN_OPTION = 0x7FFF
"""A SOL_SOCKET option that Linux refuses with ENOPROTOOPT, as kernels before 6.16 refuse SO_PASSRIGHTS."""


def never(*_: Any, **__: Any) -> None:
    threading.Event().wait()


def main() -> NoReturn:
    alterations = json.loads(sys.argv[1])
    vars(composition)["HelperLimits"] = functools.partial(HelperLimits, **alterations.get("limits", {}))
    vars(probe_server)["RENDERING_SECONDS"] = alterations.get("rendering_seconds", probe_server.RENDERING_SECONDS)
    if alterations.get("older_kernel", False):
        vars(passed_descriptors)["SO_PASSRIGHTS"] = UNKNOWN_OPTION
    if not alterations.get("provider", True):
        vars(simulated_backend)["open_simulated"] = never
    del sys.argv[1]
    run_as_module("quote_helper", "quote-helper")


if __name__ == "__main__":
    main()
