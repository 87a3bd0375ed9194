"""Gives a cluster its simulated root, once: `python -m confcom.addon.simulated_root`, in the chart's Job.

It may create Secrets in its namespace and nothing else, so it makes a platform in memory and offers it; if there is
one already, the new one is forgotten. Why so: docs/adr, "One simulated root per cluster".
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO

from confcom.addon.api_server import SERVICE_ACCOUNT_DIRECTORY, Creation, InClusterApi, create_object
from confcom.addon.platform_secret import SECRET_NAME, encode_secret
from confcom.errors import ConfcomError, ExitCode, explain
from confcom.quote_provider.state_directory import utc_now
from confcom.simulation.keys import SEED_SIZE
from confcom.simulation.platform import SimulatedPlatform


def main(
    *,
    environ: Mapping[str, str],
    stdout: TextIO,
    stderr: TextIO,
    directory: Path = SERVICE_ACCOUNT_DIRECTORY,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], datetime] = utc_now,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> int:
    """Create the Secret unless it is there. Prints which, and of a new root its fingerprint; never a secret.

    Args:
        environ: the process environment.
        stdout: where the outcome goes.
        stderr: where an error goes.
        directory: the mounted ServiceAccount.
        sleep: waits so many seconds.
        clock: when the platform is made.
        random_bytes: the platform's seed.

    Returns:
        The exit code (confcom.errors.ExitCode).
    """
    try:
        api = InClusterApi.find(environ, directory)
        platform = SimulatedPlatform.create(random_bytes(SEED_SIZE), clock())
        body = encode_secret(platform, api.namespace)
        path = f"/api/v1/namespaces/{api.namespace}/secrets?fieldManager=confcom"
        name = f"the Secret {api.namespace}/{SECRET_NAME}"
        creation = create_object(lambda: api.post(path, body), what=name, sleep=sleep)
    except ConfcomError as error:
        stderr.write(explain(error))
        return error.exit_code
    if creation is Creation.EXISTS:
        stdout.write(f"{name} is there already; nothing was changed\n")
    else:
        stdout.write(f"created {name}; its root certificate's SHA-256 is {platform.root_fingerprint}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(environ=os.environ, stdout=sys.stdout, stderr=sys.stderr))
