"""What the AESM service answers, call by call, with times; it makes no quote, since the only report has a wrong MAC."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.aesm.errors import AesmError
from confcom.aesm.messages import (
    GetQuoteExRequest,
    GetQuoteSizeExRequest,
    GetQuoteSizeExResponse,
    GetSupportedAttKeyIdNumRequest,
    GetSupportedAttKeyIdNumResponse,
    GetSupportedAttKeyIdsRequest,
    GetSupportedAttKeyIdsResponse,
    InitQuoteExRequest,
    InitQuoteExResponse,
    QuotingRequest,
    QuotingResponse,
)
from confcom.aesm.request_checks import MAX_LISTED_KEY_IDS, MAX_QUOTE_BUFFER_SIZE, PUB_KEY_ID_SIZE
from confcom.client.blocking import AesmClient
from confcom.client.conversation import TIMEOUT_FIELD_MS, Conversation
from confcom.errors import ConfcomError, MalformedError
from confcom.hardware_report.document.redaction import Secrets, Value, redacted
from confcom.hardware_report.document.report import Finding
from confcom.sgx.key_id import ATT_KEY_ID_COMPARED, ATT_KEY_ID_SIZE, ECDSA_P256_KEY_ID, INTEL_QE_MRSIGNER, AttKeyId
from confcom.sgx.report import KEY_ID_SIZE, MAC_SIZE, AttributeFlag, Report, ReportBody, TargetInfo

Clock = Callable[[], float]

ENCRYPTED_PPID_QUOTE_SIZE: Final = 1456
"""Bytes of a quote with an encrypted PPID in place of certificates."""
DEFAULT_QUOTE_BUFFER: Final = 8192
"""For the wrong report, if the service does not tell the size of a quote."""
_KEY_ID: Final = ECDSA_P256_KEY_ID.encode()
WRONG_REPORT: Final = Report(
    ReportBody(
        cpu_svn=bytes(16),
        misc_select=0,
        reserved1=bytes(12),
        isv_ext_prod_id=bytes(16),
        flags=AttributeFlag.INITTED | AttributeFlag.MODE64BIT,
        xfrm=3,
        mr_enclave=bytes(32),
        reserved2=bytes(32),
        mr_signer=bytes(32),
        reserved3=bytes(32),
        config_id=bytes(64),
        isv_prod_id=0,
        isv_svn=0,
        config_svn=0,
        reserved4=bytes(42),
        isv_family_id=bytes(16),
        report_data=bytes(64),
    ).encode(),
    key_id=bytes(KEY_ID_SIZE),
    mac=b"\x5a" * MAC_SIZE,
)
"""A report that no processor made: a quoting enclave must refuse it."""

REFUSALS_OF_WRONG_MAC: Final = frozenset({AesmErrorCode.INVALID_REPORT, AesmErrorCode.ATT_KEY_NOT_INITIALIZED})
"""The second is our own quote helper's for a week after its start, since clients may have an older target info."""


@dataclass
class Answers:
    """What the calls gave."""

    values: dict[str, Value] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    secrets: Secrets = field(default_factory=Secrets)


class NoAnswerError(Exception):
    """The service cannot be reached, or did not answer: further calls would only wait again."""


def ask_service(client: AesmClient, clock: Clock) -> Answers:
    """Make each call once, in the order of a client; stop at the first that gets no answer at all."""
    service = _Service(client, clock)
    with contextlib.suppress(NoAnswerError):
        service.ask_all()
    service.answers.values["calls"] = [*service.rows]
    return service.answers


class _Service:
    def __init__(self, client: AesmClient, clock: Clock) -> None:
        self.answers = Answers()
        self.rows: list[Value] = []
        self._client = client
        self._clock = clock

    def ask_all(self) -> None:
        """Number and ids of keys, InitQuoteEx, the size of a quote, and a report with a wrong MAC."""
        count = self._count()
        if 0 < count <= MAX_LISTED_KEY_IDS:
            self._key_ids(count)
        initialised = self._init()
        size = self._size()
        self._wrong_report(size or DEFAULT_QUOTE_BUFFER, expected=initialised)

    def _count(self) -> int:
        response = self._ask(GetSupportedAttKeyIdNumRequest(timeout=TIMEOUT_FIELD_MS))
        if not isinstance(response, GetSupportedAttKeyIdNumResponse):
            return 0
        count = response.att_key_id_num or 0
        self.answers.values["key_count"] = count
        if response.error_code == 0 and count == 0:
            self._find(
                Finding(
                    code="no-attestation-key",
                    what="the AESM service has no attestation key, although it reports no error",
                    do="start aesmd with --supported_attestation_types=ECDSA, and read its log",
                )
            )
        return count

    def _key_ids(self, count: int) -> None:
        request = GetSupportedAttKeyIdsRequest(buf_size=count * ATT_KEY_ID_SIZE, timeout=TIMEOUT_FIELD_MS)
        response = self._ask(request)
        if isinstance(response, GetSupportedAttKeyIdsResponse) and response.error_code == 0:
            data = response.att_key_ids or b""
            parts = [data[at : at + ATT_KEY_ID_SIZE] for at in range(0, len(data), ATT_KEY_ID_SIZE)]
            self._read("key_ids", lambda: [_key_id_value(AttKeyId.parse(part)) for part in parts])

    def _init(self) -> bool:
        request = InitQuoteExRequest(
            b_pub_key_id=True, att_key_id=_KEY_ID, buf_size=PUB_KEY_ID_SIZE, timeout=TIMEOUT_FIELD_MS
        )
        response = self._ask(request)
        if not isinstance(response, InitQuoteExResponse) or response.error_code:
            return False
        pub_key_id, target = response.pub_key_id or b"", response.target_info or b""
        self.answers.secrets = Secrets.of(pub_key_id)
        self.answers.values["pub_key_id"] = redacted(len(pub_key_id))
        self._read("quoting_enclave", lambda: _target_value(TargetInfo.parse(target)))
        return True

    def _size(self) -> int | None:
        response = self._ask(GetQuoteSizeExRequest(att_key_id=_KEY_ID, timeout=TIMEOUT_FIELD_MS))
        if not isinstance(response, GetQuoteSizeExResponse) or response.error_code:
            return None
        size = response.quote_size or 0
        self.answers.values["quote_size"] = size
        if size == ENCRYPTED_PPID_QUOTE_SIZE:
            self._find(
                Finding(
                    code="quotes-without-pck-chain",
                    what=f"a quote has {size} bytes: it has an encrypted PPID and no certificates, and no verifier "
                    "accepts it",
                    do="install the quote provider library beside aesmd, and check that sgx_default_qcnl.conf is JSON",
                )
            )
        return size if 0 < size <= MAX_QUOTE_BUFFER_SIZE else None

    def _wrong_report(self, size: int, *, expected: bool) -> None:
        request = GetQuoteExRequest(
            report=WRONG_REPORT.encode(), buf_size=size, att_key_id=_KEY_ID, timeout=TIMEOUT_FIELD_MS
        )
        response = self._ask(request, refusal_expected=True)
        if response is None:
            return
        self.answers.values["wrong_mac_code"] = response.error_code
        if response.error_code == 0:
            self._find(
                Finding(
                    code="wrong-mac-accepted",
                    what="the AESM service made a quote of a report with a wrong MAC: anybody gets quotes of anything",
                    do="do not trust quotes of this node; tell us which program serves the socket",
                )
            )
        elif expected and response.error_code not in REFUSALS_OF_WRONG_MAC:
            self._find(
                Finding(
                    code="wrong-mac-other-code",
                    what=f"a report with a wrong MAC is refused with {response.error_code} "
                    f"({code_of(response.error_code)}); Intel's aesmd is known to answer 47, confcom's helper 47 or 42",
                    do="nothing is to be done; the code is of interest to us",
                )
            )

    def _ask(self, request: QuotingRequest, *, refusal_expected: bool = False) -> QuotingResponse | None:
        call = request.kind.call + (" (wrong MAC)" if refusal_expected else "")
        started = self._clock()
        try:
            response = self._client.converse(_once(request))
        except ConfcomError as error:
            self._note(call, started, error.error_code)
            self._find(Finding(code=error.error_code, what=f"{call}: {error.what}", do=error.remedy))
            if isinstance(error, MalformedError):
                return None
            raise NoAnswerError from error
        self._note(call, started, code_of(response.error_code) if response.error_code else "ok", response.error_code)
        if response.error_code and not refusal_expected:
            refusal = AesmError(response.error_code, call)
            what = f"{refusal.what}: {refusal.why}"
            self._find(Finding(code=refusal.error_code, what=what, do=refusal.remedy))
        return response

    def _read(self, key: str, read: Callable[[], Value]) -> None:
        try:
            self.answers.values[key] = read()
        except MalformedError as error:
            self._find(
                Finding(
                    code="aesm-answer-malformed",
                    what=f"the AESM service's answer about {key} cannot be read: {error.what}",
                    do="tell us which program serves the socket",
                )
            )

    def _note(self, call: str, started: float, outcome: str, code: int | None = None) -> None:
        seconds = round(self._clock() - started, 4)
        self.rows.append({"call": call, "outcome": outcome, "code": code, "seconds": seconds})

    def _find(self, finding: Finding) -> None:
        self.answers.findings.append(finding)


def _once(request: QuotingRequest) -> Conversation[QuotingResponse]:
    return (yield request)


def _key_id_value(key_id: AttKeyId) -> dict[str, Value]:
    return {
        "id": key_id.id,
        "version": key_id.version,
        "algorithm": key_id.algorithm_id,
        "prod_id": key_id.prod_id,
        "signer_is_intels": key_id.mrsigner[: len(INTEL_QE_MRSIGNER)] == INTEL_QE_MRSIGNER,
        "is_the_key_of_all_clients": key_id.encode()[:ATT_KEY_ID_COMPARED] == _KEY_ID[:ATT_KEY_ID_COMPARED],
    }


def _target_value(target: TargetInfo) -> dict[str, Value]:
    return {
        "mr_enclave": target.mr_enclave.hex(),
        "attributes": f"{target.flags:#x}",
        "xfrm": f"{target.xfrm:#x}",
        "misc_select": f"{target.misc_select:#x}",
        "config_svn": target.config_svn,
    }
