"""One call that gets a quote, in the quoting mode of this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

from confcom.aesm.messages import AesmQuote
from confcom.client.asynchronous import AsyncAesmClient
from confcom.client.blocking import AesmClient
from confcom.client.mode import CLIENT_GIVEN, PROCESS_MODE, ProcessMode, choose_mode, require_out_of_process
from confcom.errors import WrongTypeError
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
    """Get a quote of a report that is made for the quoting enclave of this node.

    The presence of SGX_AESM_ADDR at first use selects the mode, which is logged with the reason. A program
    that passes a client thereby selects quoting out of process.

    Args:
        make_report: makes the enclave's report for a target info; called again if the quoting enclave changes.
        qe_report_info: a nonce and the target info of the enclave that will check the QE's report.
        client: the client for quoting out of process; by default one for the service at the usual path.
        environ: the environment that selects the mode; by default os.environ.
        process_mode: where the selected mode is stored.

    Raises:
        InProcessQuotingError: SGX_AESM_ADDR is not set, and no client is given.
        MixedModeError: this process used the other mode before.
        AesmError: the service refused.
        UnavailableError: no service accepts connections, or the service does not answer.
        MalformedError: the answer violates AESM's protocol, or is no quote of this report.
    """
    if not isinstance(client, AesmClient | None):
        raise WrongTypeError("the client", "an AesmClient, or None", client)
    aesm_client = client or AesmClient(environ=environ)
    _select_mode(process_mode, environ, aesm_client, given=client is not None)
    return aesm_client.quote_fresh_report(make_report, qe_report_info=qe_report_info)


async def request_quote_async(
    make_report: Callable[[TargetInfo], Report],
    *,
    qe_report_info: QeReportInfo | None = None,
    client: AsyncAesmClient | None = None,
    environ: Mapping[str, str] | None = None,
    process_mode: ProcessMode = PROCESS_MODE,
) -> AesmQuote:
    """Get a quote like `request_quote`, in asyncio programs. `make_report` is called in the event loop."""
    if not isinstance(client, AsyncAesmClient | None):
        raise WrongTypeError("the client", "an AsyncAesmClient, or None", client)
    aesm_client = client or AsyncAesmClient(environ=environ)
    _select_mode(process_mode, environ, aesm_client, given=client is not None)
    return await aesm_client.quote_fresh_report(make_report, qe_report_info=qe_report_info)


def _select_mode(
    process_mode: ProcessMode, environ: Mapping[str, str] | None, client: AesmClient | AsyncAesmClient, *, given: bool
) -> None:
    choice = process_mode.settle(CLIENT_GIVEN if given else choose_mode(os.environ if environ is None else environ))
    require_out_of_process(choice)
    _LOGGER.info("%s; AESM socket %s", choice, client.socket_path)
