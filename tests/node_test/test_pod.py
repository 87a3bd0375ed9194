import pytest

from confcom.kubernetes import objects
from confcom.kubernetes.node import Node
from confcom.node_test.pod import GRACE_SECONDS, TEST_LABEL, USER, expired, lifetime, namespace_manifest, pod_spec
from confcom.node_test.selection import targets
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC

CHALLENGE = bytes(range(32))
ENFORCE = "pod-security.kubernetes.io/enforce"
SIMULATED_EPC = "simulated.confcom.internal/sgx_epc_mem_in_MiB"


def target(labels=make.SIMULATED, *, args=("--simulated",), epc=EPC, plugin_args=(), **more):
    sets = [make.daemon_set("device-plugin", labels, args=(*args, *plugin_args))]
    sets.append(make.daemon_set("quote-helper", labels, args=args, image="r.test/helper@sha256:7", **more))
    (found,) = targets([Node.parse(make.node("a", labels, resources={epc: 9}))], sets, ())
    return found


def pod(found, image=""):
    return {"spec": pod_spec(found, CHALLENGE, image=image, timeout=60)}


def test_the_pod_runs_the_sample_of_the_helpers_image_on_its_node():
    made = pod(target(tolerations=[{"key": "sgx", "operator": "Exists"}], imagePullSecrets=[{"name": "pull"}]))
    spec, (container,) = made["spec"], made["spec"]["containers"]
    assert container["image"] == "r.test/helper@sha256:7"
    assert container["command"][:3] == ["python", "-m", "confcom.sample_workload"]
    assert {"name": "CONFCOM_CHALLENGE", "value": CHALLENGE.hex()} in container["env"]
    assert "nodeName" not in spec
    assert objects.node_of(made) == "a"
    assert (spec["tolerations"], spec["imagePullSecrets"]) == (
        [{"key": "sgx", "operator": "Exists"}],
        [{"name": "pull"}],
    )
    assert spec["activeDeadlineSeconds"] == 60 + GRACE_SECONDS
    assert spec["volumes"] == []


@pytest.mark.parametrize(("found", "image"), [(target(), ""), (target(make.HARDWARE, args=()), "mine:1")])
def test_the_pod_meets_the_restricted_level_of_pod_security(found, image):
    spec = pod(found, image)["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == USER
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("found", "image", "expected", "no_quote"),
    [
        (target(), "", EPC, False),
        (target(epc=SIMULATED_EPC), "", SIMULATED_EPC, False),
        (target(make.HARDWARE, args=()), "", EPC, True),
        (target(), "mine:1", EPC, False),
    ],
)
def test_epc_has_the_nodes_name_and_hardware_has_no_sample_enclave(found, image, expected, no_quote):
    (container,) = pod(found, image)["spec"]["containers"]
    assert objects.requests_of(pod(found, image), expected) == 1
    assert ("--no-quote" in container["command"]) is no_quote
    assert container["image"].startswith("r.test/helper")


def test_a_persons_program_runs_as_its_image_says_on_hardware_only():
    (container,) = pod(target(make.HARDWARE, args=()), "mine:1")["spec"]["containers"]
    assert container["image"] == "mine:1"
    assert container["command"] == []


def test_a_host_path_and_privileges_only_where_allocate_mounts_nothing():
    hosted = target(plugin_args=("--no-aesmd-mount",))
    made = pod(hosted)
    assert made["spec"]["volumes"][0]["hostPath"]["path"] == "/var/run/aesmd"
    assert made["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] is True
    levels = [namespace_manifest("ns", 9, [one])["metadata"]["labels"][ENFORCE] for one in (target(), hosted)]
    assert levels == ["restricted", "privileged"]


def test_only_what_outlived_its_label_is_left_over():
    def thing(name, value, created="2026-12-01T00:00:00Z"):
        labels = {TEST_LABEL: value} if value else {}
        return {"metadata": {"name": f"confcom-test-{name}", "labels": labels, "creationTimestamp": created}}

    things = [thing("old", "60"), thing("used", "7200"), thing("theirs", ""), thing("odd", "x"), thing("new", "1", "")]
    assert not expired(things)  # all objects have the same time or none, so no age is known
    own = thing("own", "60", "2026-12-01T01:00:00Z")
    assert [objects.name_of(one) for one in expired([own, *things])] == ["confcom-test-old"]


@pytest.mark.parametrize(("pods", "turns"), [(1, 1), (50, 1), (51, 2), (1000, 20)])
def test_the_lifetime_covers_all_turns(pods, turns):
    assert lifetime(pods, 50, 60) - lifetime(0, 50, 60) == turns * 60
