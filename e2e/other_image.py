"""A second image, derived from a built image; it has another digest, and further differences on request."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e import images
from e2e.cluster import Cluster
from e2e.cluster.pause import tar_of
from e2e.images import REF_NAME, REGISTRY

LABEL = "org.opencontainers.image.revision"
"""Label with an image's source revision. Another value makes a second image that behaves like the first."""

_NAME = "io.containerd.image.name"
"""Annotation with a full image name, which containerd's import uses."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Differences of an image: files keyed by absolute path, program, default arguments, and further variables."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    arguments: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def import_other(
    cluster: Cluster, folder: Path, image: str, *, repository: str = "", changes: Changes | None = None
) -> str:
    """Derive an image from a built image; import it on every node; return its name, `REPOSITORY@DIGEST`."""
    archive, name = folder / "other-image.tar", f"{REGISTRY}/{repository or f'confcom/{image}'}"
    digest = _derive(images.build_all().archive(image), archive, name, changes or Changes())
    cluster.import_image(archive)
    archive.unlink()
    return f"{name}@{digest}"


def digest_of(name: str) -> str:
    return name.partition("@")[2]


def with_digest(component: str, digest: str) -> str:
    """Return the option of `confcom update` that chooses a component's image."""
    value = {"device-plugin": "devicePlugin", "quote-helper": "quoteHelper"}[component]
    return f"--set={value}.image.digest={digest}"


def _derive(archive: Path, result: Path, repository: str, changes: Changes) -> str:
    """Write an OCI archive of the derived image under one name; return the image's digest."""
    with tarfile.open(archive) as old, tarfile.open(result, "w") as new:
        (entry,) = _json(old, "index.json")["manifests"][:1]
        manifest = _json(old, _blob(entry["digest"]))
        config = _json(old, _blob(manifest["config"]["digest"]))
        program = config["config"]
        program.setdefault("Labels", {})[LABEL] = secrets.token_hex(4)
        program["Env"] = [*program.get("Env", []), *(f"{name}={value}" for name, value in changes.variables.items())]
        if changes.entrypoint:
            program["Entrypoint"] = list(changes.entrypoint)
        if changes.arguments:
            program["Cmd"] = list(changes.arguments)
        replaced = {"index.json", _blob(entry["digest"]), _blob(manifest["config"]["digest"])}
        for member in old.getmembers():
            if member.name not in replaced:
                new.addfile(member, old.extractfile(member))
        if changes.files:
            layer = tar_of({path.lstrip("/"): (data, 0o644) for path, data in changes.files.items()})
            config["rootfs"]["diff_ids"].append(_digest(layer))
            config.setdefault("history", []).append({"created_by": "e2e.other_image"})
            media_type = manifest["layers"][-1]["mediaType"]
            packed = _add_blob(new, gzip.compress(layer, mtime=0))
            manifest["layers"].append({"mediaType": media_type, **packed})
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


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))


def _add_blob(archive: tarfile.TarFile, data: bytes) -> dict[str, object]:
    digest = _digest(data)
    _add(archive, _blob(digest), data)
    return {"digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
