"""Each alert fires and resolves at its time, in Prometheus' own test program."""

import json
import subprocess
from dataclasses import dataclass

import pytest
import yaml

from testkit.chart_golden import CHART, golden

RULES = CHART / "files" / "alerts.yaml"
WHERE = 'namespace="sgx",node="n1",pod="p1",instance="10.0.0.1:8080"'
HELPER, PLUGIN = f'{WHERE},job="quote-helper"', f'{WHERE},job="device-plugin"'
CONTROLLER = f'{WHERE},job="controller"'
DAY = 86400


@dataclass(frozen=True, slots=True)
class Case:
    """Samples in steps of one minute, and minutes at which the alert is not there, pending or firing."""

    series: dict
    pending: int | None
    firing: int
    resolved: int


CASES = {
    "ConfcomQuoteHelperNotReady": Case({f"confcom_quote_helper_ready{{{HELPER}}}": "1x5 0x30 1x10"}, 12, 20, 40),
    "ConfcomDaemonDown": Case(
        {f"up{{{HELPER}}}": "1x5 0x30 1x10", f'confcom_build_info{{{HELPER},version="1"}}': "1x5 _x30 1x10"}, 12, 20, 40
    ),
    "ConfcomQuotesFailing": Case(
        {
            f'confcom_quote_helper_request_seconds_count{{{HELPER},request="{request}",result="{result}"}}': values
            for request, result, values in [
                ("GetQuoteEx", "service_unavailable", "0x5 1+1x20 21x30"),
                ("GetQuoteEx", "success", "0+9x60"),
                ("GetQuoteEx", "invalid_report", "0+9x60"),
                ("GetSupportedAttKeyIDs", "unexpected_error", "0+9x60"),
            ]
        },
        10,
        20,
        40,
    ),
    "ConfcomQuoteProviderLost": Case(
        {f"confcom_quote_helper_provider_losses_total{{{HELPER}}}": "0x5 1 1 2 2 3 4 4x90"}, None, 30, 80
    ),
    "ConfcomClientsShed": Case(
        {
            f'confcom_quote_helper_connections_dropped_total{{{HELPER},reason="{reason}"}}': values
            for reason, values in [("shed", "0x5 1+1x5 6x40"), ("gone", "0+1x60")]
        },
        8,
        15,
        40,
    ),
    "ConfcomTwoRoots": Case(
        {
            f'confcom_quote_helper_simulated_root_info{{{HELPER},sha256="a"}}': "1x90",
            'confcom_quote_helper_simulated_root_info{namespace="sgx",node="n2",sha256="b"}': "_x5 1x50 stale",
        },
        20,
        50,
        70,
    ),
    "ConfcomPluginNotRegistered": Case(
        {
            f"confcom_device_plugin_ready{{{PLUGIN}}}": "1x60",
            f'confcom_device_plugin_registered{{{PLUGIN},resource="a"}}': "1x60",
            f'confcom_device_plugin_registered{{{PLUGIN},resource="b"}}': "1x5 0x30 1x20",
        },
        12,
        20,
        40,
    ),
    "ConfcomDeviceUnhealthy": Case(
        {f'confcom_device_plugin_device_healthy{{{PLUGIN},device="enclave"}}': "1x5 0x30 1x20"}, 8, 15, 40
    ),
    "ConfcomEpcShortfall": Case({f"confcom_controller_shortfall_nodes{{{CONTROLLER}}}": "0x5 2x30 0x20"}, 12, 25, 40),
    "ConfcomControllerBlind": Case({f"confcom_controller_ready{{{CONTROLLER}}}": "1x5 0x30 1x20"}, 8, 15, 40),
    "ConfcomVersionsDiffer": Case(
        {
            f'confcom_build_info{{{HELPER},version="1"}}': "1x200",
            f'confcom_build_info{{{PLUGIN},version="2"}}': "_x5 1x100 stale",
        },
        40,
        90,
        120,
    ),
    "ConfcomCertificateExpires": Case(
        {
            f'confcom_quote_helper_certificate_not_after_timestamp_seconds{{{HELPER},certificate="pck"}}': (
                f"{14 * DAY + 600}x100 {365 * DAY}x30"
            )
        },
        30,
        90,
        120,
    ),
}
"""An outage from minute 5 on, unless the values say otherwise."""


@pytest.fixture(scope="session")
def rules():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_every_alert_has_its_case_and_says_what_people_need(rules):
    assert rules.keys() == CASES.keys()
    for name, rule in rules.items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert {"for", "annotations"} <= rule.keys(), name
        assert rule["annotations"].keys() == {"summary", "description"}, name


def test_the_chart_has_the_same_rules(rules):
    (group,) = golden("placement")["PrometheusRule", "confcom"]["spec"]["groups"]
    assert {rule["alert"]: rule for rule in group["rules"]} == rules


@pytest.mark.parametrize("name", CASES)
def test_it_fires_and_resolves(promtool, tmp_path, name):
    case = CASES[name]
    states = {0: "", case.firing: "firing", case.resolved: ""} | ({case.pending: "pending"} if case.pending else {})
    expected = [
        {
            "expr": "count by (alertname, alertstate) (ALERTS)",
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{alertname="{name}",alertstate="{state}"}}', "value": 1}] if state else [],
        }
        for minute, state in states.items()
    ]
    series = [{"series": series, "values": values} for series, values in case.series.items()]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": expected}
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
