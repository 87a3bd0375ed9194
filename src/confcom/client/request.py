"""One call from a report to a quote, whichever way this process quotes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

from confcom.client.asynchronous import AsyncAesmClient
from confcom.client.blocking import AesmClient
from confcom.client.conversation import AesmQuote
from confcom.client.mode import PROCESS_MODE, ProcessMode, choose_mode, require_out_of_process
from confcom.sgx.report import QeReportInfo, Report, TargetInfo

_LOGGER = logging.getLogger("confcom.client")


def request_quote(
    make_report: Callable[[TargetInfo], Report],
    *,
    qe_report_info: QeReportInfo | None = None,
    client: AesmClient | None = None,
    environ: Mapping[str, str] | None = None,
    process_mode: ProcessMode = PROCESS_MODE,
) -> AesmQuote:
    """Get a quote over a report that is made for the quoting enclave of this node.

    Which way is decided by the presence of SGX_AESM_ADDR, at first use, and logged with its reason.

    Args:
        make_report: has the enclave make a report for a target info; called again if the quoting enclave changes.
        qe_report_info: a nonce and the target info of the enclave that will check the QE's report.
        client: whom to ask out of process; by default the service at the usual path.
        environ: the environment that decides; None: os.environ.
        process_mode: what remembers the decision.

    Raises:
        InProcessQuotingError: SGX_AESM_ADDR is not set.
        MixedModeError: this process quoted the other way before.
        AesmError: the service refused.
        UnavailableError: the service is not there or does not answer.
    """
    asked = client or AesmClient(environ=environ)
    _settle(process_mode, environ, asked)
    return asked.quote_fresh_report(make_report, qe_report_info=qe_report_info)


async def request_quote_async(
    make_report: Callable[[TargetInfo], Report],
    *,
    qe_report_info: QeReportInfo | None = None,
    client: AsyncAesmClient | None = None,
    environ: Mapping[str, str] | None = None,
    process_mode: ProcessMode = PROCESS_MODE,
) -> AesmQuote:
    """`request_quote` for asyncio programs."""
    asked = client or AsyncAesmClient(environ=environ)
    _settle(process_mode, environ, asked)
    return await asked.quote_fresh_report(make_report, qe_report_info=qe_report_info)


def _settle(process_mode: ProcessMode, environ: Mapping[str, str] | None, client: AesmClient | AsyncAesmClient) -> None:
    choice = process_mode.settle(choose_mode(os.environ if environ is None else environ))
    require_out_of_process(choice)
    _LOGGER.info("%s; AESM socket %s", choice, client.socket_path)
