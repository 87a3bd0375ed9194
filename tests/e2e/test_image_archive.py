"""An image with other environment variables or arguments, and nothing else changed."""

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


def config_of(files):
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files[f"blobs/{entry['digest'].replace(':', '/')}"])
    return json.loads(files[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])["config"]


def test_arguments_are_for_containers_that_have_none(source, tmp_path):
    target = tmp_path / "t.tar"
    with_environment(source, target, reference="example.com/a:1", variables={}, arguments=("--hold", "60"))
    assert config_of(files_of(target)) == CONFIG["config"] | {"Cmd": ["--hold", "60"]}


def test_the_environment_is_all_that_differs_and_blobs_have_the_name_and_size_that_they_are_known_by(source, tmp_path):
    with_environment(source, tmp_path / "t.tar", reference="example.com/a:1", variables={"SGX_AESM_ADDR": "1"})

    files = files_of(tmp_path / "t.tar")
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert {f"blobs/sha256/{hashlib.sha256(content).hexdigest()}" for content in blobs.values()} == set(blobs)
    assert len(blobs) == 2
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {REFERENCE: "example.com/a:1"}
    text = blobs[f"blobs/{entry['digest'].replace(':', '/')}"]
    assert entry["size"] == len(text)
    manifest = json.loads(text)
    assert manifest["layers"] == LAYERS
    text = blobs[f"blobs/{manifest['config']['digest'].replace(':', '/')}"]
    assert manifest["config"]["size"] == len(text)
    config = json.loads(text)
    assert config.pop("config") == {"Env": ["PATH=/bin", "SGX_AESM_ADDR=1"], "User": "10002"}
    assert config == {"architecture": "amd64", "rootfs": {"type": "layers"}}
