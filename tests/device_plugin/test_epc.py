import pytest

from confcom.device_plugin.epc import EpcSource, find_epc
from testkit.hosts.fake import GIB, MIB, FakeHost, processor, sysfs

SYSFS = "/sys/devices/system/node/node*/x86/sgx_total_bytes"
MALFORMED = ("", "-1", "0x1000", "many", "1" * 40, "1\n2")


def sizes(finding):
    return [(section.numa_node, section.size) for section in finding.sections]


@pytest.mark.parametrize(
    "epc",
    [(28 * MIB,), (168 * MIB,), (4 * GIB,), (128 * GIB, 127 * GIB)],
    ids=["DC1s_v2", "DC8_v2", "DC1s_v3", "two sockets"],
)
def test_real_sizes_by_either(epc):
    host = FakeHost(sysfs(*epc))
    found = find_epc(host)
    assert (found.source, found.reason) == (EpcSource.SYSFS, SYSFS)
    assert sizes(found) == list(enumerate(epc))
    assert host.asked == [], "the processor is asked only if sysfs does not know"
    found = find_epc(FakeHost(leaves=processor(*epc)))
    assert found.source is EpcSource.CPUID
    assert sizes(found) == [(None, size) for size in epc]
    assert f" {len(epc)} EPC section" in found.reason


def test_numa_nodes_keep_their_numbers_and_their_order():
    files = {f"/sys/devices/system/node/node{n}/x86/sgx_total_bytes": str(n * MIB) for n in (10, 2, 1)}
    found = find_epc(FakeHost(files | {"/sys/devices/system/node/possible": "0-10"}))
    assert sizes(found) == [(1, MIB), (2, 2 * MIB), (10, 10 * MIB)]
    assert sizes(find_epc(FakeHost(sysfs(0, 64 * MIB)))) == [(0, 0), (1, 64 * MIB)]


@pytest.mark.parametrize(
    "files",
    [
        sysfs(0),
        sysfs(0, 0),
        sysfs(0, MIB - 1),
        {},
        {"/sys/devices/system/node/node0/meminfo": "x"},
        *[{SYSFS.replace("*", "0"): text} for text in MALFORMED],
    ],
    ids=["zero", "two zeros", "less than 1 MiB", "nothing", "an old kernel", *map(repr, MALFORMED)],
)
def test_sysfs_that_does_not_know_hands_on_to_cpuid(files):
    found = find_epc(FakeHost(files, leaves=processor(56 * MIB)))
    assert (found.source, sizes(found)) == (EpcSource.CPUID, [(None, 56 * MIB)])
    assert SYSFS in found.reason
