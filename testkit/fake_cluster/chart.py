"""What the fake cluster's helm renders: kinds and names of the real chart, contents as far as anybody looks at them.

tests/chart/test_fake_chart.py holds it against the real one.
"""

import hashlib
import json
from collections import defaultdict

from confcom.addon.model.chart_objects import (
    EPC_AMOUNTS_POLICY,
    EPC_NAMES_POLICY,
    HARDWARE_PLATFORM,
    PLATFORM_LABEL,
    POLICY_ANNOTATION,
)
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import AESMD, HELPER_EPC, PROVISION, SYSTEM

HOOK = "helm.sh/hook"
ROOT_MAKER = "confcom-simulated-root"
POLICY = "confcom-provision"
ROOT_POLICY, HOOK_POLICY = (f"confcom-simulated-root{part}.{SYSTEM}" for part in ("", "-hook"))
POLICY_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
CORE, APPS, RBAC = "v1", "apps/v1", "rbac.authorization.k8s.io/v1"
ADMISSION = "admissionregistration.k8s.io/v1"
NO_IMAGE = """Error: execution error at (confcom/templates/checks.yaml:1:1):

confcom: nothing was changed, because the quote helper on nodes with SGX hardware needs an image of \
Intel's aesmd, and quoteHelper.aesmd.image.repository is empty.
  why: this project distributes none of Intel's software.
  do:  build the image as docs/how-to/build-images.md says, and add
         --set quoteHelper.aesmd.image.repository=REPOSITORY
       for the device plugin alone, on nodes with SGX hardware, add
         --set quoteHelper.enabled=false{simulation}

  code: aesmd-image-missing
"""
"""As the chart words it."""
SIMULATION = """
       for quotes that prove nothing about hardware (development, CI), add
         --set simulated.enabled=true"""
CONTROLLER = "confcom-controller"
FROM_ANYWHERE = """Error: execution error at (confcom/templates/checks.yaml:1:1):

confcom: nothing was changed, because neither a registry nor a digest is given for {names}.
  why: nodes pull such images from docker.io, where others may own the name, and mount host directories into them.
  do:  name the registry that has the images:
         --set image.registry=REGISTRY
       or their content, which is the same wherever it comes from:
         {digests}

  code: images-from-anywhere
"""
WITH_AESMD = ("--set", "quoteHelper.aesmd.image.repository=aesmd")
"""Options of `confcom enable` that name an image with Intel's aesmd, without which hardware has no quote helper."""
REPOSITORIES = {
    "devicePlugin": "confcom/device-plugin",
    "quoteHelper": "confcom/quote-helper",
    "controller": "confcom/controller",
}
"""By the name of the image's values; that of `quoteHelper.aesmd` has no default."""


def default_chart(values):
    """All manifests, in helm's order; hooks are the last ones, and annotated so."""
    simulated, helper = values.get("simulated", {}), values.get("quoteHelper", {})
    simulates, quotes = simulated.get("enabled"), helper.get("enabled", True)
    beside = simulates and simulated.get("besideHardware")
    suffix = "-simulated" if beside else ""
    on_hardware = bool(quotes and (not simulates or (beside and _aesmd_chosen(helper))))
    if on_hardware:
        _refuse_no_aesmd(helper, simulates)
    controlled, controller = _controlled(values), _controller(values)
    images = _running(quotes=quotes, on_hardware=on_hardware, controlled=controlled)
    _refuse_images_from_anywhere(values, images)
    chosen = {"confcom": True, CONTROLLER: controlled, "confcom-collateral": on_hardware}
    policies = [name for name, needed in chosen.items() if needed and _enabled(values, "networkPolicy")]
    rendered = [_of("NetworkPolicy", "networking.k8s.io/v1", name) for name in policies]
    rendered += controller["accounts"]
    rendered.append(_account("device-plugin"))
    if quotes:
        rendered.append(_account("quote-helper"))
    if on_hardware:
        rendered += _configuration(helper)
    rendered += controller["permissions"]
    daemons = [_plugin(values, suffix)] if simulates else []
    if beside or not simulates:
        aside = helper.get("epcMiB", 3) if on_hardware else 0
        daemons.append(_plugin(values, "", make.HARDWARE, (f"--helper-epc-mib={aside}",)))
    if quotes and simulates:
        daemons.append(_helper(values, suffix))
    if on_hardware:
        daemons.append(_hardware_helper(values))
    monitored = _enabled(values, "serviceMonitor")
    if monitored:
        by_platform = sorted(daemons, key=lambda one: not one["metadata"]["name"].endswith("-simulated"))
        rendered += [_of("Service", CORE, one["metadata"]["name"]) for one in by_platform]
        rendered += controller["services"]
    rendered += daemons
    rendered += controller["deployments"]
    rendered += _rewriting(values)
    if monitored:
        rendered.append(_of("ServiceMonitor", "monitoring.coreos.com/v1"))
    makes_root = simulates and quotes
    limited = makes_root and simulated.get("rootPolicy", True)
    names = [*controller["policies"], *_about_amounts(values)]
    names += [POLICY] if values.get("provision", {}).get("policy", True) else []
    names += [ROOT_POLICY] if limited else []
    rendered += [_of(kind, ADMISSION, name, namespace="") for kind in POLICY_KINDS for name in names]
    rendered += _root_maker(values) if makes_root else ()
    if limited:
        rendered += [
            _of(kind, ADMISSION, HOOK_POLICY, namespace="", component="simulated-root", hook=True)
            for kind in POLICY_KINDS
        ]
    return rendered


def chart_of_1_36(values):
    """With what the chart installs where the API server can change Pods by policies: a policy and a controller more."""
    return default_chart({**values, "admission": {**values.get("admission", {}), "mutate": "on"}})


def _rewriting(values):
    """As `helm template`, which knows of no API server, has it: what is left to choose is off."""
    if values.get("admission", {}).get("mutate") != "on":
        return []
    kinds = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
    return [_of(kind, ADMISSION, EPC_NAMES_POLICY, namespace="") for kind in kinds]


def _controlled(values):
    """Whether a controller writes EPC into the nodes' capacity: only where Pods are rewritten."""
    return bool(_rewriting(values)) and values.get("controller", {}).get("enabled", True)


def _controller(values):
    """What is rendered for the controller, part by part; nothing without one."""
    if not _controlled(values):
        return defaultdict(list)
    container = {"name": "controller", "image": _image(values, "controller")}
    deployed = {"template": {"spec": {"containers": [container]}}}
    return {
        "accounts": [_account("controller")],
        "permissions": [
            *(_of(kind, RBAC, CONTROLLER, namespace="") for kind in ("ClusterRole", "ClusterRoleBinding")),
            *(_of(kind, RBAC, f"{CONTROLLER}-events", namespace="default") for kind in ("Role", "RoleBinding")),
        ],
        "services": [_of("Service", CORE, CONTROLLER)],
        "deployments": [_of("Deployment", "apps/v1", CONTROLLER, spec=deployed)],
        "policies": [CONTROLLER],
    }


def _about_amounts(values):
    admission = values.get("admission", {})
    names = [EPC_AMOUNTS_POLICY] if admission.get("validate", True) else []
    if admission.get("warn", True):
        names.append("confcom-epc-warnings")
        names += ["confcom-epc-quotas"] if admission.get("mutate") == "on" else []
    return names


def _enabled(values, name):
    return values.get(name, {}).get("enabled", False)


def _of(kind, version, name="confcom", *, namespace=SYSTEM, component="", hook=False, **more):
    metadata = {"name": name, "labels": make.labels(component or name.removeprefix("confcom-"))}
    if namespace:
        metadata["namespace"] = namespace
    if hook:
        metadata["annotations"] = {HOOK: "pre-install,pre-upgrade"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def _account(component):
    return _of("ServiceAccount", CORE, f"confcom-{component}")


def _refuse_images_from_anywhere(values, keys):
    lacking = [key for key in keys if not (_registry(values, key) or _choice(values, key).get("digest"))]
    if lacking:
        digests = " ".join(f"--set {key}.image.digest=sha256:DIGEST" for key in lacking)
        names = " and ".join(_repository(values, key) for key in lacking)
        raise ValueError(FROM_ANYWHERE.format(names=names, digests=digests))


def _aesmd_chosen(helper):
    return any(helper.get("aesmd", {}).get("image", {}).values())


def _refuse_no_aesmd(helper, simulates):
    if not helper.get("aesmd", {}).get("image", {}).get("repository"):
        raise ValueError(NO_IMAGE.format(simulation="" if simulates else SIMULATION))


def _running(*, quotes, on_hardware, controlled):
    """The images that run, by the names of their values."""
    keys = ["devicePlugin", *(["quoteHelper"] if quotes else []), *(["quoteHelper.aesmd"] if on_hardware else [])]
    return ["controller", *keys] if controlled else keys


def _choice(values, key):
    for name in key.split("."):
        values = values.get(name, {})
    return values.get("image", {})


def _repository(values, key):
    return _choice(values, key).get("repository") or REPOSITORIES[key]


def _registry(values, key):
    return _choice(values, key).get("registry") or values.get("image", {}).get("registry", "")


def _image(values, key):
    image, registry = _choice(values, key), _registry(values, key)
    digest = image.get("digest")
    tag = image.get("tag") or ("" if digest else "0.1.0")
    name = "/".join(filter(None, (registry, _repository(values, key))))
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def _plugin(values, suffix, selector=make.SIMULATED, args=("--simulated",)):
    made = make.daemon_set(f"device-plugin{suffix}", selector, args=args, image=_image(values, "devicePlugin"))
    if values.get("provision", {}).get("policy", True):
        made["metadata"]["annotations"] = {POLICY_ANNOTATION: POLICY}
    return _installed(made)


def _helper(values, suffix):
    resources = {PROVISION: 1, HELPER_EPC: 3}
    if suffix:
        resources = {f"simulated.confcom.internal/{name.partition('/')[2]}": count for name, count in resources.items()}
    image = _image(values, "quoteHelper")
    volumes = [{"name": "simulated-root", "configMap": {"name": ROOT_MAKER, "optional": True}}]
    first = [{"name": "aesmd-directory", "image": image}]
    return _installed(
        make.daemon_set(f"quote-helper{suffix}", image=image, limits=resources, volumes=volumes, initContainers=first)
    )


def _configuration(helper):
    found = [_of("ConfigMap", CORE, "confcom-collateral", component="quote-helper", data={"qcnl.conf": "{}"})]
    if root := helper.get("expectedRoot"):
        found.append(_of("ConfigMap", CORE, "confcom-expected-root", component="quote-helper", data={"root.pem": root}))
    return found


def _hardware_helper(values):
    """The devices are aesmd's, which is a sidecar."""
    helper = values["quoteHelper"]
    devices = {"limits": {PROVISION: "1", HELPER_EPC: str(helper.get("epcMiB", 3))}}
    args = ["--provider=aesmd", "--aesmd-socket=/var/run/confcom/aesmd/aesm.socket"]
    if helper.get("expectedRoot"):
        args.append("--expected-root=/etc/confcom/expected-root/root.pem")
    image = _image(values, "quoteHelper")
    sidecar = {"name": AESMD, "image": _image(values, "quoteHelper.aesmd"), "restartPolicy": "Always"}
    first = [{"name": "aesmd-directory", "image": image}, sidecar | {"resources": devices}]
    group = helper.get("sgxPrvGroup")
    context = {"securityContext": {"supplementalGroups": [group]}} if group else {}
    made = make.daemon_set("quote-helper", make.HARDWARE, args=args, image=image, initContainers=first, **context)
    made["spec"]["template"]["metadata"]["labels"][PLATFORM_LABEL] = HARDWARE_PLATFORM
    return _installed(made)


def _installed(daemon):
    del daemon["status"]  # which is the cluster's
    return daemon


def _root_maker(values):
    """The hooks: the Job that makes sure of the simulated root, and what it needs."""
    container = {"name": "simulated-root", "image": _image(values, "quoteHelper")}
    template = {"metadata": {"labels": make.labels("simulated-root")}, "spec": {"containers": [container]}}
    digest = hashlib.sha256(json.dumps(template).encode()).hexdigest()
    common = {"component": "simulated-root", "hook": True}
    return (
        _of("ServiceAccount", CORE, ROOT_MAKER, **common),
        _of("Role", RBAC, ROOT_MAKER, **common),
        _of("RoleBinding", RBAC, ROOT_MAKER, **common),
        _of("Job", "batch/v1", f"{ROOT_MAKER}-{digest[:8]}", spec={"template": template}, **common),
    )
