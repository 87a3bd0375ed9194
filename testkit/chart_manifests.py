PLUGIN = "confcom-device-plugin"
HELPER = "confcom-quote-helper"
CONTROLLER = "confcom-controller"
PCS = "confcom-simulated-pcs"
POLICY = "confcom-pods"


def pod_of(manifest):
    return manifest["spec"]["template"]["spec"]


def pods(manifests):
    return {
        name: pod_of(manifest) for (kind, name), manifest in manifests.items() if "template" in manifest.get("spec", {})
    }


def containers(pod):
    return {container["name"]: container for container in [*pod.get("initContainers", []), *pod["containers"]]}


def only_container(pod):
    (container,) = pod["containers"]
    return container


def daemon(manifests, name):
    return pod_of(manifests["DaemonSet", name])


def mounts_of(container):
    return {mount["name"]: mount for mount in container.get("volumeMounts", [])}


def volumes_of(pod):
    return {volume["name"]: volume for volume in pod["volumes"]}


def sgx_limits(pod):
    limits = {name: one.get("resources", {}).get("limits", {}) for name, one in containers(pod).items()}
    asked = {name: {key: value for key, value in one.items() if "/" in key} for name, one in limits.items()}
    return {name: one for name, one in asked.items() if one}
