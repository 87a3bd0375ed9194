"""The controllers and the kubelets: what they make of the objects as time passes."""

import copy
import json

from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, HELPER_EPC, PROVISION, SYSTEM

KUBELET_KEEPS = 300.0
FOUND_MIB = 168
_COUNTS = {EPC: 162, ENCLAVE: 1024, HELPER_EPC: 6, PROVISION: 1024}
OFFERED = {
    "device-plugin": _COUNTS,
    "device-plugin-simulated": {f"simulated.confcom.internal/{one.partition('/')[2]}": _COUNTS[one] for one in _COUNTS},
}
"""By component: what a node's device plugin offers, the second one beside hardware."""


class ControlPlane:
    """A part of `FakeCluster`."""

    def tick(self):
        if self.on_tick:
            self.on_tick(self)
        for daemon in self.find("DaemonSet", namespace=SYSTEM):
            if not self.lasting:
                self._roll(daemon)
        for deployment in self.find("Deployment", namespace=SYSTEM):
            deployment.setdefault("status", {})["observedGeneration"] = deployment["metadata"]["generation"]
        for node in self.find("Node"):
            self._kubelet(node)

    def _roll(self, daemon):
        name, template = daemon["metadata"]["name"], daemon["spec"]["template"]
        owner = ("DaemonSet", name)
        revision = str(abs(hash(json.dumps(template, sort_keys=True))))
        wanted = template["spec"]["nodeSelector"].items()
        nodes = [one for one in self.find("Node") if wanted <= one["metadata"]["labels"].items()]
        known = self.find("ControllerRevision")
        newest = max((one["revision"] for one in known), default=0)
        again = self.find("ControllerRevision", f"{name}-{revision}")
        mine = [one for one in known if one["metadata"]["ownerReferences"][0]["name"] == name]
        if again and again[0]["revision"] < max(one["revision"] for one in mine):
            again[0]["revision"] = newest + 1  # a rollback makes an old template the newest
        if not again:
            made = make.controller("ControllerRevision", f"{name}-{revision}", owner=owner, namespace=SYSTEM)
            made["metadata"]["labels"] = {"controller-revision-hash": revision}
            self.objects.append(made | {"revision": newest + 1})
        done, chosen = 0, {node["metadata"]["name"] for node in nodes}
        for pod in self.find("Pod", namespace=SYSTEM):
            owners = [one["name"] for one in pod["metadata"]["ownerReferences"]]
            if owners == [name] and pod["spec"]["nodeName"] not in chosen:
                self.objects.remove(pod)
        for node in nodes:
            where = node["metadata"]["name"]
            pods = [
                p for p in self.find("Pod", namespace=SYSTEM) if p["metadata"]["name"].startswith(f"{name}-{where}")
            ]
            new = [p for p in pods if p["metadata"]["labels"]["controller-revision-hash"] == revision]
            container = template["spec"]["containers"][0]
            if not new:
                status = copy.deepcopy(self.broken_images.get(container["image"]))
                made = make.pod(
                    f"{name}-{where}-{len(self.revisions)}{len(self.calls)}",
                    namespace=SYSTEM,
                    on=where,
                    owner=owner,
                    labels=template["metadata"]["labels"] | {"controller-revision-hash": revision},
                    image=container["image"],
                    limits=container["resources"]["limits"],
                    status=status or make.waiting("ContainerCreating"),
                )
                made["spec"]["initContainers"] = template["spec"].get("initContainers", [])
                self.objects.append(made)
            elif container["image"] not in self.broken_images:
                new[0]["status"] = make.running(new[0]["status"])
                done += 1
                for old in pods:
                    if old is not new[0]:
                        self.objects.remove(old)
        daemon["status"] = {"observedGeneration": daemon["metadata"]["generation"]}
        daemon["status"] |= dict.fromkeys(("desiredNumberScheduled", "currentNumberScheduled"), len(nodes))
        daemon["status"] |= dict.fromkeys(("updatedNumberScheduled", "numberAvailable"), done)

    def accounting(self, where):
        """What a plugin's inventory tells of EPC, unless a test says more."""
        told = {
            "found": FOUND_MIB,
            "kind": "device",
            "choice": "fits-devices",
            "advertised_mib": _COUNTS[EPC],
            "held_back_mib": 0,
            "reason": "all",
        }
        told |= self.accountings.get(where, {})
        return {"epc": {"mib": told.pop("found")}, "accounting": told}

    def _kubelet(self, node):
        name, status = node["metadata"]["name"], node["status"]
        if status["conditions"][0]["status"] != "True":
            return
        components = {
            pod["metadata"]["labels"].get("app.kubernetes.io/component")
            for pod in self.find("Pod", namespace=SYSTEM)
            if pod["spec"]["nodeName"] == name and pod["status"]["phase"] == "Running"
        }
        for component, offered in OFFERED.items():
            self._resources(node, offered, by=(name, component), there=component in components)

    def _resources(self, node, offered, *, by, there):
        capacity, allocatable = node["status"]["capacity"], node["status"]["allocatable"]
        if there:
            self.plugin_ended.pop(by, None)
            for resource, count in offered.items():
                capacity[resource] = allocatable[resource] = str(count)
        elif any(capacity.get(one, "0") != "0" for one in offered):
            forgotten = self.now - self.plugin_ended.setdefault(by, self.now) >= KUBELET_KEEPS
            for resource in offered:
                allocatable[resource] = "0"
                if forgotten:
                    capacity[resource] = "0"
