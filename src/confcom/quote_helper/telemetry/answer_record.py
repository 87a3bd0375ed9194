"""The record of one answer in the log: peer, request and result; never report data or keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetQuoteExRequest, MessageKind, Request, Response
from confcom.quote_helper.transport.peers import GONE, Peer
from confcom.sgx.report import mr_enclave_of


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """The peer, request and result of one answer."""

    peer: Peer
    kind: MessageKind
    code: int
    """AESM's error code."""
    mr_enclave: bytes = b""
    """MRENCLAVE of the quoted report; empty unless a quote was made. Anyone can write any MRENCLAVE into a report, so
    it is meaningful only after the quoting enclave has accepted the report's MAC."""

    @classmethod
    def of(cls, peer: Peer, request: Request, response: Response) -> Self:
        """Return the record of a request and its answer."""
        code = response.error_code
        if code == AesmErrorCode.SUCCESS and isinstance(request, GetQuoteExRequest):
            return cls(peer, request.kind, code, mr_enclave_of(request.report))
        return cls(peer, request.kind, code)

    @property
    def result(self) -> str:
        """The code's name, as in metrics."""
        return AesmErrorCode(self.code).name.lower()

    def fields(self) -> dict[str, object]:
        """Return the fields for JSON; `mrenclave` is present only if a quote was made."""
        fields = {"uid": self.peer.uid} | peer_fields(self.peer)
        fields |= {"pid": self.peer.pid, "call": self.kind.call, "result": self.result}
        if self.mr_enclave:
            fields["mrenclave"] = self.mr_enclave.hex()
        return fields


def peer_fields(peer: Peer) -> dict[str, object]:
    """Return the fields that are equal for all connections of a peer; values that are not known are empty."""
    if peer.key == GONE:
        return {"peers": GONE}
    return {"uid": peer.uid, "pod": peer.pod, "container": peer.container}
