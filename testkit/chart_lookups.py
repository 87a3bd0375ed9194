import json
from http.server import BaseHTTPRequestHandler

SYSTEM = "sgx"
"""The namespace of the release."""
ALLOWED = ("", "")
"""No code, and nothing told: the chart renders."""
KINDS = {
    "v1": ("Node", "Pod", "ServiceAccount", "ConfigMap"),
    "apps/v1": ("DaemonSet", "Deployment"),
    "batch/v1": ("Job",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    "admissionregistration.k8s.io/v1": (
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ),
}
"""Of the API, what the chart has objects of or looks up."""


ALWAYS = {
    "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    f"/api/v1/namespaces/{SYSTEM}/secrets": {"kind": "SecretList", "apiVersion": "v1", "items": []},
}
"""Helm has recorded nothing."""


class Lookups:
    """As much of an API server as helm asks for; there are no objects but nodes and DaemonSets."""

    def __init__(self, address):
        self.address = address
        self.nodes = {}
        self.daemon_sets = {}

    def answer(self, path):
        if path in ALWAYS:
            return ALWAYS[path]
        if path == "/apis":
            named = [{"groupVersion": one, "version": "v1"} for one in KINDS if "/" in one]
            groups = [{"name": one["groupVersion"].partition("/")[0], "versions": [one]} for one in named]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/api/v1/nodes":
            items = [{"metadata": {"name": name, "labels": labels}} for name, labels in self.nodes.items()]
            return {"kind": "NodeList", "apiVersion": "v1", "items": items}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in KINDS:
            return {
                "kind": "APIResourceList",
                "groupVersion": version,
                "resources": [*map(kind_of_api, KINDS[version])],
            }
        found, _, name = path.rpartition("/")
        return self.daemon_sets.get(name) if found == f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets" else None


def kind_of_api(kind):
    plural = f"{kind.lower()[:-1]}ies" if kind.endswith("Policy") else f"{kind.lower()}s"
    namespaced = kind not in {"Node", "ClusterRole", "ClusterRoleBinding"} and "Admission" not in kind
    return {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": ["get"]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.server.lookups.answer(self.path.partition("?")[0])
        body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass
