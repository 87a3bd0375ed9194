"""Names in the chart, and ways to what is inside of its manifests."""

PLUGIN = "confcom-device-plugin"
HELPER = "confcom-quote-helper"
JOB_ACCOUNT = "confcom-simulated-root"
POLICY = "confcom-provision"
ROOT_POLICY, ROOT_HOOK_POLICY = "confcom-simulated-root.sgx", "confcom-simulated-root-hook.sgx"
NFD_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
SIMULATED_LABEL = "confcom.internal/simulated-sgx"


def pod_of(manifest):
    return manifest["spec"]["template"]["spec"]


def pods(manifests):
    return {name: pod_of(manifest) for (kind, name), manifest in manifests.items() if kind in {"DaemonSet", "Job"}}


def containers(pod):
    return {container["name"]: container for container in [*pod.get("initContainers", []), *pod["containers"]]}


def only_container(pod):
    (container,) = pod["containers"]
    return container


def daemon(manifests, name):
    return pod_of(manifests["DaemonSet", name])
