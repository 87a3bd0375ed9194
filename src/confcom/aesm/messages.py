"""AESM's requests and responses as typed values.

`request_checks` checks the values of the messages' fields; `message_codec` encodes and decodes the messages.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from confcom.sgx.report import QeReportInfo, TargetInfo


@dataclass(frozen=True, slots=True)
class QuotingTarget:
    """The target info for reports, and the id of the key that will sign the quote."""

    target_info: TargetInfo
    """The target info of the quoting enclave."""
    pub_key_id: bytes
    """SHA-256 of the attestation public key and the QE's authentication data: 32 bytes."""


@dataclass(frozen=True, slots=True)
class AesmQuote:
    """A quote and, if it was requested, the quoting enclave's own report about the quote."""

    quote: bytes
    """The quote, without padding."""
    qe_report_info: QeReportInfo | None = None
    """The request's nonce and target info, with the quoting enclave's report; None if no report was requested."""


class MessageKind(IntEnum):
    """Protobuf field numbers of requests; a response has the number of its request."""

    INIT_QUOTE = 1
    GET_QUOTE = 2
    GET_LIC_TOKEN = 3
    REPORT_ERR = 4
    GET_WHITE_LIST_SIZE = 10
    GET_WHITE_LIST = 11
    SGX_GET_EXTENDED_EPID_GROUP_ID = 12
    SGX_SWITCH_EXTENDED_EPID_GROUP = 13
    SGX_REGISTER = 14
    INIT_QUOTE_EX = 15
    GET_QUOTE_SIZE_EX = 16
    GET_QUOTE_EX = 17
    CHECK_UPDATE_STATUS = 18
    SELECT_ATT_KEY_ID = 19
    GET_SUPPORTED_ATT_KEY_ID_NUM = 21
    GET_SUPPORTED_ATT_KEY_IDS = 22

    @property
    def call(self) -> str:
        """The call's name as in Intel's documents, for messages and metrics."""
        return "".join(part.capitalize() for part in self.name.split("_")).replace("KeyId", "KeyID")


@dataclass(frozen=True, slots=True)
class InitQuoteExRequest:
    """Ask for the quoting enclave's target info or, without b_pub_key_id, for the public key id's size.

    The unit of `timeout` differs between clients (Intel: ms, Fortanix: us). So no server can honour
    `timeout`; Intel's server ignores it.
    """

    kind: ClassVar = MessageKind.INIT_QUOTE_EX

    b_pub_key_id: bool
    att_key_id: bytes | None = None
    buf_size: int | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class GetQuoteSizeExRequest:
    kind: ClassVar = MessageKind.GET_QUOTE_SIZE_EX

    att_key_id: bytes | None = None
    timeout: int | None = None


@dataclass(slots=True)
class GetQuoteExRequest:
    """Ask for a quote of a report and, with qe_report_info, for the QE's own report about the quote."""

    kind: ClassVar = MessageKind.GET_QUOTE_EX

    report: Final[bytes]
    buf_size: Final[int]
    att_key_id: Final[bytes | None] = None
    qe_report_info: Final[bytes | None] = None
    timeout: Final[int | None] = None


@dataclass(frozen=True, slots=True)
class SelectAttKeyIdRequest:
    """Ask which of the listed keys the service supports or, without a list, which key the service prefers."""

    kind: ClassVar = MessageKind.SELECT_ATT_KEY_ID

    att_key_id_list: bytes | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdNumRequest:
    """Ask for the number of supported attestation keys; Open Enclave asks once per process, even after failures."""

    kind: ClassVar = MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM

    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdsRequest:
    """Ask for the supported attestation key ids; `buf_size` must be exactly their total size."""

    kind: ClassVar = MessageKind.GET_SUPPORTED_ATT_KEY_IDS

    buf_size: int
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class LegacyRequest:
    """A request about EPID, launch tokens or the white list. Only the field number is read, no content."""

    kind: MessageKind


@dataclass(frozen=True, slots=True)
class IncompleteRequest:
    """A request of a known kind without all required fields. The answer is an error response of this kind."""

    kind: MessageKind


@dataclass(frozen=True, slots=True)
class InitQuoteExResponse:
    """Target info and public key id. `pub_key_id_size` is 32 on success, and the requested size on failure."""

    kind: ClassVar = MessageKind.INIT_QUOTE_EX

    error_code: int
    target_info: bytes | None = None
    pub_key_id_size: int | None = None
    pub_key_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class GetQuoteSizeExResponse:
    kind: ClassVar = MessageKind.GET_QUOTE_SIZE_EX

    error_code: int
    quote_size: int | None = None
    """Bytes; 0 on failure."""


@dataclass(slots=True)
class GetQuoteExResponse:
    """A quote, padded with zeros to the requested buffer size."""

    kind: ClassVar = MessageKind.GET_QUOTE_EX

    error_code: Final[int]
    quote: Final[bytes | None] = None
    qe_report_info: Final[bytes | None] = None


@dataclass(frozen=True, slots=True)
class SelectAttKeyIdResponse:
    kind: ClassVar = MessageKind.SELECT_ATT_KEY_ID

    error_code: int
    selected_att_key_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdNumResponse:
    kind: ClassVar = MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM

    error_code: int
    att_key_id_num: int | None = None
    """0 on failure."""


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdsResponse:
    kind: ClassVar = MessageKind.GET_SUPPORTED_ATT_KEY_IDS

    error_code: int
    att_key_ids: bytes | None = None
    """Key ids of 256 bytes each, concatenated."""


@dataclass(frozen=True, slots=True)
class LegacyResponse:
    """The error response to a legacy request; all other numeric fields of the response are 0."""

    kind: MessageKind
    error_code: int


QuotingRequest = (
    InitQuoteExRequest
    | GetQuoteSizeExRequest
    | GetQuoteExRequest
    | SelectAttKeyIdRequest
    | GetSupportedAttKeyIdNumRequest
    | GetSupportedAttKeyIdsRequest
)
Request = QuotingRequest | LegacyRequest | IncompleteRequest
QuotingResponse = (
    InitQuoteExResponse
    | GetQuoteSizeExResponse
    | GetQuoteExResponse
    | SelectAttKeyIdResponse
    | GetSupportedAttKeyIdNumResponse
    | GetSupportedAttKeyIdsResponse
)
Response = QuotingResponse | LegacyResponse
