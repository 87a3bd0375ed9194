"""The cluster's keys: an authority, the API server's certificate, and kubeconfigs."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster.addresses import API_PORT, API_SERVICE_ADDRESS, CONTROL_PLANE_ADDRESS, CONTROL_PLANE_NAME, NodeIdentity

VALIDITY = dt.timedelta(days=30)
"""Validity of certificates: longer than a cluster is kept, but short, as keys are in a temporary folder."""

CLOCK_SKEW = dt.timedelta(hours=1)
"""How far back certificates are valid, so that they stay valid if the clock is set back later."""

CLIENTS = {
    "admin": ("kubernetes-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
}
"""User and group of each API client that gets a kubeconfig, as in Kubernetes' built-in roles."""

NODES_GROUP = "system:nodes"
"""Group of the kubelets; each kubelet has its own user, `system:node:NAME`."""

API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", CONTROL_PLANE_NAME)
API_ADDRESSES = (API_SERVICE_ADDRESS, CONTROL_PLANE_ADDRESS, "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Issued:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str) -> None:
        (folder / f"{name}.crt").write_bytes(self.certificate_pem)
        (folder / f"{name}.key").write_bytes(self.key_pem)


def write_all(folder: Path, nodes: Sequence[NodeIdentity]) -> None:
    """Write new keys into a folder that only its owner may enter: `NAME.crt`, `NAME.key`, `NAME.kubeconfig`."""
    folder.mkdir(mode=0o700)
    authority = issue("confcom-e2e", None)
    authority.write(folder, "ca")
    issue("kube-apiserver", authority, names=API_NAMES, addresses=API_ADDRESSES).write(folder, "apiserver")
    clients = dict(CLIENTS)
    for node in nodes:
        clients[node.name] = (f"system:node:{node.name}", NODES_GROUP)
    issue("kube-apiserver-kubelet-client", authority, group="system:masters").write(folder, "kubelet-client")
    write_accounts(folder)
    there = {
        "server": f"https://{CONTROL_PLANE_ADDRESS}:{API_PORT}",
        "certificate-authority-data": base64.b64encode(authority.certificate_pem).decode(),
    }
    for name, (user, group) in clients.items():
        client = issue(user, authority, group=group)
        keys = {"client-certificate-data": client.certificate_pem, "client-key-data": client.key_pem}
        inline = {key: base64.b64encode(pem).decode() for key, pem in keys.items()}
        (folder / f"{name}.kubeconfig").write_text(kubeconfig(there, inline, "confcom-e2e"))


def write_accounts(folder: Path) -> None:
    accounts = ec.generate_private_key(ec.SECP256R1())
    (folder / "accounts.key").write_bytes(accounts.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = accounts.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.pub").write_bytes(public)


def issue(
    common_name: str,
    authority: Issued | None,
    *,
    group: str | None = None,
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> Issued:
    """A certificate of a new key, signed by this authority; without an authority, make a new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    subject = x509.Name(attributes)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if authority:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Issued(builder.sign(authority.key if authority else key, hashes.SHA256()), key)


def kubeconfig(cluster: Mapping[str, str], user: Mapping[str, Any], context: str) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "there", "cluster": cluster}],
        "users": [{"name": "somebody", "user": user}],
        "contexts": [{"name": context, "context": {"cluster": "there", "user": "somebody"}}],
        "current-context": context,
    }
    return json.dumps(content, indent=1)
