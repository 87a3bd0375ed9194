"""What the helper knows of its platform's TCB, for the page `/platform`."""

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509

from confcom.daemon.probe_server import JSON, ProbeResponse
from confcom.errors import MalformedError
from confcom.sgx.pck.platform_page import CertifiedTcb, PlatformPage, SgxKind


class PlatformRecord:
    """The PCK certificate is parsed once, and its bytes are not kept."""

    def __init__(self, kind: SgxKind, wall_clock: Callable[[], float]) -> None:
        """`wall_clock` returns seconds since 1970."""
        self._wall_clock = wall_clock
        self._page = PlatformPage(kind)

    def set_pck(self, pck: x509.Certificate) -> None:
        """Record the certificate of the node's quotes; any thread may call this, at each change of the certificate."""
        try:
            tcb = CertifiedTcb.of(pck)
        except MalformedError as error:
            self._page = PlatformPage(self._page.kind, why=error.what)
            return
        if tcb != self._page.tcb:
            now = datetime.fromtimestamp(self._wall_clock(), UTC)
            self._page = PlatformPage(self._page.kind, tcb, now)

    def response(self) -> ProbeResponse:
        return ProbeResponse(self._page.to_json(), content_type=JSON)
