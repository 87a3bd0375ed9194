"""Processes of the hosts, in the order of their start, with all relevant settings that differ from the default."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.addresses import (
    API_PORT,
    CONTAINERD_SOCKET,
    CONTROL_PLANE_ADDRESS,
    ETCD_URL,
    PAUSE_IMAGE,
    POD_NETWORK,
    SERVICE_NETWORK,
    HostPlaces,
    NodeIdentity,
    Places,
)
from e2e.cluster.tools import CNI_FOLDER, Tools

CONTAINERD = f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins.'io.containerd.internal.v1.opt']
path = "/var/lib/containerd/opt"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
pinned_images = {{ sandbox = "{PAUSE_IMAGE}" }}
registry.config_path = "%(settings)s/certs.d"

[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE runc cannot lower a score, and would start nothing ("can't get final child's PID from pipe").
restrict_oom_score_adj = true
disable_apparmor = true
containerd.default_runtime_name = "runc"
containerd.runtimes.runc.runtime_type = "io.containerd.runc.v2"
containerd.runtimes.runc.options.SystemdCgroup = false
cni.bin_dirs = ["%(cni)s"]
cni.conf_dir = "%(settings)s/cni"
"""
"""containerd's settings other than its defaults; docs/how-to/run-the-cluster.md has the reason for each."""


def pod_network(node: NodeIdentity) -> Mapping[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                # Pods are routed and not bridged, because the node must translate Services' replies.
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam",
                    "ranges": [[{"subnet": node.pod_network}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_configuration(certificates: Path, host: HostPlaces) -> Mapping[str, Any]:
    """The kubelet's file. Defaults that affect tests are kept: timing, feature gates, eviction of Pods."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": str(certificates / "ca.crt")}},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "resolvConf": str(host.settings / "resolv.conf"),
        "makeIPTablesUtilChains": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # The nodes share the machine's disk, whose free space must not affect the tests.
        "evictionHard": {
            "memory.available": "50Mi",  # the kubelet refuses zero
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


@dataclass(frozen=True, slots=True)
class Component:
    """One process, or a host with a control group and namespaces of its own.

    `ready` is a URL or the path of a unix socket. Others may use the component when the URL answers 200, or
    when the socket accepts connections. `ready` is empty if no other component waits for this one.
    """

    name: str
    command: tuple[str, ...]
    ready: str = ""
    host: bool = False


def write_settings(places: Places, nodes: Sequence[NodeIdentity]) -> None:
    for node in nodes:
        host = places.node(node)
        network = host.settings / "cni"
        network.mkdir()
        (network / "10-pods.conflist").write_text(json.dumps(pod_network(node), indent=1))
        containerd = CONTAINERD % {"cni": CNI_FOLDER, "settings": host.settings}
        (host.settings / "containerd.toml").write_text(containerd)
        kubelet = kubelet_configuration(places.certificates, host)
        (host.settings / "kubelet.json").write_text(json.dumps(kubelet, indent=1))
        (host.settings / "resolv.conf").write_text("# No name server: this cluster has no DNS.\n")


def control_plane(places: Places, tools: Tools, nodes: Sequence[NodeIdentity]) -> tuple[Component, ...]:
    """Components of the first host, nodes last. A component may use earlier components that have `ready`."""
    c = places.certificates
    etcd = etcd_flags(places.control_plane.folder / "etcd", ETCD_URL, "http://127.0.0.1:2380")
    api_server = f"https://{CONTROL_PLANE_ADDRESS}:{API_PORT}"

    def control(name: str, *settings: str) -> Component:
        own = (f"--kubeconfig={c / name}.kubeconfig", "--leader-elect=false")
        return Component(name, _program(tools, f"kube-{name}", *own, *settings))

    return (
        Component("etcd", _program(tools, "server", *etcd), f"{ETCD_URL}/health"),
        Component("apiserver", _program(tools, "kube-apiserver", *_api_server(c)), f"{api_server}/readyz"),
        control(
            "controller-manager",
            "--bind-address=127.0.0.1",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={c / 'accounts.key'}",
            f"--root-ca-file={c / 'ca.crt'}",
            f"--cluster-signing-cert-file={c / 'ca.crt'}",
            f"--cluster-signing-key-file={c / 'ca.key'}",
            f"--cluster-cidr={POD_NETWORK}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins",
            "--vmodule=daemon_controller=4",  # logs which event the DaemonSet controller got, and when it reconciled
        ),
        control("scheduler", "--bind-address=127.0.0.1"),
        *(
            Component(
                node.name,
                (sys.executable, "-m", "e2e.cluster.host", str(places.folder), str(node.number)),
                str(places.node(node).control),
                host=True,
            )
            for node in nodes
        ),
    )


def of_node(places: Places, tools: Tools, node: NodeIdentity) -> tuple[Component, ...]:
    host = places.node(node)
    c = places.certificates
    containerd = f"--config={host.settings / 'containerd.toml'}"
    return (
        Component("containerd", _program(tools, "containerd", containerd), str(CONTAINERD_SOCKET)),
        Component(
            "proxy",
            _program(
                tools,
                "kube-proxy",
                f"--kubeconfig={c / 'proxy.kubeconfig'}",
                f"--hostname-override={node.name}",
                f"--cluster-cidr={POD_NETWORK}",
                "--proxy-mode=iptables",
                "--conntrack-max-per-core=0",  # this limit is for the whole machine
            ),
        ),
        Component(
            "kubelet",
            _program(
                tools,
                "kubelet",
                f"--config={host.settings / 'kubelet.json'}",
                f"--kubeconfig={c / f'{node.name}.kubeconfig'}",
                f"--hostname-override={node.name}",
                f"--node-ip={node.address}",
                "--v=2",  # at this level, the device manager logs its actions, with little else
            ),
            "http://127.0.0.1:10248/healthz",
        ),
    )


def _program(tools: Tools, name: str, *settings: str) -> tuple[str, ...]:
    return (str(tools.path(name)), *settings)


def etcd_flags(data: Path, client: str, peer: str) -> tuple[str, ...]:
    return (
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # the cluster does not survive a stop of the machine anyway
    )


def _api_server(c: Path) -> tuple[str, ...]:
    return (
        f"--etcd-servers={ETCD_URL}",
        f"--advertise-address={CONTROL_PLANE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={c / 'apiserver.crt'}",
        f"--tls-private-key-file={c / 'apiserver.key'}",
        f"--client-ca-file={c / 'ca.crt'}",
        f"--kubelet-client-certificate={c / 'kubelet-client.crt'}",
        f"--kubelet-client-key={c / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={c / 'accounts.pub'}",
        f"--service-account-signing-key-file={c / 'accounts.key'}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    )
