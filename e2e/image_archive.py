"""An image that differs from another one in environment and arguments only, as a Dockerfile's `ENV` and `CMD` do."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REFERENCE = "org.opencontainers.image.ref.name"


def with_environment(
    source: Path, target: Path, *, reference: str, variables: Mapping[str, str], arguments: Sequence[str] = ()
) -> None:
    """Write an OCI archive without the layers, for a node that has the other image.

    Args:
        source: OCI archive of the other image.
        target: the file to write.
        reference: name and tag of the new image.
        variables: added to the environment.
        arguments: for the image's program, where a container has none of its own.
    """
    with tarfile.open(source) as archive:

        def read(name: str) -> Any:  # noqa: ANN401 # JSON
            member = archive.extractfile(name)
            assert member is not None
            return json.load(member)

        manifest = read(_blob(read("index.json")["manifests"][0]["digest"]))
        config = read(_blob(manifest["config"]["digest"]))
    config["config"]["Env"] += [f"{name}={value}" for name, value in variables.items()]
    if arguments:
        config["config"]["Cmd"] = list(arguments)
    files: dict[str, bytes] = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode()}
    manifest["config"] |= _add(files, config)
    entry = {"mediaType": manifest["mediaType"], **_add(files, manifest), "annotations": {REFERENCE: reference}}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with tarfile.open(target, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _add(files: dict[str, bytes], content: object) -> dict[str, Any]:
    text = json.dumps(content).encode()
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    files[_blob(digest)] = text
    return {"digest": digest, "size": len(text)}


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
