"""What logs and the audit file tell of one answer: who asked what, and the result; never report data or keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetQuoteExRequest, MessageKind, Request, Response
from confcom.quote_helper.transport.peers import GONE, Peer
from confcom.sgx.report import mr_enclave_of


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """One answer."""

    peer: Peer
    kind: MessageKind
    code: int
    """AESM's error code."""
    mr_enclave: bytes = b""
    """Whose report was quoted; empty unless a quote was made. Anyone can write any MRENCLAVE into a report, so it says
    something only after the quoting enclave has accepted the report's MAC."""

    @classmethod
    def of(cls, peer: Peer, request: Request, response: Response) -> Self:
        """Take from a request and its answer what may be told."""
        code = response.error_code
        if code == AesmErrorCode.SUCCESS and isinstance(request, GetQuoteExRequest):
            return cls(peer, request.kind, code, mr_enclave_of(request.report))
        return cls(peer, request.kind, code)

    @property
    def result(self) -> str:
        """The code's name, as metrics have it."""
        return AesmErrorCode(self.code).name.lower()

    def fields(self) -> dict[str, object]:
        """For JSON; `mrenclave` only if a quote was made."""
        fields = {"uid": self.peer.uid} | peer_fields(self.peer)
        fields |= {"pid": self.peer.pid, "call": self.kind.call, "result": self.result}
        if self.mr_enclave:
            fields["mrenclave"] = self.mr_enclave.hex()
        return fields


def peer_fields(peer: Peer) -> dict[str, object]:
    """What is the same for all connections of a peer; texts are empty where they are not known."""
    if peer.key == GONE:
        return {"peers": GONE}
    return {"uid": peer.uid, "pod": peer.pod, "container": peer.container}
