"""The versioned JSON document at a quote helper's `/platform`: for which TCB the node's PCK certificate was issued.

The document has nothing that identifies a platform: no PPID, platform instance id, QE id, serial number or quote.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx.pck.chain import PCK_CAS, pck_ca
from confcom.sgx.pck.extension import (
    FMSPC_SIZE,
    MAX_COMPONENT_SVN,
    MAX_PCE_SVN,
    PCE_ID_SIZE,
    TCB_COMPONENT_COUNT,
    PckExtension,
)
from confcom.sgx.signed_json import JsonObject

PAGE_VERSION: Final = 1
"""The document's version; it increases if a member is removed or gets a new meaning, not for new members."""
NO_QUOTE: Final = "no quote yet"
_DATE: Final = "%Y-%m-%dT%H:%M:%SZ"


class SgxKind(StrEnum):
    HARDWARE = "hardware"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class CertifiedTcb:
    """What a PCK certificate says about its platform's TCB."""

    fmspc: bytes
    pce_id: bytes
    ca: str
    """The certificate's issuer: one of PCK_CAS."""
    components: tuple[int, ...]
    """SVNs of the 16 components."""
    pce_svn: int
    not_after: datetime
    """The last instant at which the certificate is valid."""

    @classmethod
    def of(cls, pck: x509.Certificate) -> Self:
        """Raise MalformedError if the certificate has no SGX extension that can be read."""
        own = PckExtension.from_certificate(pck)
        ca, end = pck_ca(pck.issuer), pck.not_valid_after_utc
        return cls(own.fmspc, own.pce_id, ca, own.tcb.components, own.tcb.pce_svn, end)


@dataclass(frozen=True, slots=True)
class PlatformPage:
    kind: SgxKind
    tcb: CertifiedTcb | None = None
    """None if it is not known, for example before the first quote of hardware; then `why` says why."""
    known_since: datetime | None = None
    """The instant at which the helper learned this TCB, by the node's clock."""
    why: str = NO_QUOTE

    def to_json(self) -> bytes:
        page: dict[str, object] = {"version": PAGE_VERSION, "platform": self.kind, "tcb": None}
        if (tcb := self.tcb) and self.known_since:
            page["tcb"] = {
                "fmspc": tcb.fmspc.hex(),
                "pce_id": tcb.pce_id.hex(),
                "ca": tcb.ca,
                "components": tcb.components,
                "pce_svn": tcb.pce_svn,
                "pck_not_after": tcb.not_after.strftime(_DATE),
                "known_since": self.known_since.strftime(_DATE),
            }
        else:
            page["why"] = self.why
        return json.dumps(page, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Parse a document, which may be untrusted: any container on the network could have sent it."""
        try:
            page = JsonObject.of(json.loads(document), "the page")
        except (ValueError, RecursionError) as error:
            raise _malformed("it is not JSON") from error
        kind = next((kind for kind in SgxKind if kind == page.text("platform")), None)
        if page.integer("version") != PAGE_VERSION or kind is None:
            raise _malformed(f"it is not of version {PAGE_VERSION}, or of an unknown kind of platform")
        if page.members.get("tcb", "") is None:
            return cls(kind, why=page.text("why"))
        tcb = page.child("tcb")
        svns = tcb.integers("components", MAX_COMPONENT_SVN)
        if tcb.text("ca") not in PCK_CAS or len(svns) != TCB_COMPONENT_COUNT:
            raise _malformed(f"its CA is unknown, or it does not have {TCB_COMPONENT_COUNT} components")
        fmspc, pce_id = tcb.hexadecimal("fmspc", FMSPC_SIZE), tcb.hexadecimal("pce_id", PCE_ID_SIZE)
        pce_svn, end = tcb.integer("pce_svn", MAX_PCE_SVN), tcb.date("pck_not_after")
        return cls(kind, CertifiedTcb(fmspc, pce_id, tcb.text("ca"), svns, pce_svn, end), tcb.date("known_since"))


def _malformed(why: str) -> MalformedError:
    return MalformedError("the page cannot be used", error_code="platform-malformed", why=why)
