"""Reads EPC from CPUID sub-leaves; the tests of the plugin's discovery check which leaves are read."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.sgx.epc_from_cpuid import CpuidRegisters, ends_epc, epc_section_sizes, sgx_supported
from testkit.hosts.fake import GIB, MIB, processor, section


def sizes(leaves):
    return list(epc_section_sizes(lambda *leaf: leaves[leaf]))


PAGES = st.integers(0, (1 << 40) - 1).map(lambda page: page << 12)


@given(PAGES, st.integers(0, 0xFF), st.integers(0, 0xFFF), st.integers(0, 0xFFF))
def test_every_size_is_decoded(size, noise_low, noise_high, properties):
    r = section(size)
    noise = (noise_low << 4, noise_high << 20, properties, noise_high << 20)
    registers = CpuidRegisters(*map(operator.or_, (r.eax, r.ebx, r.ecx, r.edx), noise))
    assert sizes(processor(MIB) | {(0x12, 2): registers}) == [size]


@pytest.mark.parametrize(("eax", "ends"), [(0, True), (0xFFFFFFF0, True), *((n, False) for n in (1, 2, 3, 15))])
def test_only_type_zero_ends_the_list(eax, ends):
    assert ends_epc(CpuidRegisters(eax, 1, 0x1000, 1)) is ends


def test_sections_are_read_to_the_end_marker_or_the_eighth():
    leaves = processor(93 * MIB, MIB, 256 * GIB)
    leaves[0x12, 3] = section(MIB, kind=2)
    leaves[0x12, 6] = section(MIB)
    assert sizes(leaves) == [93 * MIB, 256 * GIB]
    without_an_end = processor(*[MIB] * 8)
    del without_an_end[0x12, 10]
    assert len(sizes(without_an_end)) == 8


@pytest.mark.parametrize(
    ("max_leaf", "leaf7_ebx", "supported"),
    [(0x12, 0xFFFFFFFF, True), (0x1B, 4, True), (0x1B, 0xFFFFFFFB, False), (0x11, 0xFFFFFFFF, False)],
)
def test_support_needs_the_leaf_and_the_feature(max_leaf, leaf7_ebx, supported):
    assert sgx_supported(max_leaf, leaf7_ebx) is supported
