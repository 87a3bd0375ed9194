"""What kubectl answers, and what it changes."""

import copy
import json

from testkit.fake_cluster.objects import name_of, plural_of

CLUSTER_WIDE = {
    "Node",
    "Namespace",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def forbidden(message):
    return 1, "", f"Error from server (Forbidden): {message}"


class Kubectl:
    """A part of `FakeCluster`."""

    def _kubectl(self, words, flags, rest, stdin):
        if self.away:
            return 1, "", "The connection to the server 10.0.0.1:6443 was refused"
        verb, *words = words
        return getattr(self, f"_kubectl_{verb}")(words, flags, stdin)

    def _kubectl_version(self, words, flags, stdin):
        return 0, json.dumps({"serverVersion": {"gitVersion": self.kubernetes}}), ""

    def _kubectl_config(self, words, flags, stdin):
        return (0, f"{self.context}\n", "") if self.context else (1, "", "error: current-context is not set")

    def _kubectl_get(self, words, flags, stdin):
        if "raw" in flags:
            return self._raw(flags["raw"])
        if "filename" in flags:
            read = self._read if flags.get("output") == "json" else self._named
            return read(json.loads(stdin)["items"])
        kinds = [one.partition(".")[0] for one in words[0].split(",")]
        wanted = {kind.removesuffix("s") for kind in kinds}
        if "pod" in wanted:
            self.hook.look()
        for kind in kinds:
            verb, plural = ("get", f"{kind}s") if len(words) > 1 else ("list", kind)
            everywhere = " everywhere" if "all-namespaces" in flags else ""
            if {f"{verb} {plural}", f"{verb} {plural}{everywhere}"} & self.denied:
                return forbidden(f'{plural} is forbidden: User "eve" cannot {verb} resource')
        found = [
            one
            for one in self.objects
            if one["kind"].lower() in wanted
            and (
                "namespace" not in flags
                or one["kind"] in CLUSTER_WIDE
                or one["metadata"].get("namespace") == flags["namespace"]
            )
            and (len(words) == 1 or one["metadata"]["name"] == words[1])
            and flags.get("field-selector", "") in {"", f"reason={one.get('reason')}"}
        ]
        if flags.get("output") == "name":
            return 0, "\n".join(f"{one['kind'].lower()}/{one['metadata']['name']}" for one in found), ""
        if len(words) > 1:
            return 0, json.dumps(found[0]) if found else "", ""
        return 0, json.dumps({"kind": "List", "items": found}), ""

    def _named(self, asked):
        names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in asked]
        there = [(api.rpartition("/")[0], kind, name) for api, kind, name in names if self.find(kind, name)]
        return 0, "\n".join(f"{kind}.{group}".rstrip(".").lower() + f"/{name}" for group, kind, name in there), ""

    def _raw(self, path):
        if "?limit=" in path:
            return self._page(path.removeprefix("/api/v1/").partition("?")[0])
        if "get pods/proxy" in self.denied:
            return forbidden('pods is forbidden: User "eve" cannot get resource "pods/proxy"')
        pod = path.split("/pods/")[1].partition(":")[0]
        if path.endswith("/proxy/inventory"):
            return self._inventory(pod)
        if pod not in self.roots:
            return 1, "", "Error from server (ServiceUnavailable): the server is currently unable to handle the request"
        return 0, f'a 1\nconfcom_quote_helper_simulated_root_info{{sha256="{self.roots[pod]}"}} 1.0\nb 2\n', ""

    def _page(self, path):
        """A list in one page; as from the API server, its items have no kind."""
        *where, plural = path.removeprefix("namespaces/").split("/")
        everywhere = set() if where else {f"list {plural} everywhere"}
        if {f"list {plural}", *everywhere} & self.denied:
            return forbidden(f'{plural} is forbidden: User "eve" cannot list resource')
        if plural == "pods":
            self.hook.look()
        items = [
            {key: value for key, value in one.items() if key != "kind"}
            for one in self.objects
            if plural_of(one) == plural and where in ([], [one["metadata"].get("namespace")])
        ]
        return 0, json.dumps({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}), ""

    def _inventory(self, pod):
        (found,) = self.find("Pod", pod)
        where = found["spec"]["nodeName"]
        device = self.provision_devices.get(where)
        if where in self.silent_plugins or (self.provision_devices and device is None):
            return 1, "", "Error from server (ServiceUnavailable): the server is currently unable to handle the request"
        nodes = [{"device": "enclave", "path": None}]
        nodes += [{"device": "provision", "path": "/dev/sgx_provision"} | device] if device else []
        return 0, json.dumps(self.accounting(where) | {"version": 1, "devices": {"nodes": nodes}}), ""

    def _read(self, asked):
        """With managed fields. Of several objects, kubectl prints none if one of them is refused."""
        kinds = list(map(plural_of, asked))
        groups = [one["apiVersion"].rpartition("/")[0] for one in asked]
        refused = [
            f'Error from server (Forbidden): {f"{kind}.{group}".rstrip(".")} "{one["metadata"]["name"]}" is forbidden: '
            f'User "eve" cannot get resource "{kind}"'
            for kind, group, one in zip(kinds, groups, asked, strict=True)
            if f"get {kind}" in self.denied
        ]
        if refused:
            return 1, "", "\n".join(refused)
        found = [there for one in asked for there in self.find(*name_of(one))]
        return 0, json.dumps(found[0] if len(asked) == 1 else {"kind": "List", "items": found}) if found else "", ""

    def _kubectl_create(self, words, flags, stdin):
        given = json.loads(stdin)
        if given["kind"] == "List":
            answers = []
            for one in given["items"]:
                asked = one["spec"]["resourceAttributes"]
                what = asked["resource"] + (f"/{asked['subresource']}" if "subresource" in asked else "")
                answers.append(one | {"status": {"allowed": f"{asked['verb']} {what}" not in self.denied}})
            return 0, "\n".join(json.dumps(one) for one in answers), ""
        if flags.get("dry-run") == "server":
            return (1, "", self.pod_refusal) if self.pod_refusal else (0, "x", "")
        if f"create {plural_of(given)}" in self.denied:
            return forbidden(f'{plural_of(given)} is forbidden: User "eve" cannot create resource')
        self.objects.append(given)
        return 0, "created", ""

    def _kubectl_label(self, words, flags, stdin):
        _, name, label = words
        key, _, value = label.partition("=")
        self.node(name)["metadata"]["labels"][key] = value
        return 0, "labeled", ""

    def _kubectl_patch(self, words, flags, stdin):
        kind, name = words
        patch = json.loads(flags["patch"])
        if "/metadata/managedFields/" in flags["patch"]:
            return 0, "patched", ""  # what others added goes with the next change anyway
        if kind == "job":
            (job,) = self.find("Job", name)
            job["spec"] |= patch["spec"]
            return 0, "patched", ""
        node = copy.deepcopy(self.node(name))
        for operation in patch:
            _, part, *path = operation["path"].split("/")
            holder = node[part][path[0]]
            key = path[1].replace("~1", "/").replace("~0", "~")
            if operation["op"] == "test" and holder.get(key) != operation["value"]:
                return 1, "", "Error from server (Invalid): the server rejected our request: test failed"
            if operation["op"] == "remove":
                del holder[key]
        self.objects[self.objects.index(self.node(name))] = node
        return 0, "patched", ""

    def _kubectl_delete(self, words, flags, stdin):
        kind, *names = words
        plural = f"{kind.partition('.')[0].lower()}s"
        if f"delete {plural}" in self.denied:
            return forbidden(f'{plural} is forbidden: User "eve" cannot delete resource')
        self.remove({(kind.partition(".")[0], name) for name in names})
        return 0, "deleted", ""

    def _kubectl_logs(self, words, flags, stdin):
        return 0, self.logs.get(words[0], ""), ""
