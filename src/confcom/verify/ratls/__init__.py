"""RA-TLS: a TLS peer's certificate carries a quote that binds the peer's key, and a policy decides on the quote.

with httpx2.Client(transport=RatlsTransport(policy, collateral)) as client:
    client.post("https://enclave.example/secrets", json=secret)

The quote replaces certificate authorities. The quote is verified after the handshake, which proves that the
peer has the key, and before the first byte of application data is sent. The package needs the extra `ratls`.
"""

from confcom.extras import require

for _module in ("cbor2", "httpx2"):
    require(_module, "ratls")

from confcom.verify.ratls.certificate import CollateralInput, make_certificate, verify_certificate  # noqa: E402
from confcom.verify.ratls.evidence import Evidence, Form, KeyBindingError, RatlsError, read_evidence  # noqa: E402
from confcom.verify.ratls.tls import (  # noqa: E402
    AttestedSocket,
    ConnectError,
    RatlsTransport,
    client_context,
    connect,
)

__all__ = [
    "AttestedSocket",
    "CollateralInput",
    "ConnectError",
    "Evidence",
    "Form",
    "KeyBindingError",
    "RatlsError",
    "RatlsTransport",
    "client_context",
    "connect",
    "make_certificate",
    "read_evidence",
    "verify_certificate",
]
