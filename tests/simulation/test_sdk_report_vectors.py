"""Byte for byte against reports made by Intel's own simulation code."""

import pytest

from confcom.sgx.report import Report, TargetInfo
from confcom.simulation.enclave import sign_report
from confcom.simulation.report_key import (
    BASE_REPORT_KEY,
    DEFAULT_CPU_SVN,
    SIMULATION_KEY_ID,
    ReportKeyFormat,
    ReportMac,
    derivation_data,
    report_key,
)


def test_vector_is_reproduced(vector):
    key_format = ReportKeyFormat(vector.key_format)
    target = TargetInfo.parse(vector.target_info)
    report = Report.parse(vector.report)
    cpu_svn = report.body.cpu_svn

    assert vector.base_key == BASE_REPORT_KEY
    assert vector.keyid == report.key_id == SIMULATION_KEY_ID
    assert derivation_data(key_format, target, cpu_svn, report.key_id) == vector.derivation_data
    key = report_key(key_format, target, cpu_svn, report.key_id)
    assert key == vector.report_key
    assert ReportMac(key)(vector.report[:384]) == vector.mac
    assert sign_report(report.body, target, key_format=key_format).encode() == vector.report


@pytest.mark.parametrize(
    ("key_format", "size", "key"),
    [
        (ReportKeyFormat.CURRENT, 192, "c8701a70298b5251e5ba3cc48ff9291e"),
        (ReportKeyFormat.LEGACY, 120, "9fe7278abc98e34adc7cd1961758897d"),
    ],
)
def test_all_zero_target_gives_the_known_key(key_format, size, key):
    zero = TargetInfo(mr_enclave=bytes(32), flags=0, xfrm=0)
    assert len(derivation_data(key_format, zero, DEFAULT_CPU_SVN, SIMULATION_KEY_ID)) == size
    assert report_key(key_format, zero, DEFAULT_CPU_SVN, SIMULATION_KEY_ID).hex() == key
