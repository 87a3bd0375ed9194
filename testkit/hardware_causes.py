"""What causes what on hardware: the errors that were measured by injecting failures below Intel's unmodified code.

By cause: what the DCAP library and aesmd answer to init, size and quote, and what clients of our helper then get. The
page docs/reference/quote-helper.md shows the same rows.
"""

from dataclasses import dataclass

from confcom.aesm.error_code import AesmErrorCode as Code

DEVICES, EPC, ROUTE, PLATFORM, LOG = "/dev/sgx_provision", "EPC", "pccs_url", "register", "log"
"""Words of the advice."""


@dataclass(frozen=True)
class ByDcap:
    """The library's numbers, and what clients get; of three equal ones, one is given."""

    numbers: tuple
    clients: tuple
    advice: str


@dataclass(frozen=True)
class ByAesmd:
    """aesmd's answers, what clients get, and whether only a restart may end it."""

    answers: tuple
    clients: tuple
    advice: str
    restarts: bool
    loads_enclave: bool = True
    """Whether it has loaded the quoting enclave at its start; else it counts no keys."""

    @property
    def key_count_code(self):
        return Code.SUCCESS if self.loads_enclave else Code.SERVICE_UNAVAILABLE


@dataclass(frozen=True)
class Cause:
    name: str
    dcap: ByDcap
    aesmd: ByAesmd | None


def _three(numbers):
    return tuple(numbers) if isinstance(numbers, (tuple, list)) else (numbers,) * 3


def _dcap(numbers, clients, advice):
    return ByDcap(_three(numbers), _three(clients), advice)


def _aesmd(answers, clients, advice, *, restarts, loads_enclave=True):
    return ByAesmd(_three(answers), _three(clients), advice, restarts, loads_enclave)


_NO_QE3 = _aesmd(38, 38, DEVICES, restarts=True, loads_enclave=False)
_NO_CERTIFICATION = _aesmd((1, 42, 42), 1, LOG, restarts=True)
_PCCS_REFUSED = _aesmd(1, 1, LOG, restarts=True)

CAUSES = [
    Cause("no SGX", _dcap((0xE00D, 0xE00D, 0xE016), 30, DEVICES), None),
    Cause("no `/dev/sgx_enclave`, or no access", _dcap((0xE00D, 0xE00D, 0xE016), 30, DEVICES), _NO_QE3),
    Cause("no `/dev/sgx_provision`, or no access", _dcap((0xE00D, 0xE00D, 0xE035), 30, DEVICES), _NO_QE3),
    Cause("EPC full: the driver has none", _dcap((0xE00D, 0xE00D, 0xE003), (30, 30, 21), DEVICES), _NO_QE3),
    Cause("quoting enclave: no device, bad file or signature", _dcap(0xE016, 30, DEVICES), _NO_QE3),
    Cause("quoting enclave: no provision key", _dcap(0xE035, 30, DEVICES), _NO_QE3),
    Cause("quoting enclave: no EPC", _dcap(0xE012, 29, EPC), _NO_QE3),
    Cause("quoting enclave: no memory", _dcap(0xE003, 21, EPC), _NO_QE3),
    Cause("quoting enclave: lost while it was loaded", _dcap(0xE014, 46, LOG), _NO_QE3),
    Cause("quoting enclave: unexpected error", _dcap(0xE001, 1, LOG), _NO_QE3),
    Cause("quoting enclave: lost", _dcap(0xE014, 46, LOG), _aesmd(46, 46, "restart", restarts=True)),
    Cause("quoting enclave: crashed", _dcap(0xE001, 1, LOG), None),
    Cause("PCE: not loaded", _dcap((0xE00D, 0xE00D, 0xE00F), 30, DEVICES), _aesmd((1, 1, 42), 1, LOG, restarts=True)),
    Cause("PCE: no EPC", _dcap((0xE012, 0xE012, 0xE00F), 29, EPC), None),
    Cause("PCE: lost or crashed", _dcap((0xE00D, 0xE00F, 0xE00F), 30, DEVICES), _NO_CERTIFICATION),
    Cause("PCE: no EPC in a call", _dcap((0xE012, 0xE00F, 0xE00F), 29, EPC), _NO_CERTIFICATION),
    Cause("ID enclave: no provision key", _dcap((0xE035, 0xE00F, 0xE00F), 30, DEVICES), _NO_CERTIFICATION),
    Cause(
        "ID enclave: no EPC",
        _dcap((0xE012, 0xE00F, 0xE00F), 29, EPC),
        _aesmd((29, 42, 42), 29, EPC, restarts=True),
    ),
    Cause("ID enclave: not loaded", _dcap((0xE016, 0xE00F, 0xE00F), 30, DEVICES), _NO_CERTIFICATION),
    Cause("ID enclave: lost", _dcap((0xE014, 0xE00F, 0xE00F), 46, LOG), _NO_CERTIFICATION),
    Cause(
        "PCCS: 404, platform unknown",
        _dcap(0xE011, 44, PLATFORM),
        _aesmd(44, 44, PLATFORM, restarts=False),
    ),
    Cause(
        "PCCS: not reached (DNS, proxy, connection, TLS set-up, 403)",
        _dcap(0xE019, 12, ROUTE),
        _aesmd(12, 12, ROUTE, restarts=False),
    ),
    Cause("no `sgx_default_qcnl.conf`", _dcap(0xE019, 12, ROUTE), _aesmd(12, 12, ROUTE, restarts=False)),
    Cause("PCCS: 461, platform not registered", _dcap(0xE047, 44, PLATFORM), _PCCS_REFUSED),
    Cause("PCCS: 462, no certificate for this TCB", _dcap(0xE049, 44, "microcode"), _PCCS_REFUSED),
    Cause("PCCS: 400, 401, 500", _dcap(0xE044, 1, "PCCS"), _PCCS_REFUSED),
    Cause("PCCS: 503", _dcap(0xE040, 12, "PCCS"), _PCCS_REFUSED),
    Cause("PCCS: TLS certificate of an unknown CA", _dcap(0xE065, 1, "ca-certificates"), _PCCS_REFUSED),
    Cause(
        "the certificate's TCB is above the PCE's",
        _dcap((0xE018, 0xE00F, 0xE00F), 50, "libsgx-ae-pce"),
        _aesmd((50, 42, 42), 50, "libsgx-ae-pce", restarts=False),
    ),
]
"""Not here are the causes that no client notices (the certificate's TCB changed, no init yet), and those that the
library reports as success: no quote provider library, another key after a microcode update."""

BY_AESMD = [cause for cause in CAUSES if cause.aesmd is not None]
