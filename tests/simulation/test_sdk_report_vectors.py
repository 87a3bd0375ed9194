from confcom.sgx.report import Report, TargetInfo
from confcom.simulation.enclave import (
    BASE_REPORT_KEY,
    SIMULATION_KEY_ID,
    ReportMac,
    derivation_data,
    report_key,
    sign_report,
)


def test_reports_are_reproduced(sdk_reports):
    assert len(sdk_reports) == 32
    for key_format, made in sdk_reports:
        target, report = TargetInfo.parse(made.target_info), Report.parse(made.report)
        cpu_svn = report.body.cpu_svn
        assert made.base_key == BASE_REPORT_KEY
        assert made.keyid == report.key_id == SIMULATION_KEY_ID
        assert derivation_data(key_format, target, cpu_svn, report.key_id) == made.derivation_data
        key = report_key(key_format, target, cpu_svn, report.key_id)
        assert key == made.report_key
        assert ReportMac(key)(made.report[:384]) == made.mac
        assert sign_report(report.body, target, key_format=key_format).encode() == made.report
