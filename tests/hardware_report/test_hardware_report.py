import errno
import os

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.device_plugin.host import MAX_FILE_BYTES
from confcom.hardware_report.report import text_lines
from confcom.sgx.epc_from_cpuid import MIB, CpuidRegisters
from testkit.hosts.tree import HostTree
from testkit.stub_aesmd import IDS, INIT, NUM, QUOTE, SIZE
from tests.hardware_report.conftest import EPC, NO_SGX

QCNL = "etc/sgx_default_qcnl.conf"


def test_processor(node):
    processor = node.facts("processor")
    assert (processor["vendor"], processor["sgx"], processor["launch_control"]) == ("GenuineIntel", True, True)
    assert (processor["signature"], processor["virtual_machine"]) == ("0x606a6", True)
    assert processor["leaf_7"]["ebx"] == "0x029c6fbf"
    assert [row["subleaf"] for row in processor["leaf_12"]] == [0, 1, 2, 3, 4]
    assert processor["leaf_12"][0] == {
        "subleaf": 0,
        "eax": "0x00000003",
        "ebx": "0x00000001",
        "ecx": "0x00000000",
        "edx": "0x0000381f",
    }


@pytest.mark.parametrize(
    ("leaves", "facts"),
    [
        ({(7, 0): CpuidRegisters(0, 0, 0, 0)}, {"sgx": False, "launch_control": False, "leaf_12": []}),
        ({(0, 0): CpuidRegisters(0x0D, 0, 0, 0)}, {"sgx": False, "last_leaf": "0xd", "leaf_12": []}),
        ({(0, 0): CpuidRegisters(1, 0, 0, 0)}, {"last_leaf": "0x1"}),
    ],
    ids=["switched off", "no SGX leaf", "no feature leaf"],
)
def test_processors_without_sgx(node, leaves, facts):
    node.leaves |= leaves
    assert facts.items() <= node.facts("processor").items()


def test_kernel(node):
    assert node.facts("kernel") == {
        "kernel": "6.8.0-45-generic",
        "distribution": "Ubuntu 24.04.1 LTS",
        "microcode": "0xd0003d1",
        "kernel_flags": ["sgx", "sgx_lc"],
        "switched_off_by": [],
    }
    node.write("proc/cmdline", "quiet nosgx\n")
    node.write("proc/cpuinfo", "flags : fpu sse\n")
    node.write("etc/os-release", "ID=x\n")
    kernel = node.facts("kernel")
    assert (kernel["switched_off_by"], kernel["kernel_flags"]) == (["nosgx"], [])
    assert kernel["distribution"] is None


def test_devices(node):
    devices = node.facts("devices")
    assert devices == {
        "drivers": ["/sys/class/misc/sgx_enclave"],
        "nodes": {
            "/dev/sgx_enclave": {"mode": "crw-rw-rw-", "uid": 0, "gid": 0, "group": "root"},
            "/dev/sgx_provision": {"mode": "crw-rw----", "uid": 0, "gid": 107, "group": "sgx_prv"},
        },
        "groups": {"sgx": 106, "sgx_prv": 107},
        "epc_bytes": {"node0": str(4096 * MIB), "node1": str(2048 * MIB)},
        "device_plugin": {"epc_mib": sum(EPC) // MIB, "source": "sysfs"},
    }
    node.driver.rmdir()
    devices = node.facts("devices")
    assert (devices["drivers"], devices["device_plugin"]) == ([], {"code": "epc-without-driver"})


def test_packages_and_libraries(node):
    software = node.facts("software")
    assert software["packages"] == {"libsgx-urts": "2.25.100.3-noble1"}
    assert software["libraries"] == [
        "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1",
        "/opt/intel/sgx-aesm-service/aesm/aesm_service",
    ]
    node.write("var/lib/dpkg/status", "Package: libsgx-urts\nStatus: install ok installed\nVersion: none at all\n")
    assert node.facts("software")["packages"] == {}
    node.remove("var/lib/dpkg/status")
    assert node.facts("software")["packages"] is None


def test_configuration(node):
    assert node.facts("software")["configuration"] == {
        "/etc/sgx_default_qcnl.conf": {
            "syntax": "JSON",
            "values": {
                "custom_request_options": "redacted",
                "pccs_url": "https://(redacted)@pccs.corp:8081/sgx/certification/v4/?(redacted)",
                "pck_cache_expire_hours": "168.0",
                "retry_times": "6",
                "use_secure_cert": "False",
            },
            "unknown_keys": 0,
        },
        "/etc/aesmd.conf": {
            "syntax": "key=value",
            "values": {"aesm proxy": "http://(redacted)@proxy.corp:8080", "qpl log level": "info"},
            "unknown_keys": 1,
        },
    }
    node.remove("etc/aesmd.conf")
    node.write(QCNL, "# x\nPCCS_URL=https://a:b@c/\nUSE_SECURE_CERT=FALSE\nRETRY_TIMES=3\n")
    configuration = node.facts("software")["configuration"]
    assert configuration["/etc/aesmd.conf"] is None
    assert configuration["/etc/sgx_default_qcnl.conf"] == {
        "syntax": "key=value",
        "values": {"pccs_url": "https://(redacted)@c/", "retry_times": "3", "use_secure_cert": "FALSE"},
        "unknown_keys": 0,
    }


WRONG = '{"pccs_url": 1, "custom_request_options": [], "use_secure_cert": {}, "retry_times": 1e300}'


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("", "key=value"),
        ("{", "invalid JSON"),
        ("{" * 3000, "invalid JSON"),
        ('{"pccs_url": "https://x",}', "invalid JSON"),
        ('{"a": NaN}', "JSON"),
        (WRONG, "JSON"),
    ],
)
def test_no_configuration_ends_the_report(node, text, syntax):
    node.write(QCNL, text)
    found = node.facts("software")["configuration"]["/etc/sgx_default_qcnl.conf"]
    assert found["syntax"] == syntax
    assert set(found.get("values", {}).values()) <= {"redacted"}


def calls(node):
    return [(row["call"], row["outcome"], row["code"]) for row in node.facts("aesm")["calls"]]


def test_aesm_service(node, aesmd):
    aesm = node.facts("aesm")
    assert aesm["calls"] == [
        {"call": "GetSupportedAttKeyIDs", "outcome": "ok", "code": 0, "seconds": 0.25},
        {"call": "InitQuoteEx", "outcome": "ok", "code": 0, "seconds": 0.25},
        {"call": "GetQuoteSizeEx", "outcome": "ok", "code": 0, "seconds": 0.25},
        {"call": "GetQuoteEx (wrong MAC)", "outcome": "aesm-invalid-report", "code": 47, "seconds": 0.25},
    ]
    assert aesm["key_ids"] == [{"id": 0, "version": 0, "algorithm": 2, "prod_id": 1}]
    assert aesm["quoting_enclave"]["mr_enclave"] == aesmd.provider.identity().target_info.mr_enclave.hex()
    assert aesm["quote_size"] == aesmd.provider.quote_size()
    assert (aesm["socket"]["mode"][0], aesm["directory"]["mode"][0]) == ("s", "d")
    assert aesmd.asked.count(QUOTE) == 1


@pytest.mark.parametrize(
    ("refused", "rows"),
    [
        ({INIT: Code.UNEXPECTED_ERROR}, {"InitQuoteEx": 1, "GetQuoteSizeEx": 42, "GetQuoteEx (wrong MAC)": 42}),
        (
            {NUM: Code.SERVICE_UNAVAILABLE, SIZE: Code.UNSUPPORTED_ATT_KEY_ID},
            {"GetSupportedAttKeyIDs": 30, "GetQuoteSizeEx": 38, "GetQuoteEx (wrong MAC)": 38},
        ),
    ],
    ids=["init", "number and size"],
)
def test_each_refusal_is_a_fact_and_the_other_calls_are_made(node, aesmd, refused, rows):
    aesmd.codes = refused
    assert {call: code for call, _, code in calls(node) if code} == rows


@pytest.mark.parametrize(
    ("trouble", "outcome", "made"),
    [
        (lambda aesmd: aesmd.hang.clear(), "answer-timeout", 2),
        (lambda aesmd: aesmd.kill(), "socket-stale", 1),
        (lambda aesmd: aesmd.path.unlink(), "no-socket", 1),
        (lambda aesmd: setattr(aesmd, "cut", 3), "closed-mid-answer", 1),
        (lambda aesmd: setattr(aesmd, "cut", 0), "closed-unanswered", 1),
    ],
    ids=["hangs", "killed", "gone", "half an answer", "no answer"],
)
def test_a_service_that_does_not_answer_is_asked_no_more(node, aesmd, trouble, outcome, made):
    trouble(aesmd)
    node.call_seconds = 0.2
    rows = calls(node)
    assert (rows[-1][1], len(rows)) == (outcome, made)
    assert aesmd.asked in ([], [NUM], [NUM, IDS, INIT])


def test_a_program_that_is_no_aesm_service_is_asked_every_time(node, aesmd):
    aesmd.garbage = b"\x04\0\0\0HTTP"
    assert [code for *_, code in calls(node)] == [0] * 4


def test_a_path_that_no_socket_can_have(node, tmp_path):
    node.socket = tmp_path / ("x" * 120)
    assert node.facts("aesm") == {"failed": "socket-path-unusable"}


@pytest.mark.parametrize("denied", ["/sys/devices/system/node", "/etc/aesmd.conf"])
def test_a_denied_file_is_a_fact(node, monkeypatch, denied):
    """The system denies reading a file, as it does for a user other than root."""

    def refusing(call):
        def called(path, *more, **options):
            if str(path) == f"{node.root}{denied}":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return call(path, *more, **options)

        return called

    for name in ("open", "listdir", "scandir"):  # pathlib lists by scandir from 3.13 on
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    assert node.facts("unread") == {denied: "Permission denied"}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("FIFO", "not a regular file"),
        ("directory", "Is a directory"),
        ("loop", os.strerror(errno.ELOOP)),
        ("long", f"longer than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_something_else_in_a_files_place_does_not_block(node, kind, reason):
    path = node.root / "etc/aesmd.conf"
    path.unlink()
    make = {"FIFO": lambda: os.mkfifo(path), "directory": path.mkdir, "loop": lambda: path.symlink_to(path)}
    make.get(kind, lambda: path.touch() or os.truncate(path, MAX_FILE_BYTES + 1))()
    assert node.facts("unread") == {"/etc/aesmd.conf": reason}


def test_a_machine_with_nothing_has_a_report(node, tmp_path):
    bare = HostTree(tmp_path / "bare")
    (bare.root / "sys/devices/system/node/node0/x86/sgx_total_bytes").unlink()
    node.root, node.nodes, node.leaves, node.socket = bare.root, {}, NO_SGX, tmp_path / "nowhere" / "aesm.socket"
    sections = node.report()["sections"]
    assert (sections["processor"]["vendor"], sections["processor"]["sgx"]) == ("AuthenticAMD", False)
    assert sections["kernel"]["kernel"] is sections["kernel"]["microcode"] is sections["kernel"]["kernel_flags"] is None
    assert (sections["devices"]["nodes"], sections["devices"]["epc_bytes"]) == ({}, {})
    assert sections["devices"]["device_plugin"] == {"code": "no-sgx-driver"}
    assert (sections["aesm"]["socket"], sections["aesm"]["calls"][0]["outcome"]) == (None, "no-socket")
    assert sections["unread"] == {}
    node.leaves = None
    assert node.facts("processor") == {"failed": "not-x86-64"}


def test_a_bug_costs_one_section(node):
    node.leaves = {}
    sections = node.report()["sections"]
    assert sections["processor"]["failed"].startswith("KeyError in conftest.py:")
    assert sections["kernel"]["kernel"] == "6.8.0-45-generic"


def test_text_has_every_fact_and_cannot_be_forged(node):
    node.write("proc/sys/kernel/osrelease", "6.8\n\x1b[2J\n  forged: yes")
    lines = [*text_lines(node.report())]
    assert all(line.isprintable() for line in lines)
    assert not any(line.strip().startswith("forged") for line in lines)
    for expected in (
        "format: confcom-hardware-report/1",
        "    sgx: yes",
        "      - call=InitQuoteEx  outcome=ok  code=0  seconds=0.25",
        "    switched_off_by: none",
    ):
        assert expected in lines
