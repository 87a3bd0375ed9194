"""Intel's C interface: our structures and numbers beside the stand-ins' header, and both beside Intel's own headers.

Intel's are in the crate intel-tee-quote-verification-sys, whose bindings are text that was made from them.
"""

import re
import subprocess

import pytest

from confcom.quote_provider.dcap.error_codes import Quote3Error
from confcom.sgx.key_id import AttKeyId
from confcom.sgx.report import QeReportInfo, Report, TargetInfo
from testkit.crates import crate_source
from testkit.stub_dcap import COMPILE, SOURCE, find_compiler

STRUCTURES = (
    "target_info_t",
    "report_t",
    "sgx_ql_qe_report_info_t",
    "sgx_ql_att_key_id_t",
    "sgx_att_key_id_ext_t",
    "sgx_ql_pck_cert_id_t",
    "sgx_ql_config_t",
    "sgx_ql_qve_collateral_t",
)
NO_ERRORS = {"ERROR_MIN", "ERROR_MAX"}
"""Where the range of numbers begins and ends."""


def compiled(tmp_path, lines, *options):
    """Compile a C program after the header; return its path."""
    source = tmp_path / "program.c"
    source.write_text('#include "dcap_interface.h"\n' + "\n".join(lines))
    subprocess.run([find_compiler(), *COMPILE, *options, "-o", tmp_path / "program", source], check=True)
    return tmp_path / "program"


EMPTY_TARGET = TargetInfo(bytes(32), 0, 0)
EMPTY_KEY = AttKeyId(0, 0, 0, bytes(48), 0, bytes(16), bytes(64), bytes(16), 0)


def key_with(**values):
    return AttKeyId(**{name: getattr(EMPTY_KEY, name) for name in AttKeyId.__dataclass_fields__} | values).encode()


ONES_16, ONES_32 = 0xFFFF, 0xFFFF_FFFF
OURS = {
    "target_info_t": {
        "mr_enclave": TargetInfo(b"\xff" * 32, 0, 0).encode(),
        "attributes": TargetInfo(bytes(32), 2**64 - 1, 2**64 - 1).encode(),
        "config_svn": TargetInfo(bytes(32), 0, 0, config_svn=ONES_16).encode(),
        "misc_select": TargetInfo(bytes(32), 0, 0, misc_select=ONES_32).encode(),
        "config_id": TargetInfo(bytes(32), 0, 0, config_id=b"\xff" * 64).encode(),
    },
    "report_t": {
        "body": Report(b"\xff" * 384, bytes(32), bytes(16)).encode(),
        "key_id": Report(bytes(384), b"\xff" * 32, bytes(16)).encode(),
        "mac": Report(bytes(384), bytes(32), b"\xff" * 16).encode(),
    },
    "sgx_ql_qe_report_info_t": {
        "nonce": QeReportInfo(b"\xff" * 16, EMPTY_TARGET, bytes(432)).encode(),
        "qe_report": QeReportInfo(bytes(16), EMPTY_TARGET, b"\xff" * 432).encode(),
    },
    "sgx_ql_att_key_id_t": {
        "id": key_with(id=ONES_16),
        "version": key_with(version=ONES_16),
        "mrsigner_length": key_with(mrsigner_length=ONES_16),
        "mrsigner": key_with(mrsigner=b"\xff" * 48),
        "prod_id": key_with(prod_id=ONES_32),
        "extended_prod_id": key_with(extended_prod_id=b"\xff" * 16),
        "config_id": key_with(config_id=b"\xff" * 64),
        "family_id": key_with(family_id=b"\xff" * 16),
        "algorithm_id": key_with(algorithm_id=ONES_32),
    },
    "sgx_att_key_id_ext_t": {
        "spid": key_with(spid=b"\xff" * 16),
        "att_key_type": key_with(att_key_type=ONES_16),
        "reserved": key_with(reserved=b"\xff" * 80),
    },
}
"""By structure and field: what we encode if all bits of that field are set, and of no other one."""


def test_our_structures_have_cs_layout(tmp_path):
    lines = [
        f'printf("{structure} {field} %zu %zu %zu\\n", sizeof({structure}), offsetof({structure}, {field}), '
        f"sizeof((({structure} *)0)->{field}));"
        for structure, fields in OURS.items()
        for field in fields
    ]
    program = compiled(tmp_path, ["#include <stdio.h>", "int main(void) {", *lines, "}"])
    layouts = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    assert len(layouts) == sum(map(len, OURS.values()))
    for layout in layouts:
        structure, field, whole, offset, size = layout.split()
        before, length = int(offset), int(size)
        encoded = OURS[structure][field]
        assert encoded == bytes(before) + b"\xff" * length + bytes(len(encoded) - before - length), layout
        assert len(encoded) == (256 if structure == "sgx_ql_att_key_id_t" else int(whole)), layout


@pytest.fixture(scope="module")
def bindings():
    source = crate_source("intel-tee-quote-verification-sys", "0.3.1")
    return (source / "docsrs" / "prebuilt-bindings.rs").read_text()


def test_the_layouts_are_those_of_intels_headers(tmp_path, bindings):
    sizes = re.findall(r'\["Size of _(\w+)"\]\s*\[::std::mem::size_of::<\w+>\(\) - (\d+)usize\]', bindings)
    offsets = re.findall(
        r'\["Offset of field: _(\w+)::(\w+)"\]\s*\[::std::mem::offset_of!\(\s*\w+,\s*\w+\s*\)\s*- (\d+)usize\]',
        bindings,
    )
    assert set(STRUCTURES) <= {name for name, _ in sizes}
    asserted = [f"HAS_SIZE({name}, {size});" for name, size in sizes if name in STRUCTURES]
    asserted += [f"IS_AT({name}, {field}, {at});" for name, field, at in offsets if name in STRUCTURES]
    assert len(asserted) > 50
    compiled(tmp_path, asserted, "-c")


def test_the_errors_are_those_of_intels_headers(bindings):
    found = re.findall(r"pub const SGX_QL_(\w+): _quote3_error_t =\s*_quote3_error_t\((\d+)\);", bindings)
    assert {name: int(value) for name, value in found if name not in NO_ERRORS} == {
        error.name: error.value for error in Quote3Error
    }


def test_what_the_stand_ins_answer_themselves_has_intels_numbers(tmp_path):
    header = (SOURCE.parent / "dcap_interface.h").read_text()
    asserted = [
        f'_Static_assert({name} == {Quote3Error[name.removeprefix("SGX_QL_")]}, "{name}");'
        for name in re.findall(r"^    (SGX_QL_\w+) =", header, re.MULTILINE)
    ]
    assert asserted
    compiled(tmp_path, asserted, "-c")
