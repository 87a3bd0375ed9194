"""An in-toto statement about a release's files: from which commit, locks and base they were built, and by whom."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import confcom
from e2e.images import Built
from e2e.source import Source

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:confcom:make-release"
BUILDER = "urn:confcom:machine-of-a-maintainer"
LEVEL = 1
"""SLSA's build level: provenance exists. The builder is a person's machine, so nothing more is claimed."""


def statement(stage: Path, source: Source, built: Built, digests: Mapping[str, str], *, base_kind: str) -> bytes:
    """The provenance of files, given with their SHA-256 in hex; the same bytes for the same build."""
    labels = built.labels("quote-helper")
    base, digest = labels["base.name"], labels["base.digest"]
    locks = sorted((stage / "requirements").glob("*.lock"))
    commit = {"uri": f"git+{confcom.PROJECT_URL}", "digest": {"gitCommit": source.revision}}
    materials = [
        commit if confcom.PROJECT_URL else {"name": "confcom", "digest": commit["digest"]},
        {"name": base.partition("@")[0], "digest": {"sha256": digest.removeprefix("sha256:")}},
        *(
            {"name": f"requirements/{lock.name}", "digest": {"sha256": hashlib.sha256(lock.read_bytes()).hexdigest()}}
            for lock in locks
        ),
    ]
    document = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(digests.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"version": source.version, "base": base_kind},
                "internalParameters": {"slsaBuildLevel": LEVEL, "sourceDateEpoch": source.epoch},
                "resolvedDependencies": materials,
            },
            "runDetails": {"builder": {"id": BUILDER}},
        },
    }
    return json.dumps(document, indent=1).encode() + b"\n"
