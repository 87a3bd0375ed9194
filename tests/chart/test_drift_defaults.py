"""What the API server fills into the chart's objects is no drift, also where a manager other than helm owns it.

Defaults are those of Kubernetes 1.36 and 1.37: pkg/apis/{apps,core,admissionregistration,networking}/v1/defaults.go,
and of a Service those that its storage adds.
"""

import copy
import json

import pytest

from confcom.addon.release.drift import drift
from confcom.addon.release.drift_report import described
from testkit.chart_golden import NAMESPACE, SETS, golden

FILE_MODE = 0o644
LIST_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "variables": ("name",),
    "volumeMounts": ("mountPath",),
}
"""Of lists whose items have managers of their own; `ports` have two keys, and others are owned as a whole."""


def fill(thing, **defaults):
    for key, value in defaults.items():
        thing.setdefault(key, copy.deepcopy(value))


def fill_probe(probe):
    fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if "httpGet" in probe:
        fill(probe["httpGet"], path="/", scheme="HTTP")


def fill_container(container):
    fill(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File", resources={})
    for port in container.get("ports", []):
        fill(port, protocol="TCP")
    for probe in ("livenessProbe", "readinessProbe"):
        if probe in container:
            fill_probe(container[probe])


def fill_daemon_set(spec):
    fill(spec, revisionHistoryLimit=10)
    fill(spec["updateStrategy"], type="RollingUpdate", rollingUpdate={})
    fill(spec["updateStrategy"]["rollingUpdate"], maxSurge=0, maxUnavailable=1)
    pod = spec["template"]["spec"]
    fill(pod, dnsPolicy="ClusterFirst", restartPolicy="Always", securityContext={}, schedulerName="default-scheduler")
    fill(pod, terminationGracePeriodSeconds=30, serviceAccount=pod["serviceAccountName"])
    for volume in pod["volumes"]:
        if "hostPath" in volume:
            fill(volume["hostPath"], type="")
        for kind in {"secret", "configMap"} & set(volume):
            fill(volume[kind], defaultMode=FILE_MODE)
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        fill_container(container)


def fill_service(spec):
    fill(spec, sessionAffinity="None", type="ClusterIP", internalTrafficPolicy="Cluster")
    fill(spec, clusterIPs=[spec["clusterIP"]], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    for port in spec["ports"]:
        fill(port, protocol="TCP")


def fill_policy(spec):
    fill(spec, failurePolicy="Fail")
    fill(spec["matchConstraints"], matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
    for rule in spec["matchConstraints"]["resourceRules"]:
        fill(rule, scope="*")


FILLERS = {"DaemonSet": fill_daemon_set, "Service": fill_service, "ValidatingAdmissionPolicy": fill_policy}


def keys_of(name, item):
    if name == "ports" and isinstance(item, dict):
        return tuple(key for key in ("containerPort", "port", "protocol") if key in item)
    return LIST_KEYS.get(name, ())


def owned(value, name=""):
    """The tree of an Update by which one manager wrote all of a value."""
    if isinstance(value, dict):
        return {f"f:{key}": owned(below, key) for key, below in value.items()}
    if isinstance(value, list) and value and keys_of(name, value[0]):
        return {
            f"k:{json.dumps({key: one[key] for key in keys_of(name, one)})}": {".": {}} | owned(one) for one in value
        }
    return {}


def live_of(manifest):
    """As it is in the cluster after `kubectl replace` with an export of it."""
    live = copy.deepcopy(manifest)
    if filler := FILLERS.get(live["kind"]):
        filler(live["spec"])
    entry = {"manager": "kubectl-replace", "operation": "Update", "fieldsType": "FieldsV1"}
    live["metadata"]["managedFields"] = [entry | {"fieldsV1": owned({"spec": live.get("spec", {})})}]
    return live


@pytest.mark.parametrize("name", SETS)
def test_defaults_in_somebody_elses_export_are_no_drift(name):
    manifests = list(golden(name).values())
    assert [described(one) for one in drift(manifests, list(map(live_of, manifests)), NAMESPACE)] == []


def test_what_is_no_default_is_drift_all_the_same():
    manifests = list(golden("placement").values())
    lives = {(one["kind"], one["metadata"]["name"]): live_of(one) for one in manifests}
    pod = lives["DaemonSet", "confcom-quote-helper"]["spec"]["template"]["spec"]
    (root,) = [volume for volume in pod["volumes"] if volume["name"] == "simulated-root"]
    root["configMap"]["defaultMode"] = 0o666
    lives["Service", "confcom-device-plugin"]["spec"]["type"] = "NodePort"
    told = {one.name: described(one) for one in drift(manifests, list(lives.values()), NAMESPACE)}
    changed = {
        "confcom-device-plugin": "spec.type",
        "confcom-quote-helper": "volumes[simulated-root].configMap.defaultMode",
    }
    assert told.keys() == changed.keys()
    assert all(f" {field} was added (by kubectl-replace)" in told[name] for name, field in changed.items())
