"""What the cluster's programs are given: certificates, settings, the pause image."""

import json
import ssl
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from confcom.errors import SettingsError
from e2e.cluster import certificates, components, lifecycle, pause, tools
from e2e.cluster.addresses import CONTROL_PLANE_ADDRESS, NODE_NAME, PAUSE_IMAGE, Places, node_identities
from e2e.cluster.cluster import CONTROL_PLANE

NODES = node_identities(3)


@pytest.fixture
def programs(tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir()
    parts = (f"kube-{part}" for part in ("apiserver", "controller-manager", "scheduler", "proxy"))
    for name in ("containerd", "server", "kubelet", *parts):
        (folder / name).touch()
    return tools.Tools(folders=(folder,), cni=Path("/usr/lib/cni"))


@pytest.fixture
def three(tmp_path, programs):
    """A cluster of three nodes that is about to start."""
    places = Places(tmp_path / "cluster")
    for host in (places.control_plane, *map(places.node, NODES)):
        host.make()
    certificates.write_all(places.certificates, NODES)
    components.write_settings(places, programs, NODES)
    return places


def test_every_component_finds_the_certificates_it_is_told_of(three, programs):
    parts = [*components.control_plane(three, programs, NODES)]
    for node in NODES:
        parts += components.of_node(three, programs, node)
    told = " ".join(" ".join(part.command) for part in parts)
    told += "".join(three.node(node).settings.joinpath("kubelet.json").read_text() for node in NODES)
    named = {word for word in told.replace("=", " ").replace('"', " ").split() if str(three.folder) in word}

    missing = [path for path in named if not Path(path).exists() and Path(path).name != "etcd"]
    assert not missing
    assert len(named) > 25


def test_nodes_share_no_name_address_or_place(three, programs):
    for kind in ("name", "address", "pod_network"):
        assert len({getattr(node, kind) for node in NODES}) == len(NODES)
    hosts = [three.control_plane, *map(three.node, NODES)]
    for kind in ("folder", "settings", "var", "control"):
        assert len({getattr(host, kind) for host in hosts}) == len(hosts)
    own = [" ".join(" ".join(part.command) for part in components.of_node(three, programs, node)) for node in NODES]
    assert len(set(own)) == len(NODES)
    assert NODES[0].name == NODE_NAME


def test_a_component_is_the_control_planes_or_a_nodes(three, programs):
    """`Cluster.stop` looks it up by its name."""
    on_first = [part.name for part in components.control_plane(three, programs, NODES) if not part.host]
    assert set(on_first) == CONTROL_PLANE
    assert not CONTROL_PLANE & {part.name for part in components.of_node(three, programs, NODES[0])}


def test_certificates_are_signed_by_the_authority_and_name_the_user(tmp_path):
    certificates.write_all(tmp_path / "c", NODES)
    authority = x509.load_pem_x509_certificate((tmp_path / "c" / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((tmp_path / "c" / "apiserver.crt").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert CONTROL_PLANE_ADDRESS in {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    for node in NODES:
        its = x509.load_pem_x509_certificate((tmp_path / "c" / f"{node.name}.crt").read_bytes())
        names = its.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [node.address]
    client = x509.load_pem_x509_certificate((tmp_path / "c" / "kubelet-client.crt").read_bytes())
    (organisation,) = client.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert organisation.value == "system:masters"
    ssl.create_default_context(cafile=tmp_path / "c" / "ca.crt").load_cert_chain(
        tmp_path / "c" / "apiserver.crt", tmp_path / "c" / "apiserver.key"
    )


def test_only_the_owner_enters_the_folder_of_keys(tmp_path):
    certificates.write_all(tmp_path / "c", NODES)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700


def test_containerds_settings_are_toml_with_the_local_pause_image(three):
    settings = tomllib.loads((three.node(NODES[1]).settings / "containerd.toml").read_text())["plugins"]
    assert settings["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == PAUSE_IMAGE
    runtime = settings["io.containerd.cri.v1.runtime"]
    assert runtime["cni"]["bin_dirs"] == ["/usr/lib/cni"]
    assert runtime["restrict_oom_score_adj"] is True


def test_the_pause_archive_names_its_image_and_its_layer(tmp_path):
    (tmp_path / "pause").write_bytes(b"a program")
    pause.write_archive(tmp_path / "pause", tmp_path / "pause.tar")
    with tarfile.open(tmp_path / "pause.tar") as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        assert manifest["RepoTags"] == [PAUSE_IMAGE]
        with tarfile.open(fileobj=tar.extractfile(manifest["Layers"][0])) as layer:
            entry = layer.getmember("pause")
            assert (entry.mode, layer.extractfile(entry).read()) == (0o755, b"a program")


def test_modules_are_pinned_with_their_sums():
    for name in {*tools.NAMES, *tools.versions().values()}:
        module = tools.MODULES / name
        assert "\ntool" in (module / "go.mod").read_text()
        assert name == "pause" or (module / "go.sum").stat().st_size > 0


@pytest.mark.parametrize("folder", ["relative", "/tmp/a b", "/tmp/" + "x" * 100])
def test_a_folder_that_cannot_work_is_refused(folder, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with (
        pytest.raises(SettingsError, match="cannot be the cluster's folder"),
        lifecycle.alone(Path(folder), create=False),
    ):
        pass


def test_somebody_elses_folder_is_never_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("e2e.cluster.lifecycle.FOLDER_BYTES", 4096)
    (tmp_path / "precious").touch()
    with pytest.raises(SettingsError, match="holds something else"), lifecycle.alone(tmp_path, create=True):
        pass
    assert (tmp_path / "precious").exists()


def test_a_cluster_that_nobody_holds_does_not_live(tmp_path):
    places = Places(tmp_path)
    assert lifecycle.first_pid(places) is None
    places.alive.write_text("1")
    assert lifecycle.first_pid(places) is None


def test_a_held_file_tells_the_pid(tmp_path):
    places = Places(tmp_path)
    hold = f'exec 9<>"{places.alive}"; flock 9; echo 4711 >&9; echo held; read -r _'
    with subprocess.Popen(["sh", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert lifecycle.first_pid(places) == 4711
        holder.communicate(b"\n")
    assert lifecycle.first_pid(places) is None
