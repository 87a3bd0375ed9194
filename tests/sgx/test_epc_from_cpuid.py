import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.sgx.epc_from_cpuid import (
    AZURE_DCSV2_EPC_MIB,
    CpuidRegisters,
    EpcSection,
    EpcSectionKind,
    decode_epc_section,
    enumerate_epc,
    sgx_supported,
    whole_mib,
)
from testkit.hosts.fake import MIB, section


def processor(*subleaves, max_leaf=0x16, leaf7_ebx=0x4):
    """A reader that knows exactly what a processor must be asked."""
    known = {(0, 0): CpuidRegisters(max_leaf, 0, 0, 0), (7, 0): CpuidRegisters(0, leaf7_ebx, 0, 0)}
    known |= {(0x12, 2 + n): r for n, r in enumerate(subleaves)}
    return lambda leaf, subleaf: known[leaf, subleaf]


PAGES = st.integers(0, (1 << 40) - 1).map(lambda page: page << 12)


@given(PAGES, PAGES, st.integers(0, 0xFF), st.integers(0, 0xFFF), st.integers(0, 0xFFF))
def test_every_section_is_decoded(base, size, noise_low, noise_high, properties):
    r = section(size, base=base)
    found = decode_epc_section(
        r.eax | noise_low << 4, r.ebx | noise_high << 20, r.ecx | properties, r.edx | noise_high << 20
    )
    assert found == EpcSection(EpcSectionKind.EPC, base, size)


def test_type_zero_ends_and_other_types_are_unknown():
    for eax in (0, 0xFFFFFFF0):
        assert decode_epc_section(eax, 1, 0x1000, 1) == EpcSection(EpcSectionKind.END, base=0, size=0)
    for kind in (2, 3, 15):
        assert decode_epc_section(kind, 1, 0x1000, 1) == EpcSection(EpcSectionKind.UNKNOWN, base=0, size=0)


@pytest.mark.parametrize(
    ("max_leaf", "ebx", "expected"),
    [(0x12, 0x4, True), (0x20, 0xFFFFFFFF, True), (0x11, 0x4, False), (0x12, 0xFFFFFFFB, False), (0x12, 0, False)],
)
def test_support_needs_the_leaf_and_the_feature(max_leaf, ebx, expected):
    assert sgx_supported(max_leaf, ebx) is expected


def test_sections_are_enumerated_to_the_end_marker():
    first, second = section(93 * MIB), section(256 << 30, base=0x80_0000_0000)
    end = CpuidRegisters(0, 0, 0, 0)
    found = enumerate_epc(processor(first, section(MIB, kind=2), second, end, first))
    assert found == (
        EpcSection(EpcSectionKind.EPC, 0x1_0000_0000, 93 * MIB),
        EpcSection(EpcSectionKind.EPC, 0x80_0000_0000, 256 << 30),
    )


def test_a_processor_is_asked_only_for_leaves_that_it_has():
    assert len(enumerate_epc(processor(section(MIB), CpuidRegisters(0, 0, 0, 0), max_leaf=0x12))) == 1
    assert enumerate_epc(processor(leaf7_ebx=0)) == ()
    assert enumerate_epc(processor(max_leaf=0x11)) == ()
    too_old_for_leaf_7 = {(0, 0): CpuidRegisters(6, 0, 0, 0)}
    assert enumerate_epc(lambda leaf, subleaf: too_old_for_leaf_7[leaf, subleaf]) == ()


def test_a_processor_without_an_end_marker_is_asked_eight_times():
    assert len(enumerate_epc(processor(*[section(MIB)] * 8))) == 8


def test_sizes_are_summed_before_they_are_rounded_down():
    assert whole_mib([MIB - 1, 1]) == 1
    assert whole_mib([3 * MIB // 2, 3 * MIB // 2]) == 3
    assert whole_mib([MIB - 1]) == 0
    assert whole_mib([]) == 0


def test_azures_sizes_by_their_epc():
    assert dict(AZURE_DCSV2_EPC_MIB) == {
        "Standard_DC1s_v2": 28,
        "Standard_DC2s_v2": 56,
        "Standard_DC4s_v2": 112,
        "Standard_DC8_v2": 168,
    }
