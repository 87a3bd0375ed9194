"""What causes what on hardware: the errors that were measured by injecting failures below Intel's unmodified code.

By cause: what aesmd answers to init, size and quote, and what clients of our helper then get. The page
docs/reference/quote-helper.md shows the same rows.
"""

from dataclasses import dataclass

from confcom.aesm.error_code import AesmErrorCode as Code

DEVICES, EPC, ROUTE, PLATFORM, LOG = "/dev/sgx_provision", "EPC", "pccs_url", "register", "log"
"""Words of the advice."""


@dataclass(frozen=True)
class Cause:
    """aesmd's answers, what clients get, and whether only a restart may end it; one code stands for three."""

    name: str
    answers: tuple | int
    clients: int
    advice: str
    restarts: bool = True
    loads_enclave: bool = True
    """Whether aesmd has loaded the quoting enclave at its start; else it counts no keys."""

    @property
    def codes(self):
        return self.answers if isinstance(self.answers, tuple) else (self.answers,) * 3

    @property
    def key_count_code(self):
        return Code.SUCCESS if self.loads_enclave else Code.SERVICE_UNAVAILABLE


_NOT_LOADED = (
    "no `/dev/sgx_enclave`, or no access",
    "no `/dev/sgx_provision`, or no access",
    "EPC full: the driver has none",
    "quoting enclave: no device, bad file or signature",
    "quoting enclave: no provision key",
    "quoting enclave: no EPC",
    "quoting enclave: no memory",
    "quoting enclave: lost while it was loaded",
    "quoting enclave: unexpected error",
)
_NO_CERTIFICATION = (1, 42, 42)

CAUSES = [
    *(Cause(name, 38, 38, DEVICES, loads_enclave=False) for name in _NOT_LOADED),
    Cause("quoting enclave: lost", 46, 46, "restart"),
    Cause("PCE: not loaded", (1, 1, 42), 1, LOG),
    Cause("PCE: lost or crashed", _NO_CERTIFICATION, 1, LOG),
    Cause("PCE: no EPC in a call", _NO_CERTIFICATION, 1, LOG),
    Cause("ID enclave: no provision key", _NO_CERTIFICATION, 1, LOG),
    Cause("ID enclave: no EPC", (29, 42, 42), 29, EPC),
    Cause("ID enclave: not loaded", _NO_CERTIFICATION, 1, LOG),
    Cause("ID enclave: lost", _NO_CERTIFICATION, 1, LOG),
    Cause("PCCS: 404, platform unknown", 44, 44, PLATFORM, restarts=False),
    Cause("PCCS: not reached (DNS, proxy, connection, TLS set-up, 403)", 12, 12, ROUTE, restarts=False),
    Cause("no `sgx_default_qcnl.conf`", 12, 12, ROUTE, restarts=False),
    Cause("PCCS: 461, platform not registered", 1, 1, LOG),
    Cause("PCCS: 462, no certificate for this TCB", 1, 1, LOG),
    Cause("PCCS: 400, 401, 500", 1, 1, LOG),
    Cause("PCCS: 503", 1, 1, LOG),
    Cause("PCCS: TLS certificate of an unknown CA", 1, 1, LOG),
    Cause("the certificate's TCB is above the PCE's", (50, 42, 42), 50, "libsgx-ae-pce", restarts=False),
]
"""Not here are the causes that no client notices (the certificate's TCB changed, no init yet), and those that aesmd
reports as success: no quote provider library, another key after a microcode update."""
