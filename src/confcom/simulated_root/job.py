"""Creates a cluster's simulated root, once: `python -m confcom.simulated_root.job`, in the chart's Job.

It makes a platform in memory and tries to create the Secret with it; if the Secret exists already, the new platform is
discarded. Then it publishes the fingerprint of the Secret's root. Reasons: docs/adr, "One simulated root per cluster".
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO

from confcom.errors import ConfcomError, ExitCode, UnavailableError, explain
from confcom.quote_provider.state_directory import utc_now
from confcom.simulated_root.record import RECORD_NAME, SECRET_NAME, encode_record, is_recorded
from confcom.simulated_root.retrying_api_client import SERVICE_ACCOUNT_DIRECTORY, ApiObject, InClusterApi
from confcom.simulated_root.secret import decode_secret, encode_secret
from confcom.simulation.keys import SEED_SIZE
from confcom.simulation.platform import SimulatedPlatform

_SECRET = ApiObject("Secret", "secrets", SECRET_NAME)
_RECORD = ApiObject("ConfigMap", "configmaps", RECORD_NAME)
_ATTEMPTS = 3
"""Attempts to publish: the garbage collector may remove the record of a deleted Secret between two requests."""


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
    """Create the Secret unless it exists, and publish its root's fingerprint. Both are printed, but no secret value.

    Returns:
        The exit code (confcom.errors.ExitCode).
    """
    try:
        api = InClusterApi.find(environ, directory, sleep)
        platform = SimulatedPlatform.create(random_bytes(SEED_SIZE), clock())
        created = api.create(_SECRET, encode_secret(platform, api.namespace))
        there = "created" if created else "kept (it already exists),"
        stdout.write(f"{there} {api.described(_SECRET)}\n")
        stdout.write(f"published: its root certificate's SHA-256 is {_publish(api)}\n")
    except ConfcomError as error:
        stderr.write(explain(error))
        return error.exit_code
    return ExitCode.OK


def _publish(api: InClusterApi) -> str:
    """Publish the fingerprint of the Secret's root in the ConfigMap, and return it.

    The Secret is read through the API, not mounted: a kubelet may mount one that was deleted.
    """
    for _ in range(_ATTEMPTS):
        document = api.read(_SECRET)
        if document is None:
            break
        fingerprint = decode_secret(document).root_fingerprint
        record = encode_record(json.loads(document), fingerprint, api.namespace)
        found = api.read(_RECORD)
        if found is not None:
            if is_recorded(found, record):
                return fingerprint
            # Not updated: the garbage collector may be about to delete a ConfigMap that belongs to a deleted Secret.
            api.delete(_RECORD)
        if api.create(_RECORD, record):
            return fingerprint
    raise UnavailableError(
        f"{api.described(_RECORD)} cannot be made",
        error_code="root-changed-meanwhile",
        why=f"another client deletes or creates {api.described(_SECRET)} or the ConfigMap at the same time",
        remedy="run `confcom enable` or `helm upgrade` again",
    )
