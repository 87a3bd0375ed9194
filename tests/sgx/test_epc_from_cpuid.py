"""Reads EPC from one CPUID sub-leaf; the tests of the plugin's discovery check which leaves are read."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.sgx.epc_from_cpuid import (
    CpuidRegisters,
    EpcSection,
    EpcSectionKind,
    decode_epc_section,
    enumerate_epc,
)
from testkit.hosts.fake import GIB, MIB, processor, section

PAGES = st.integers(0, (1 << 40) - 1).map(lambda page: page << 12)


@given(PAGES, PAGES, st.integers(0, 0xFF), st.integers(0, 0xFFF), st.integers(0, 0xFFF))
def test_every_section_is_decoded(base, size, noise_low, noise_high, properties):
    r = section(size, base=base)
    noise = (noise_low << 4, noise_high << 20, properties, noise_high << 20)
    registers = CpuidRegisters(*map(operator.or_, (r.eax, r.ebx, r.ecx, r.edx), noise))
    assert decode_epc_section(registers) == EpcSection(EpcSectionKind.EPC, base, size)


@pytest.mark.parametrize(
    ("eax", "kind"),
    [(0, EpcSectionKind.END), (0xFFFFFFF0, EpcSectionKind.END), *((n, EpcSectionKind.UNKNOWN) for n in (2, 3, 15))],
)
def test_type_zero_ends_and_other_types_are_unknown(eax, kind):
    assert decode_epc_section(CpuidRegisters(eax, 1, 0x1000, 1)) == EpcSection(kind, base=0, size=0)


def enumerated(leaves):
    return [(found.base, found.size) for found in enumerate_epc(lambda *leaf: leaves[leaf])]


def test_sections_are_enumerated_to_the_end_marker_or_the_eighth():
    leaves = processor(93 * MIB, MIB, 256 * GIB)
    leaves[0x12, 3] = section(MIB, kind=2)
    leaves[0x12, 4] = section(256 * GIB, base=0x80_0000_0000)
    leaves[0x12, 6] = section(MIB)
    assert enumerated(leaves) == [(0x1_0000_0000, 93 * MIB), (0x80_0000_0000, 256 * GIB)]
    without_an_end = processor(*[MIB] * 8)
    del without_an_end[0x12, 10]
    assert len(enumerated(without_an_end)) == 8


@pytest.mark.parametrize(
    ("leaves", "sections"),
    [
        (processor(MIB, max_leaf=0x12), 1),
        (processor(MIB) | {(7, 0): CpuidRegisters(0, 0xFFFFFFFF, 0, 0)}, 1),
        (processor(MIB) | {(7, 0): CpuidRegisters(0, 0xFFFFFFFB, 0, 0)}, 0),
        (processor(MIB) | {(0, 0): CpuidRegisters(0x11, 0, 0, 0)}, 0),
        (processor(max_leaf=0x6), 0),
    ],
)
def test_support_needs_the_leaf_and_the_feature(leaves, sections):
    assert len(enumerated(leaves)) == sections
