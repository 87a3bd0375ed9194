"""How much EPC quoting holds in process: computed, from what Intel publishes of its enclaves.

An application that quotes in process loads its own copies of the enclaves that make quotes. All pages of an enclave
are added before it runs, so its heap and its stack are in use whether it needs them or not. Intel's signed files, whose
code and data come on top, are not part of the sources: these are the least that there can be.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
PAGE = 4 * KIB
CONTROL_PAGES = 1 + 1 + 2
"""Of each enclave with one thread: its SECS, a TCS, and two frames of its SSA, of a page each (SDM, volume 3D; the SDK
gives each thread two frames)."""


@dataclass(frozen=True, slots=True)
class Enclave:
    """What an enclave's configuration says of its size.

    Args:
        name: as people say.
        stack: bytes, of its one thread.
        heap: bytes.
        source: where it says so.
        held: whether it stays loaded for as long as the application can quote.
    """

    name: str
    stack: int
    heap: int
    source: str
    held: bool

    @property
    def least(self) -> int:
        """Bytes of EPC, without code and data."""
        return self.stack + self.heap + CONTROL_PAGES * PAGE


QUOTING_ENCLAVES = (
    Enclave(
        "QE3",
        stack=0x40000,
        heap=0x20000,
        source="github.com/intel/SGXDataCenterAttestationPrimitives, "
        "QuoteGeneration/quote_wrapper/quote/enclave/linux/config.xml",
        held=True,
    ),
    Enclave("PCE", stack=0x2000, heap=0x8000, source="github.com/intel/linux-sgx, psw/ae/pce/config.xml", held=True),
    Enclave(
        "ID enclave",
        stack=0x2000,
        heap=0x1000,
        source="github.com/intel/SGXDataCenterAttestationPrimitives, "
        "QuoteGeneration/quote_wrapper/quote/id_enclave/linux/config.xml",
        held=False,
    ),
)
"""TCSNum is 1 for all. The quote library ends the ID enclave as soon as it has told its number
(load_id_enclave_get_id in QuoteGeneration/quote_wrapper/quote/qe_logic.cpp)."""


def in_process_bytes(applications: int) -> int:
    """The least that so many applications hold together, each with copies of its own."""
    return applications * sum(enclave.least for enclave in QUOTING_ENCLAVES if enclave.held)


def in_process_mib(applications: int) -> int:
    """What their containers must ask for, in whole MiB each, on top of what their own enclaves take."""
    return applications * -(-in_process_bytes(1) // MIB)
