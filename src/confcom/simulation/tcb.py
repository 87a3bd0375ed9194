"""The simulated platform's TCB: the one set of numbers that PCK certificate, quote and collateral must agree on."""

from __future__ import annotations

from dataclasses import replace

from confcom.sgx import marks
from confcom.sgx.pck_extension import PckExtension, PckTcb, PlatformConfiguration, SgxType

TCB_COMPONENTS = (2,) * 16
"""SVN of each of the 16 components. Not the lowest, so that collateral can name a level below that is out of date."""

PCE_SVN = 2
PCE_ID = bytes(2)
"""The only PCE there is (Intel's PCK certificates all say 0000)."""

_PROCESSOR_CA_EXTENSION = PckExtension(
    ppid=marks.PPID,
    tcb=PckTcb(components=TCB_COMPONENTS, pce_svn=PCE_SVN, cpu_svn=bytes(TCB_COMPONENTS)),
    pce_id=PCE_ID,
    fmspc=marks.FMSPC,
    sgx_type=SgxType.STANDARD,
)


def pck_extension(*, platform_ca: bool) -> PckExtension:
    """The SGX extension of the PCK certificate.

    Args:
        platform_ca: whether a platform CA issues it: then it has seven members instead of five.
    """
    if not platform_ca:
        return _PROCESSOR_CA_EXTENSION
    return replace(
        _PROCESSOR_CA_EXTENSION,
        platform_instance_id=marks.PLATFORM_INSTANCE_ID,
        configuration=PlatformConfiguration(dynamic_platform=False, cached_keys=False, smt_enabled=False),
    )
