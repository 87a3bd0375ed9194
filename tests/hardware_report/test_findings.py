"""Every finding: what makes it appear, alone; and that none is left without a case."""

import ast
import contextlib
import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.hardware_report import collect as collecting
from confcom.hardware_report import node_files
from confcom.hardware_report.devices import Caller
from confcom.hardware_report.node_files import Entry
from confcom.sgx.epc_from_cpuid import MIB, CpuidRegisters
from testkit.hosts.fake import ENCLAVE, PROVISION
from testkit.hosts.sgx_node import EPC, INTEL, sgx_leaves
from testkit.stub_aesmd import IDS, INIT, NUM, QUOTE, SIZE

SOURCE = Path(collecting.__file__).parent
QUOTE_CODES = {"quote-not-read", "quote-without-certificates", "quote-not-genuine"}
"""Tested with the quotes, in test_quote_section.py."""


def without_sgx(node):
    node.leaves[7, 0] = CpuidRegisters(0, 0, 0, 0)


def no_sgx_leaf(node):
    node.leaves[0, 0] = CpuidRegisters(0x0D, INTEL.ebx, INTEL.ecx, INTEL.edx)


def other_vendor(node):
    node.leaves[0, 0] = CpuidRegisters(0x1B, 0x68747541, 0x444D4163, 0x69746E65)


def leaves(*sizes, **more):
    return lambda node: setattr(node, "leaves", sgx_leaves(*sizes, **more))


def write(path, text):
    return lambda node: node.write(path, text)


def remove(*paths):
    return lambda node: [node.remove(path) for path in paths]


def unload(node):
    node.driver.rmdir()


def legacy(node):
    node.driver.rmdir()
    (node.root / "sys/class/misc/isgx").mkdir()


def stranger(node):
    node.caller = Caller(1000, frozenset({1000}))


def broken(node):
    node.leaves = {}


QCNL = "etc/sgx_default_qcnl.conf"
CASES = {
    "cpuid-unreadable": lambda node: setattr(node, "leaves", None),
    "cpuid-without-sgx": without_sgx,
    "cpuid-without-sgx-leaf": no_sgx_leaf,
    "processor-not-intel": other_vendor,
    "no-launch-control": leaves(*EPC, leaf_7_ecx=0),
    "no-epc-in-cpuid": leaves(),
    "epc-sources-differ": leaves(4096 * MIB),
    "no-epc-in-sysfs": remove(*(f"sys/devices/system/node/node{n}/x86/sgx_total_bytes" for n in range(2))),
    "no-driver": unload,
    "legacy-driver": legacy,
    "no-enclave-node": lambda node: node.nodes.pop(ENCLAVE),
    "no-provision-node": lambda node: node.nodes.pop(PROVISION),
    "kernel-unknown": remove("proc/sys/kernel/osrelease"),
    "kernel-without-sgx": write("proc/sys/kernel/osrelease", "5.10.0-30-amd64\n"),
    "distribution-unknown": remove("etc/os-release"),
    "sgx-off-on-command-line": write("proc/cmdline", "quiet nosgx\n"),
    "sgx-hidden-by-kernel": write("proc/cpuinfo", "flags : fpu sse\n"),
    "no-package-list": remove("var/lib/dpkg/status"),
    "no-intel-packages": write("var/lib/dpkg/status", "Package: bash\nStatus: install ok installed\nVersion: 5\n"),
    "no-quote-provider-library": remove("usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1"),
    "qcnl-missing": remove(QCNL),
    "qcnl-not-json": write(QCNL, '{"pccs_url": "https://x",}'),
    "qcnl-unknown-keys": write(QCNL, '{"PCCS_URL": "https://x"}'),
    "qcnl-wrong-values": write(QCNL, '{"use_secure_cert": "hunter2"}'),
    "aesmd-conf-missing": remove("etc/aesmd.conf"),
    "file-unread": write("etc/aesmd.conf", "x" * 300_000),
    "section-failed": broken,
}
"""What makes each finding appear. Others may appear with it."""


class Denying:
    """The module os, which is denied a path."""

    def __init__(self, path):
        self._path = path

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags):
        return os.open(self._permitted(path), flags)

    def listdir(self, path):
        return os.listdir(self._permitted(path))  # noqa: PTH208 # what is stood in for

    def _permitted(self, path):
        if str(path) == self._path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return path


def made_by(monkeypatch, **parts):
    """The answers of the service, changed on their way."""
    from confcom.hardware_report import aesm_calls

    converse = aesm_calls.AesmClient.converse

    def changed(self, generator):
        answer = converse(self, generator)
        for name, value in parts.items():
            if hasattr(answer, name):
                answer = type(answer)(**{one: getattr(answer, one) for one in answer.__slots__} | {name: value})
        return answer

    monkeypatch.setattr(aesm_calls.AesmClient, "converse", changed)


AESM_CASES = {
    "no-attestation-key": {"att_key_id_num": 0},
    "aesm-answer-malformed": {"target_info": b"short"},
    "quotes-without-pck-chain": {"quote_size": 1456},
}


def given_codes():
    """Every code that the package gives."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield from (
                    one.value.value
                    for one in node.keywords
                    if one.arg == "code" and isinstance(one.value, ast.Constant)
                )


def test_every_code_has_a_case():
    others = {"caller-without-device", "wrong-mac-accepted", "wrong-mac-other-code"}
    by_command = {"quote-helper-unreachable", "quote-none-yet", "quote-not-named", "quote-page-unreadable"}
    assert set(given_codes()) - {None} == {*CASES, *AESM_CASES, *QUOTE_CODES, *others, *by_command}


@pytest.mark.parametrize("code", CASES)
def test_it_is_found(node, code):
    assert code not in node.codes()
    CASES[code](node)
    findings = {finding.code: finding for _, finding in node.report().findings}
    assert code in findings
    assert findings[code].what
    assert findings[code].do
    assert "hunter2" not in str(node.report())


@pytest.mark.parametrize("code", AESM_CASES)
def test_it_is_found_in_what_the_aesm_service_answers(node, monkeypatch, code):
    made_by(monkeypatch, **AESM_CASES[code])
    assert code in node.codes()


def test_a_caller_who_cannot_open_a_device(node):
    node.nodes["/dev/sgx_vepc"] = Entry("character device", 0o600, 0, 0)
    stranger(node)
    assert node.codes() == ["caller-without-device"]
    node.caller = Caller(1000, frozenset({1000, 107}))
    assert node.codes() == []


def test_problems_of_the_nodes_are_the_device_plugins(node):
    node.nodes[ENCLAVE] = Entry("character device", 0o600, 0, 0)
    assert node.codes() == ["device-closed"]


def test_a_service_that_quotes_a_report_with_a_wrong_mac(node, monkeypatch):
    made_by(monkeypatch, error_code=0)
    assert node.codes() == ["wrong-mac-accepted"]
    assert node.values("aesm")["wrong_mac_code"] == 0


def test_our_quote_helpers_answer_to_a_wrong_mac_is_known(node, aesmd):
    aesmd.codes = {QUOTE: Code.ATT_KEY_NOT_INITIALIZED}
    assert node.codes() == []


def test_a_wrong_mac_that_is_refused_for_another_reason(node, aesmd):
    aesmd.codes = {QUOTE: Code.UNEXPECTED_ERROR}
    assert node.codes() == ["wrong-mac-other-code"]
    assert node.values("aesm")["wrong_mac_code"] == 1


@pytest.mark.parametrize(
    ("refused", "codes"),
    [
        ({INIT: Code.UNEXPECTED_ERROR}, ["aesm-unexpected-error", "aesm-att-key-not-initialized"]),
        (
            {NUM: Code.SERVICE_UNAVAILABLE, INIT: Code.UNSUPPORTED_ATT_KEY_ID, SIZE: Code.UNSUPPORTED_ATT_KEY_ID},
            ["aesm-service-unavailable", "aesm-unsupported-att-key-id", "aesm-unsupported-att-key-id"],
        ),
    ],
)
def test_each_refusal_is_a_finding_and_the_other_calls_are_made(node, aesmd, refused, codes):
    aesmd.codes = refused
    report = node.report()
    assert [finding.code for _, finding in report.findings] == codes
    assert QUOTE in aesmd.asked


def test_a_service_that_hangs_is_asked_once(node, aesmd):
    aesmd.hang.clear()
    node.call_seconds = 0.2
    assert node.codes() == ["answer-timeout"]
    assert aesmd.asked == [NUM, IDS, INIT]


def test_a_service_that_is_gone(node, aesmd):
    aesmd.kill()
    assert node.codes() == ["socket-stale"]
    assert len(node.values("aesm")["calls"]) == 1


@pytest.mark.parametrize(
    ("cut", "code"), [(3, "closed-mid-answer"), (0, "closed-unanswered")], ids=["half an answer", "no answer"]
)
def test_a_service_that_breaks_off(node, aesmd, cut, code):
    aesmd.cut = cut
    assert node.codes() == [code]


def test_a_program_that_is_no_aesm_service(node, aesmd, short_dir):
    """It is asked every time, since it answers."""
    node.socket = short_dir / "other.socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(node.socket))
        listener.listen()

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"\x04\0\0\0HTTP")

        threading.Thread(target=answer, daemon=True).start()
        report = node.report()
        listener.shutdown(socket.SHUT_RDWR)
    found = [one.what for key, one in report.findings if key == "aesm"]
    assert len(found) == 4
    assert len(next(one for one in report.sections if one.key == "aesm").values["calls"]) == 4


@pytest.mark.parametrize("denied", ["/sys/devices/system/node", "/etc/aesmd.conf", "/etc/udev/rules.d"])
def test_what_may_not_be_read_is_told(node, monkeypatch, denied):
    """As for a user who is not root."""
    monkeypatch.setattr(node_files, "os", Denying(str(node.root) + denied))
    findings = [finding for _, finding in node.report().findings if finding.code == "file-unread"]
    assert [denied in finding.what for finding in findings] == [True]
    assert "section-failed" not in node.codes()


def test_a_path_that_no_socket_can_have(node, tmp_path):
    node.socket = tmp_path / ("x" * 120)
    assert node.codes() == ["socket-path-too-long"]


@pytest.mark.parametrize("kind", ["FIFO", "directory", "loop"])
def test_something_else_in_a_files_place_is_told_and_does_not_block(node, kind):
    path = node.root / "etc/aesmd.conf"
    path.unlink()
    {"FIFO": lambda: os.mkfifo(path), "directory": path.mkdir, "loop": lambda: path.symlink_to(path)}[kind]()
    assert node.codes() == ["aesmd-conf-missing"] * (kind == "loop") + ["file-unread"]
    (row,) = node.values("files")["unread"]
    assert row["path"] == "/etc/aesmd.conf"


WRONG = '{"pccs_url": 1, "custom_request_options": [], "use_secure_cert": {}, "retry_times": 1e300}'


@pytest.mark.parametrize(
    "text", ["", "{", "{" * 3000, '{"a": NaN}', "[1]", "\0\xff", '{"retry_times": true}', "=\n==", WRONG]
)
def test_no_configuration_ends_the_report(node, text):
    node.write(QCNL, text)
    node.write("etc/aesmd.conf", text)
    assert "section-failed" not in node.codes()
