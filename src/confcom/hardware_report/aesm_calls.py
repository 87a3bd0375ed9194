"""The AESM service's answers, call by call, with times. No quote is made: the only report has a wrong MAC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from confcom.aesm.errors import AesmError
from confcom.client.blocking import AesmClient
from confcom.errors import ConfcomError, MalformedError
from confcom.hardware_report import Facts, Value
from confcom.sgx.report import KEY_ID_SIZE, MAC_SIZE, REPORT_BODY_SIZE, Report

Clock = Callable[[], float]

WRONG_REPORT: Final = Report(bytes(REPORT_BODY_SIZE), key_id=bytes(KEY_ID_SIZE), mac=b"\x5a" * MAC_SIZE)
"""A report that no processor made: a quoting enclave must refuse it."""


def aesm_facts(client: AesmClient, clock: Clock) -> Facts:
    """Make each call once, in the order of a client; stop at the first without any answer."""
    facts: Facts = {}
    rows: list[Value] = []
    for call, ask in _CALLS.items():
        started = clock()
        outcome, code, answered = "ok", 0, True
        try:
            facts |= ask(client)
        except ConfcomError as error:
            outcome, code = error.error_code, error.code if isinstance(error, AesmError) else 0
            answered = isinstance(error, AesmError | MalformedError)
        rows.append({"call": call, "outcome": outcome, "code": code, "seconds": round(clock() - started, 4)})
        if not answered:
            break  # each further call would wait as long
    return facts | {"calls": rows}


def _key_ids(client: AesmClient) -> Facts:
    return {
        "key_ids": [
            {"id": key.id, "version": key.version, "algorithm": key.algorithm_id, "prod_id": key.prod_id}
            for key in client.supported_key_ids()
        ]
    }


def _quoting_enclave(client: AesmClient) -> Facts:
    target = client.init_quote().target_info  # the public key id beside it identifies the machine
    return {
        "quoting_enclave": {
            "mr_enclave": target.mr_enclave.hex(),
            "attributes": f"{target.flags:#x}",
            "xfrm": f"{target.xfrm:#x}",
            "misc_select": f"{target.misc_select:#x}",
            "config_svn": target.config_svn,
        }
    }


def _quote_size(client: AesmClient) -> Facts:
    return {"quote_size": client.quote_size()}


def _wrong_report(client: AesmClient) -> Facts:
    client.get_quote(WRONG_REPORT)
    return {}


_CALLS: Final[dict[str, Callable[[AesmClient], Facts]]] = {
    "GetSupportedAttKeyIDs": _key_ids,
    "InitQuoteEx": _quoting_enclave,
    "GetQuoteSizeEx": _quote_size,
    "GetQuoteEx (wrong MAC)": _wrong_report,
}
