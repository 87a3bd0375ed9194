"""An image with other environment variables, and nothing else changed."""

import hashlib
import io
import json
import tarfile

import pytest

from e2e.image_archive import REFERENCE, with_environment

LAYERS = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + "1" * 64, "size": 7}]
CONFIG = {"architecture": "amd64", "config": {"Env": ["PATH=/bin"], "User": "10002"}, "rootfs": {"type": "layers"}}


def described(content):
    text = json.dumps(content).encode()
    return text, {"digest": f"sha256:{hashlib.sha256(text).hexdigest()}", "size": len(text)}


def files_of(path):
    with tarfile.open(path) as archive:
        return {name: archive.extractfile(name).read() for name in archive.getnames()}


@pytest.fixture
def source(tmp_path):
    config, config_entry = described(CONFIG)
    manifest, manifest_entry = described({"mediaType": "manifest", "config": config_entry, "layers": LAYERS})
    index = json.dumps({"manifests": [manifest_entry]}).encode()
    blobs = {f"blobs/sha256/{hashlib.sha256(text).hexdigest()}": text for text in (config, manifest)}
    with tarfile.open(tmp_path / "source.tar", "w") as archive:
        for name, content in {"index.json": index, **blobs}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return tmp_path / "source.tar"


def test_the_environment_is_all_that_differs(source, tmp_path):
    with_environment(source, tmp_path / "t.tar", reference="example.com/a:1", variables={"SGX_AESM_ADDR": "1"})

    files = files_of(tmp_path / "t.tar")
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files[f"blobs/{entry['digest'].replace(':', '/')}"])
    config = json.loads(files[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])
    assert entry["annotations"] == {REFERENCE: "example.com/a:1"}
    assert manifest["layers"] == LAYERS
    assert config.pop("config") == {"Env": ["PATH=/bin", "SGX_AESM_ADDR=1"], "User": "10002"}
    assert config == {"architecture": "amd64", "rootfs": {"type": "layers"}}


def test_every_blob_has_the_name_and_size_that_it_is_known_by(source, tmp_path):
    with_environment(source, tmp_path / "t.tar", reference="example.com/a:1", variables={"A": "b"})

    files = files_of(tmp_path / "t.tar")
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert len(blobs) == 2
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = blobs[f"blobs/{entry['digest'].replace(':', '/')}"]
    assert entry["size"] == len(manifest)
    config = json.loads(manifest)["config"]
    assert config["size"] == len(blobs[f"blobs/{config['digest'].replace(':', '/')}"])
