"""Another image made of one: what containerd's import reads is consistent, and what was there stays."""

import gzip
import hashlib
import io
import json
import tarfile

import pytest

from e2e.other_image import LABEL, derive

MANIFEST, CONFIG = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def blob(files, data):
    digest = hashlib.sha256(data).hexdigest()
    files[f"blobs/sha256/{digest}"] = data
    return {"digest": f"sha256:{digest}", "size": len(data)}


@pytest.fixture
def archive(tmp_path):
    """An image of one layer."""
    files = {"oci-layout": b"{}"}
    layer = blob(files, gzip.compress(b"layer"))
    content = {"config": {"User": "1"}, "rootfs": {"type": "layers", "diff_ids": ["sha256:of-the-layer"]}}
    config = blob(files, json.dumps(content).encode())
    manifest = {"config": {"mediaType": CONFIG, **config}, "layers": [{"mediaType": LAYER, **layer}]}
    entry = {"mediaType": MANIFEST, **blob(files, json.dumps(manifest).encode()), "annotations": {"name": "old"}}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    path = tmp_path / "old.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def read(path):
    """The single image of an archive, each of its blobs checked against its digest and size."""
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}

    def get(descriptor):
        data = files["blobs/" + descriptor["digest"].replace(":", "/")]
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor["digest"]
        assert len(data) == descriptor["size"]
        return data

    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(get(entry))
    return entry, json.loads(get(manifest["config"])), [get(layer) for layer in manifest["layers"]]


def test_another_label_is_another_digest_over_the_same_layers(archive, tmp_path):
    first, second = (derive(archive, tmp_path / f"{n}.tar", "example.com/it", revision=n) for n in ("1", "2"))
    assert first != second
    entry, config, layers = read(tmp_path / "1.tar")
    assert entry["digest"] == first
    assert f"example.com/it@{first}" in entry["annotations"].values()
    assert "old" not in entry["annotations"].values()
    assert config["config"] == {"User": "1", "Labels": {LABEL: "1"}}
    assert layers == read(archive)[2]


def test_files_come_as_a_layer_on_top(archive, tmp_path):
    derive(archive, tmp_path / "new.tar", "example.com/it", revision="1", files={"/opt/one": b"content"})
    _, config, layers = read(tmp_path / "new.tar")
    old, added = layers
    assert [old] == read(archive)[2]
    unpacked = gzip.decompress(added)
    assert config["rootfs"]["diff_ids"] == ["sha256:of-the-layer", f"sha256:{hashlib.sha256(unpacked).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as layer:
        assert layer.extractfile("opt/one").read() == b"content"
