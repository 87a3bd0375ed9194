"""Quotes for your program: an AESM client, blocking and asyncio, and the choice of in or out of process."""

from confcom.client.asynchronous import AsyncAesmClient
from confcom.client.blocking import AesmClient
from confcom.client.conversation import AesmQuote, QuotingTarget
from confcom.client.mode import QuotingMode
from confcom.client.request import request_quote, request_quote_async

__all__ = [
    "AesmClient",
    "AesmQuote",
    "AsyncAesmClient",
    "QuotingMode",
    "QuotingTarget",
    "request_quote",
    "request_quote_async",
]
