"""Stand-in for the chart on an in-memory cluster: checked-in renders with images and log level replaced."""

import json

from testkit.cluster_objects import SYSTEM
from testkit.fake_cluster import FakeCluster
from testkit.fake_helm import golden_manifests
from testkit.working_daemons import settle

REGISTRY = "registry.test"
REFUSAL = """Error: execution error at (confcom/templates/checks.yaml:1:1):

confcom: nothing was changed, because {what}.
  why: {why}.
  do:  {do}

  code: {code}
"""
_INDENT = "\n         "
FROM_ANYWHERE = {
    "what": "neither a registry nor a digest is given for confcom/controller and confcom/device-plugin and "
    "confcom/quote-helper",
    "why": "nodes pull such images from docker.io, where others may own the name, and mount host directories into them",
    "do": f"name the registry that has the images:{_INDENT}--set image.registry=REGISTRY\n       or their content, "
    f"which is the same wherever it comes from:{_INDENT}--set controller.image.digest=sha256:DIGEST "
    "--set devicePlugin.image.digest=sha256:DIGEST --set quoteHelper.image.digest=sha256:DIGEST",
    "code": "images-from-anywhere",
}
NO_AESMD = {
    "what": "the quote helper on nodes with SGX hardware needs an image of Intel's aesmd, and "
    "quoteHelper.aesmd.image.repository is empty",
    "why": "this project distributes none of Intel's software",
    "do": f"build the image as docs/how-to/build-images.md says, and add{_INDENT}"
    "--set quoteHelper.aesmd.image.repository=REPOSITORY",
    "code": "aesmd-image-missing",
}
_COMPONENTS = {"device-plugin": "devicePlugin", "quote-helper": "quoteHelper", "controller": "controller"}


def chart(values, namespace=SYSTEM):
    """A render of the chart for Kubernetes 1.36; for two refusals, a ValueError has the words of helm."""
    simulated, helper = (values.get(one, {}) for one in ("simulated", "quoteHelper"))
    quotes, registry = helper.get("enabled", True), values.get("image", {}).get("registry", "")
    of_hardware = not simulated.get("enabled") or simulated.get("besideHardware")
    if of_hardware and not simulated.get("enabled") and quotes and "aesmd" not in helper:
        raise ValueError(REFUSAL.format(**NO_AESMD))
    if not registry and not all(_digest(values, one) for one in _COMPONENTS):
        raise ValueError(REFUSAL.format(**FROM_ANYWHERE))
    name = "simulated" if not of_hardware else "beside-hardware" if simulated.get("enabled") else "hardware-aesmd"
    secret = simulated.get("secretName", "confcom-simulated-root")
    text = json.dumps(golden_manifests(name, namespace)).replace("confcom-simulated-root", secret)
    made = [one for one in json.loads(text) if quotes or not one["metadata"]["name"].startswith("confcom-quote-helper")]
    for one in made:
        if one["kind"] in {"DaemonSet", "Deployment"}:
            _set(one["spec"]["template"]["spec"], values, registry)
    return made


def new_cluster(*nodes):
    """A cluster without the add-on, whose controllers and kubelets act only while a command waits."""
    made = FakeCluster(nodes, chart)
    made.api.remove("Namespace", SYSTEM)
    made.each = lambda: settle(made.api)
    return made


def _digest(values, name):
    return values.get(_COMPONENTS[name], {}).get("image", {}).get("digest", "")


def _set(pod, values, registry):
    tag = values.get("image", {}).get("tag", "")
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        name = container["image"].rpartition("/")[2].partition(":")[0]
        if name in _COMPONENTS:
            digest = _digest(values, name)
            version = f":{tag or '0.1.0'}" if tag or not digest else ""
            container["image"] = f"{registry}/confcom/{name}{version}{'@' if digest else ''}{digest}".lstrip("/")
        level = f"--log-level={values.get('logLevel', 'info')}"
        if "args" in container:
            container["args"] = [level if "--log-level=" in one else one for one in container["args"]]
