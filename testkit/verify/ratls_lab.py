"""Certificates of RA-TLS in every form, with quotes of the simulated platform, and a TLS service that shows one."""

import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field, replace

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from confcom.sgx.report import report_data
from confcom.simulation.keys import derive_private_key
from confcom.verify.ratls import Form, verify_certificate
from testkit.verify.verify_lab import NOW, OTHER_KEY, SEED

KEY, OTHER = derive_private_key(SEED, "a service's key"), OTHER_KEY
OIDS = {
    Form.INTEROPERABLE: "2.23.133.5.4.9",
    Form.GRAMINE: "0.6.9.42.840.113741.1337.6",  # its malformed octets, read as an OID
    Form.INTEL_SDK: "1.2.840.113741.1.13.1",
    Form.OPEN_ENCLAVE: "1.3.6.1.4.1.311.105.1",
    Form.OPEN_ENCLAVE_EVIDENCE: "1.3.6.1.4.1.311.105.2",
}
HASHES = {1: hashlib.sha256, 7: hashlib.sha384, 8: hashlib.sha512}


def spki(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem_of(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims_for(key, algorithm=1, more=None):
    entry = cbor2.dumps([algorithm, HASHES[algorithm](spki(key)).digest()])
    return cbor2.dumps({"pubkey-hash": entry, **(more or {})})


def interoperable(quote_over, key, algorithm=1):
    claims = claims_for(key, algorithm)
    return cbor2.dumps(cbor2.CBORTag(60000, [quote_over(claims), claims]))


def open_enclave(quote):
    """The report header, as Open Enclave's internal/report.h has it, and the quote."""
    return struct.pack("<IIQ", 1, 2, len(quote)) + quote


def open_enclave_evidence(quote, claims, version=3, format_id="a3a21e871b4d4014b70aa125d2fbcd8c"):
    """The attestation header, as Open Enclave's common/attest_plugin.h has it, the quote and the custom claims."""
    return struct.pack("<I16sQ", version, bytes.fromhex(format_id), len(quote + claims)) + quote + claims


def certificate_with(values, key):
    """A self-signed certificate, PEM, with these extensions by form."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW.replace(year=2028))
    for form, value in values.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(OIDS[form]), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class Peer:
    """A lab's enclave or TD, as a relying party knows it."""

    lab: object
    evidence: object
    policy: object
    collateral: object
    root: object

    @classmethod
    def of(cls, lab):
        evidence, policy = lab.evidence(), replace(lab.policy, report_data=None)
        return cls(lab, evidence, policy, evidence.collateral.prepared(evidence.trusted, NOW), evidence.trusted)

    def demanding(self, **demands):
        return replace(self.policy, **demands)

    def quote_for(self, report_data):
        return self.lab.quote(report_data)

    def quote_over(self, data):
        return self.quote_for(report_data(hashlib.sha256(data).digest()))

    def verdict(self, certificate, *, nonce=None, **demands):
        return verify_certificate(certificate, self.demanding(**demands), self.collateral, self.root, NOW, nonce=nonce)

    @property
    def arguments(self):
        return {"policy": self.policy, "collateral": self.collateral, "root": self.root, "now": NOW}


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@dataclass
class Service:
    """Bytes that a TLS service received, by connection, after the handshake."""

    port: int
    received: list = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)


def write_identity(directory, certificate, key):
    file = directory / "service.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    return file


@contextlib.contextmanager
def serving(certificate, key, directory, versions=None):
    """A TLS service on this machine: it answers every request, and keeps what it received."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if versions:
        context.maximum_version = versions
    context.load_cert_chain(write_identity(directory, certificate, key))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = Service(listener.getsockname()[1])

        def serve():
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                plain.settimeout(10)
                with plain, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                    service.received.append(b"")
                    while data := connection.recv(4096):
                        service.received[-1] += data
                        if service.received[-1].endswith(b"\r\n\r\n"):
                            connection.sendall(ANSWER)
                service.closed.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield service
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(15)
            assert not thread.is_alive()
