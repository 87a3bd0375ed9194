"""Causes of errors on hardware, measured by injecting failures below Intel's unmodified code.

Each cause has aesmd's answers to init, size and quote calls, and our helper's answers to clients. The page
docs/reference/quote-helper.md shows the same rows.
"""

from dataclasses import dataclass

from confcom.aesm.error_code import AesmErrorCode as Code

DEVICES, EPC, ROUTE, PLATFORM, LOG = "/dev/sgx_provision", "EPC", "local_pck_url", "register", "log"
FOREIGN, LOST, ID_ENCLAVE, PLUGIN = "returned NULL", "restart", "libsgx-ae-id-enclave", "libsgx-aesm-quote-ex-plugin"
"""Words in the helper's advice."""


@dataclass(frozen=True)
class Cause:
    """aesmd's answers and log, and the helper's answer to clients; a single code answers all three calls."""

    name: str
    answers: tuple | int
    clients: int
    advice: str
    lines: tuple = ()
    """Verbatim parts of the lines that Intel's code logs."""

    @property
    def codes(self):
        return self.answers if isinstance(self.answers, tuple) else (self.answers,) * 3

    @property
    def key_count_code(self):
        """aesmd's code for a key count request, which needs a quoting enclave and the quote plug-in."""
        return Code.SERVICE_UNAVAILABLE if self.answers in (30, 38) else Code.SUCCESS

    @property
    def restarts(self):
        """Whether the helper requests a restart of aesmd always, only until InitQuoteEx succeeds, or never."""
        if self.codes[0] in (30, 38, 46):
            return "yes"
        return "before its first success" if self.codes[1] == 42 else "no"


def _pccs(number):
    return (f"Error returned from the p_sgx_get_quote_config API. 0x{number:04x}",)


def _not_loaded(name, sgx_error, load_error=None, advice=DEVICES):
    """A cause whose log has a line with `SGXError:%04x`, and then a line with an unpadded `0x%x`."""
    lines = (f"SGXError:{sgx_error:04x}", f"Failed to load QE3: 0x{load_error or sgx_error:x}")
    return Cause(name, 38, 38, advice, lines)


NO_DEVICE, NO_ACCESS = "Failed to open Intel SGX device", "Enclave not authorized to run"
_NO_CERTIFICATION = (1, 42, 42)

CAUSES = [
    Cause("no `/dev/sgx_enclave`, or no access", 38, 38, DEVICES, (NO_DEVICE, "Failed to load QE3: 0x2006")),
    Cause("no `/dev/sgx_provision`, or no access", 38, 38, DEVICES, (NO_ACCESS, "Failed to load QE3: 0x4004")),
    _not_loaded("EPC full: the driver has none", 0x0003, advice=EPC),
    _not_loaded("quoting enclave: no device, bad file or signature", 0x2006),
    _not_loaded("quoting enclave: no provision key", 0x4004),
    _not_loaded("quoting enclave: no EPC", 0x2005, 0xE012, EPC),
    Cause("quoting enclave: lost while it was loaded", 38, 38, DEVICES),
    Cause("quoting enclave: unexpected error", 38, 38, DEVICES),
    Cause("no plug-in for quotes", 30, 30, PLUGIN),
    Cause("quoting enclave: lost", 46, 46, LOST),
    Cause("quoting enclave: crashed in a call", 1, 1, LOST),
    Cause("PCE: not loaded", (1, 1, 42), 1, LOG),
    Cause("PCE: no EPC", (29, 29, 42), 29, EPC),
    Cause("PCE: lost or crashed, or no EPC in a call", _NO_CERTIFICATION, 1, LOG),
    Cause("ID enclave: no provision key", _NO_CERTIFICATION, 1, LOG),
    Cause("ID enclave: no EPC", (29, 42, 42), 29, EPC),
    Cause("ID enclave: not loaded", (48, 42, 42), 48, ID_ENCLAVE),
    Cause("ID enclave: lost", (46, 42, 42), 46, LOST),
    Cause("PCCS: 404, platform unknown", 44, 44, PLATFORM, _pccs(0xE011)),
    Cause(
        "PCCS: 200 of another program (HTML, no headers)", 44, 44, FOREIGN, ("p_sgx_get_quote_config returned NULL",)
    ),
    Cause("PCCS: not reached (DNS, proxy, connection, TLS set-up), or it refuses (403)", 12, 12, ROUTE, _pccs(0xE019)),
    Cause("no `sgx_default_qcnl.conf`", 12, 12, ROUTE, _pccs(0xE019)),
    Cause("PCCS: 461, platform not registered", 1, 1, "0xe047", _pccs(0xE047)),
    Cause("PCCS: 462, no certificate for this TCB", 1, 1, "0xe049", _pccs(0xE049)),
    Cause("PCCS: 400, 401, 405, 429, 463, 500, 502, 504 and others", 1, 1, "0xe044", _pccs(0xE044)),
    Cause("PCCS: 503", 1, 1, "0xe040", _pccs(0xE040)),
    Cause("PCCS: TLS certificate of an unknown CA", 1, 1, "0xe065", _pccs(0xE065)),
    Cause("the certificate's TCB is above the PCE's", _NO_CERTIFICATION, 1, "libsgx-ae-pce"),
]
"""The list omits causes that no client notices (a changed TCB of the certificate, a missing init), and causes
that aesmd reports as success (no quote provider library, another key after a microcode update)."""

LINES = (
    *dict.fromkeys(line for cause in CAUSES for line in cause.lines),
    "Fail to start service.",
    "Bundle#3 start failed",
    "Bundle#4 start failed",
    "Failed to create socket",
    "Malformed request received (May be forged for attack)",
)
"""Lines in aesmd's log that name a cause; the documentation page about symptoms explains each line."""
