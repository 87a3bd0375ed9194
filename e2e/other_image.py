"""Another image made of one that is built: another label, another digest, and files in it if need be."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.images_workshop import REF_NAME

LABEL = "org.opencontainers.image.revision"
"""Says which source an image was made of; changed, it is another image that does the same."""

_NAME = "io.containerd.image.name"
"""Annotation by which containerd's import takes a whole name."""


def derive(
    archive: Path,
    result: Path,
    repository: str,
    *,
    revision: str,
    files: Mapping[str, bytes] | None = None,
    entrypoint: Sequence[str] = (),
) -> str:
    """Write an archive with another image.

    Args:
        archive: the OCI archive of an image, as `e2e.images.build_all` makes it.
        result: the archive to be written, for `ctr images import`. Its image has one name, `REPOSITORY@DIGEST`.
        repository: as in registry.test/confcom/quote-helper.
        revision: for the label.
        files: contents by absolute path, for a layer on top.
        entrypoint: in place of the image's own, if it is given.

    Returns:
        The digest, sha256:...
    """
    with tarfile.open(archive) as old, tarfile.open(result, "w") as new:
        (entry,) = _json(old, "index.json")["manifests"][:1]
        manifest = _json(old, _blob(entry["digest"]))
        config = _json(old, _blob(manifest["config"]["digest"]))
        config["config"].setdefault("Labels", {})[LABEL] = revision
        if entrypoint:
            config["config"]["Entrypoint"] = list(entrypoint)
        replaced = {"index.json", _blob(entry["digest"]), _blob(manifest["config"]["digest"])}
        for member in old.getmembers():
            if member.name not in replaced:
                new.addfile(member, old.extractfile(member))
        if files:
            layer = _layer(files)
            config["rootfs"]["diff_ids"].append(_digest(layer))
            config.setdefault("history", []).append({"created_by": "e2e.other_image"})
            packed = gzip.compress(layer, mtime=0)
            media_type = manifest["layers"][-1]["mediaType"]
            manifest["layers"].append({"mediaType": media_type, **_add_blob(new, packed)})
        manifest["config"].update(_add_blob(new, json.dumps(config).encode()))
        described = _add_blob(new, json.dumps(manifest).encode())
        digest = str(described["digest"])
        annotations = {_NAME: f"{repository}@{digest}", REF_NAME: digest}
        index = {"schemaVersion": 2, "manifests": [{**entry, **described, "annotations": annotations}]}
        _add(new, "index.json", json.dumps(index).encode())
    return digest


def _json(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = archive.extractfile(name)
    assert file is not None
    found: dict[str, Any] = json.load(file)
    return found


def _layer(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        for path, data in files.items():
            _add(layer, path.lstrip("/"), data)
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))


def _add_blob(archive: tarfile.TarFile, data: bytes) -> dict[str, object]:
    """Its digest and size, as descriptors have them."""
    digest = _digest(data)
    _add(archive, _blob(digest), data)
    return {"digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
