"""Quotes for applications: a blocking and an asyncio AESM client, and the choice of the quoting mode."""

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import AesmError, ConnectionClosedError, ProtocolError, StaleTargetError
from confcom.aesm.messages import AesmQuote, QuotingTarget
from confcom.client.asynchronous import AsyncAesmClient
from confcom.client.blocking import AesmClient
from confcom.client.errors import ServiceTimeoutError, ServiceUnreachableError
from confcom.client.mode import InProcessQuotingError, MixedModeError, QuotingMode
from confcom.client.request import request_quote, request_quote_async
from confcom.errors import ConfcomError, SettingsError, UnavailableError, WrongTypeError, WrongValueError
from confcom.sgx.report import QeReportInfo, Report, TargetInfo, report_data

__all__ = [
    "AesmClient",
    "AesmError",
    "AesmErrorCode",
    "AesmQuote",
    "AsyncAesmClient",
    "ConfcomError",
    "ConnectionClosedError",
    "InProcessQuotingError",
    "MixedModeError",
    "ProtocolError",
    "QeReportInfo",
    "QuotingMode",
    "QuotingTarget",
    "Report",
    "ServiceTimeoutError",
    "ServiceUnreachableError",
    "SettingsError",
    "StaleTargetError",
    "TargetInfo",
    "UnavailableError",
    "WrongTypeError",
    "WrongValueError",
    "report_data",
    "request_quote",
    "request_quote_async",
]
