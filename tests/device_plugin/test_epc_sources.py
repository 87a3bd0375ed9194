"""Where the EPC's size comes from: by sysfs, by CPUID, by nobody; and why not by the one before."""

import pytest

from confcom.device_plugin.discovery.epc_sources import EpcSource, find_epc
from confcom.sgx.epc import AZURE_DCSV2_EPC_MIB, CpuidRegisters
from testkit.hosts.fake import GIB, MIB, FakeHost, processor, sysfs

NOT_THERE = "/sys/devices/system/node/node*/x86/sgx_total_bytes is not there (it needs kernel 5.17)"
SYSFS_SAYS_0 = "/sys/devices/system/node/node*/x86/sgx_total_bytes says 0 bytes"
DCSV3 = {"DC1s_v3": 4, "DC2s_v3": 8, "DC4s_v3": 16, "DC8s_v3": 32, "DC16s_v3": 64, "DC24s_v3": 96, "DC32s_v3": 128}
"""EPC of Azure's DCsv3 sizes in GiB; DC48s_v3, the largest, has 256 of them in two NUMA nodes."""


def sizes(finding):
    return [(section.numa_node, section.size) for section in finding.sections]


@pytest.mark.parametrize("mib", AZURE_DCSV2_EPC_MIB.values(), ids=AZURE_DCSV2_EPC_MIB)
def test_dcsv2_by_sysfs(mib):
    host = FakeHost(sysfs(mib * MIB))
    found = find_epc(host)
    assert (found.source, sizes(found)) == (EpcSource.SYSFS, [(0, mib * MIB)])
    assert found.reason == "/sys/devices/system/node/node*/x86/sgx_total_bytes"
    assert host.asked == [], "the processor is asked only if sysfs does not know"


@pytest.mark.parametrize("mib", AZURE_DCSV2_EPC_MIB.values(), ids=AZURE_DCSV2_EPC_MIB)
def test_dcsv2_by_cpuid(mib):
    found = find_epc(FakeHost(leaves=processor(mib * MIB)))
    assert (found.source, sizes(found)) == (EpcSource.CPUID, [(None, mib * MIB)])
    assert found.reason == f"CPUID leaf 0x12 has 1 EPC section; {NOT_THERE}"


@pytest.mark.parametrize("gib", DCSV3.values(), ids=DCSV3)
def test_dcsv3_by_either(gib):
    by_sysfs, by_cpuid = find_epc(FakeHost(sysfs(gib * GIB))), find_epc(FakeHost(leaves=processor(gib * GIB)))
    assert (by_sysfs.source, sizes(by_sysfs)) == (EpcSource.SYSFS, [(0, gib * GIB)])
    assert (by_cpuid.source, sizes(by_cpuid)) == (EpcSource.CPUID, [(None, gib * GIB)])


def test_two_sockets_by_either():
    by_sysfs = find_epc(FakeHost(sysfs(128 * GIB, 128 * GIB)))
    assert (by_sysfs.source, sizes(by_sysfs)) == (EpcSource.SYSFS, [(0, 128 * GIB), (1, 128 * GIB)])
    by_cpuid = find_epc(FakeHost(leaves=processor(128 * GIB, 127 * GIB)))
    assert (by_cpuid.source, sizes(by_cpuid)) == (EpcSource.CPUID, [(None, 128 * GIB), (None, 127 * GIB)])
    assert by_cpuid.reason == f"CPUID leaf 0x12 has 2 EPC sections; {NOT_THERE}"


def test_numa_nodes_keep_their_numbers_and_their_order():
    files = {f"/sys/devices/system/node/node{n}/x86/sgx_total_bytes": str(n * MIB) for n in (10, 2, 1)}
    found = find_epc(FakeHost(files | {"/sys/devices/system/node/possible": "0-10"}))
    assert sizes(found) == [(1, MIB), (2, 2 * MIB), (10, 10 * MIB)]


def test_a_node_without_epc_beside_one_that_has_it():
    assert sizes(find_epc(FakeHost(sysfs(0, 64 * MIB)))) == [(0, 0), (1, 64 * MIB)]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (sysfs(0), SYSFS_SAYS_0),
        (sysfs(0, 0), SYSFS_SAYS_0),
        (sysfs(0, MIB - 1), "/sys/devices/system/node/node*/x86/sgx_total_bytes says 1048575 bytes"),
        ({}, NOT_THERE),
        ({"/sys/devices/system/node/node0/meminfo": "x"}, NOT_THERE),
    ],
    ids=["zero", "two zeros", "less than 1 MiB", "nothing", "an old kernel"],
)
def test_sysfs_that_does_not_know_hands_on_to_cpuid(files, problem):
    found = find_epc(FakeHost(files, leaves=processor(56 * MIB)))
    assert (found.source, sizes(found)) == (EpcSource.CPUID, [(None, 56 * MIB)])
    assert found.reason == f"CPUID leaf 0x12 has 1 EPC section; {problem}"


@pytest.mark.parametrize("text", ["", "-1", "0x1000", "many", "1" * 40, "1\n2"])
def test_sysfs_that_holds_no_number_is_named(text):
    host = FakeHost({"/sys/devices/system/node/node0/x86/sgx_total_bytes": text}, leaves=processor(28 * MIB))
    found = find_epc(host)
    assert found.source is EpcSource.CPUID
    assert "node0/x86/sgx_total_bytes holds" in found.reason


@pytest.mark.parametrize(
    ("leaves", "why"),
    [
        (processor(sgx=False), "the firmware has switched it off: CPUID leaf 7, EBX bit 2, is 0"),
        (processor(max_leaf=0x10), "the processor has no SGX: CPUID ends with leaf 0x10, before 0x12"),
        (processor(max_leaf=0x6), "the processor has no SGX: CPUID ends with leaf 0x6, before 0x12"),
        (processor(), "the firmware gives it no EPC: CPUID leaf 0x12 has no EPC section"),
        (processor(0), "CPUID leaf 0x12 says 0 bytes"),
        (processor(0, 0), "CPUID leaf 0x12 says 0 bytes"),
        (None, "CPUID cannot be read: this test forbids it"),
    ],
    ids=[
        "off in the BIOS",
        "no SGX leaf",
        "no leaf 7",
        "no section",
        "a section of size 0",
        "two of them",
        "unreadable",
    ],
)
def test_no_epc_has_both_reasons(leaves, why):
    for files, sysfs_problem in (({}, NOT_THERE), (sysfs(0), SYSFS_SAYS_0)):
        found = find_epc(FakeHost(files, leaves=leaves))
        assert (found.source, found.sections) == (EpcSource.NONE, ())
        assert found.reason.startswith(sysfs_problem + "; ")
        assert found.reason.endswith(why)


def test_sections_of_size_0_count_as_nothing_beside_others():
    found = find_epc(FakeHost(leaves=processor(0, 28 * MIB, 0)))
    assert sizes(found) == [(None, 28 * MIB)]
    assert found.reason.startswith("CPUID leaf 0x12 has 1 EPC section;")


def test_other_kinds_of_sections_are_skipped():
    leaves = processor(28 * MIB, 56 * MIB)
    leaves[0x12, 2] = CpuidRegisters(2, 0, 0x1000000, 0)
    assert sizes(find_epc(FakeHost(leaves=leaves))) == [(None, 56 * MIB)]
