"""The whole report: of a node with SGX on which nothing is wrong, and of a machine that has nothing of it."""

import json
from pathlib import Path

import pytest

from confcom.hardware_report.document.meanings import SECTIONS
from confcom.hardware_report.document.text import report_lines
from confcom.hardware_report.node_files import NodeFiles
from confcom.sgx.epc_from_cpuid import MIB
from testkit.stub_aesmd import QUOTE

WITH_SGX = {key: set(described.fields) for key, described in SECTIONS.items() if key != "quote"}


def test_a_node_with_sgx_has_every_field_and_no_finding(node):
    report = node.report()
    assert report.findings == ()
    assert {section.key: set(section.values) for section in report.sections} == WITH_SGX


def test_processor_and_epc(node):
    processor, epc = node.values("processor"), node.values("epc")
    assert (processor["vendor"], processor["sgx"], processor["launch_control"]) == ("GenuineIntel", True, True)
    assert (processor["family"], processor["model"], processor["stepping"]) == (6, "0x6a", 6)
    assert processor["sgx_capabilities"] == ["SGX1", "SGX2"]
    assert processor["largest_enclave_64_bit"] == "2^56"
    assert [row["subleaf"] for row in processor["leaf_12"]] == [0, 1, 2, 3, 4]
    assert processor["virtual_machine"] is True
    assert epc["sysfs"] == [{"numa_node": 0, "bytes": 4096 * MIB}, {"numa_node": 1, "bytes": 2048 * MIB}]
    assert epc["sysfs_bytes"] == epc["cpuid_bytes"] == 6144 * MIB
    assert epc["device_plugin"]["epc_mib"] == 6144
    assert epc["device_plugin"]["source"] == "sysfs"


def test_the_number_of_the_processor_that_runs_the_thread_is_not_told(node):
    """EBX of leaf 1 has the initial APIC id."""
    assert "7f100800" not in json.dumps(node.report().to_json()).lower()


def test_devices(node):
    devices = node.values("devices")
    assert devices["driver"] == ["in the kernel"]
    kind = {"kind": "character device"}
    assert devices["nodes"] == [
        kind | {"path": "/dev/sgx_enclave", "mode": "0666", "uid": 0, "gid": 0, "group": "root"},
        kind | {"path": "/dev/sgx_provision", "mode": "0660", "uid": 0, "gid": 107, "group": "sgx_prv"},
    ]
    assert devices["groups"] == [
        {"group": "sgx", "gid": 106, "caller_is_member": False},
        {"group": "sgx_prv", "gid": 107, "caller_is_member": False},
    ]
    assert devices["udev_rules"] == ["91-sgx-enclave.rules"]


def test_what_is_at_a_path(node):
    real = NodeFiles(Path("/"))
    assert real.entry("/dev/null").kind == "character device"
    assert NodeFiles(node.root).entry("/etc").kind == "directory"
    assert NodeFiles(node.root).entry("/etc/group/below") is None


@pytest.mark.parametrize(
    ("entry", "name"), [("enclave", "out of the tree"), ("isgx", "legacy"), ("sgx_enclave", "in the kernel")]
)
def test_each_driver_is_told_by_its_entry_in_sysfs(node, entry, name):
    node.driver.rmdir()
    (node.root / "sys/class/misc" / entry).mkdir()
    assert node.values("devices")["driver"] == [name]


def test_system_packages_and_configuration(node):
    system, packages, configuration = node.values("system"), node.values("packages"), node.values("configuration")
    assert system["kernel"] == "6.8.0-45-generic"
    assert system["distribution"] == {"pretty_name": "Ubuntu 24.04.1 LTS", "id": "ubuntu", "version_id": "24.04"}
    assert (system["microcode"], system["kernel_flags"]) == ("0xd0003d1", ["sgx", "sgx_lc"])
    assert system["cgroup_epc_bytes"] == 6 << 30
    assert packages["manager"] == "dpkg"
    assert packages["packages"] == [{"name": "libsgx-urts", "version": "2.25.100.3-noble1"}]
    assert configuration["files"] == ["/etc/sgx_default_qcnl.conf", "/etc/aesmd.conf"]
    assert configuration["qcnl_syntax"] == "JSON"
    assert configuration["qcnl"] == {
        "custom_request_options": "redacted (1 members)",
        "pccs_url": "https://(redacted)@pccs.corp:8081/sgx/certification/v4/?(redacted)",
        "pck_cache_expire_hours": 168.0,
        "retry_times": 6,
        "use_secure_cert": False,
    }
    assert configuration["aesmd"] == {"aesm proxy": "http://(redacted)@proxy.corp:8080", "qpl log level": "info"}


def test_the_older_form_of_the_configuration(node):
    node.write("etc/sgx_default_qcnl.conf", "# x\nPCCS_URL=https://a:b@c/\nUSE_SECURE_CERT=FALSE\nRETRY_TIMES=3\n")
    configuration = node.values("configuration")
    assert configuration["qcnl_syntax"] == "key=value"
    assert configuration["qcnl"] == {"pccs_url": "https://(redacted)@c/", "retry_times": 3, "use_secure_cert": False}


def test_rpm_is_asked_where_dpkg_has_no_list(node):
    node.rpm = lambda: "bash\t5\nlibsgx-urts\t2.25-1\nsgx-aesm-service\tno version at all\n"
    assert node.values("packages")["manager"] == "dpkg"
    node.remove("var/lib/dpkg/status")
    packages = node.values("packages")
    assert packages["manager"] == "rpm"
    assert packages["packages"] == [{"name": "libsgx-urts", "version": "2.25-1"}]


def test_the_aesm_service_call_by_call(node, platform, aesmd):
    aesm = node.values("aesm")
    assert [(row["call"], row["outcome"], row["code"], row["seconds"]) for row in aesm["calls"]] == [
        ("GetSupportedAttKeyIDNum", "ok", 0, 0.25),
        ("GetSupportedAttKeyIDs", "ok", 0, 0.25),
        ("InitQuoteEx", "ok", 0, 0.25),
        ("GetQuoteSizeEx", "ok", 0, 0.25),
        ("GetQuoteEx (wrong MAC)", "aesm-invalid-report", 47, 0.25),
    ]
    assert aesm["key_count"] == 1
    assert aesm["key_ids"][0]["is_the_key_of_all_clients"] is True
    assert aesm["quoting_enclave"]["mr_enclave"] == platform.identity().target_info.mr_enclave.hex()
    assert aesm["quote_size"] == platform.quote_size()
    assert aesm["wrong_mac_code"] == 47
    assert aesm["pub_key_id"] == "redacted (32 bytes)"
    assert (aesm["socket"]["kind"], aesm["directory"]["kind"]) == ("socket", "directory")
    assert aesmd.asked.count(QUOTE) == 1
    assert platform.identity().pub_key_id.hex() not in json.dumps(node.report().to_json())


def test_passwords_are_in_neither_form(node):
    report = node.report()
    for text in (json.dumps(report.to_json()), "\n".join(report_lines(report))):
        assert "hunter2" not in text
        assert "0c1d" not in text


def test_a_bare_machine_has_findings_and_a_report(bare):
    report = bare.report()
    assert {finding.code for _, finding in report.findings} == {
        "processor-not-intel",
        "cpuid-without-sgx-leaf",
        "no-epc-in-sysfs",
        "no-driver",
        "no-enclave-node",
        "no-provision-node",
        "kernel-unknown",
        "distribution-unknown",
        "no-package-list",
        "qcnl-missing",
        "aesmd-conf-missing",
        "no-socket-directory",
    }
    assert all(finding.do for _, finding in report.findings)
    document = json.loads(json.dumps(report.to_json()))
    assert document["sections"]["processor"]["sgx"] == {
        "value": False,
        "meaning": SECTIONS["processor"].fields["sgx"],
    }


def test_text_has_a_meaning_for_each_field_and_each_finding(bare):
    report = bare.report()
    lines = [*report_lines(report)]
    assert len([line for line in lines if line.startswith("      # ")]) == sum(
        len(section.values) for section in report.sections
    )
    for _, finding in report.findings:
        assert any(line.startswith(f"  {finding.code} (") for line in lines)


def test_text_cannot_be_forged_by_a_file(node):
    node.write("proc/sys/kernel/osrelease", "6.8\n\x1b[2J\n  wrong-mac-accepted (aesm): forged")
    lines = [*report_lines(node.report())]
    assert all(line.isprintable() for line in lines)
