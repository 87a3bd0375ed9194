"""What kubectl and helm are given: nothing that comes from a cluster, a person or a file is read as a flag."""

import contextlib
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.addon.cluster.helm import Helm, Values
from confcom.addon.cluster.kubectl import Cluster, KubeApi, resolve_context
from confcom.addon.cluster.platform_secret_reader import read_platform
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.errors import ConfcomError
from testkit.cluster_programs import saying

NAMES = ["--cluster=prod", "--all", "-n", "--", "-", "-f-", "--kubeconfig", "a b", "$(reboot)", "\x1b[2J", "é/..%2f"]
names = st.sampled_from(NAMES) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)

KUBECTL = {
    "server_version": lambda api, _: api.server_version(),
    "list_objects": lambda api, _: api.list_objects("nodes,pods", api.cluster.namespace_flag),
    "raw_answer": lambda api, _: api.raw_answer("/api/v1/nodes?limit=1", "nodes cannot be listed"),
    "find_namespace": lambda api, _: api.find_namespace(),
    "find_config_map": lambda api, name: api.find_config_map(name),
    "pod_metrics": lambda api, name: api.pod_metrics(name, 80),
    "pod_inventory": lambda api, name: api.pod_inventory(name, 80),
    "review": lambda api, name: api.review([named(name)]),
    "create": lambda api, name: api.create(named(name)),
    "refusal": lambda api, name: api.refusal(named(name)),
    "label_node": lambda api, name: api.label_node(name, "a=b"),
    "patch_node_status": lambda api, name: api.patch_node_status(name, [{"op": name}]),
    "delete": lambda api, name: api.delete("Job.batch", [name, name], namespace=name),
    "end_job": lambda api, name: api.end_job(name),
    "exists": lambda api, name: api.exists("secret", name),
    "missing": lambda api, name: api.missing([named(name)]),
    "patch": lambda api, name: api.patch(named(name), [{"op": name}]),
    "log_tail": lambda api, name: api.log_tail(name, 10),
}
HELM = {
    "version": lambda helm, _: helm.version(),
    "history": lambda helm, _: helm.history(),
    "values": lambda helm, _: helm.values(),
    "installed": lambda helm, _: helm.installed(3),
    "hooks": lambda helm, _: helm.hooks(),
    "render": lambda helm, name: helm.render(Path(name), chosen(name)),
    "upgrade": lambda helm, name: helm.upgrade(Path(name), chosen(name), ("--force-conflicts",)),
    "rollback": lambda helm, _: helm.rollback(3),
    "uninstall": lambda helm, _: helm.uninstall(),
}
CALLS = {
    **{f"KubeApi.{one}": (KubeApi, call) for one, call in KUBECTL.items()},
    **{f"Helm.{one}": (Helm, call) for one, call in HELM.items()},
    "read_platform": (KubeApi, lambda api, _: read_platform(api.cluster, run=api.run)),
}
FLAGS = {
    *("--all-containers", "--context", "--dry-run", "--filename", "--ignore-not-found", "--namespace", "--output"),
    *("--overwrite", "--patch", "--raw", "--request-timeout", "--subresource", "--tail", "--type", "--wait"),
    *("--force-conflicts", "--install", "--kube-context", "--reset-values", "--revision", "--set", "--set-string"),
    *("--short", "--timeout", "--values"),
}
"""All that they are ever given."""
COMMANDS = {"version", "get", "create", "label", "annotate", "patch", "delete", "logs"} | {
    *("history", "values", "manifest", "hooks", "upgrade", "rollback", "uninstall")
}


def named(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": name}}


def chosen(name):
    return Values((Path(name),), (name,), (name,), {"a": name})


def vector(call, name, namespace="here", context=""):
    """What the program was started with."""
    kind, act = CALLS[call]
    run = mock.Mock(side_effect=saying(stderr=b"refused", code=1))
    with contextlib.suppress(ConfcomError):
        act(kind(Cluster(namespace, context), run), name)
    (call,) = run.call_args_list
    return list(call.args[0])


def test_every_method_that_runs_a_program_is_looked_at():
    public = {
        f"{kind.__name__}.{one}"
        for kind in (KubeApi, Helm)
        for one, found in vars(kind).items()
        if callable(found) and not one.startswith("_") and one not in {"named", "run"}
    }
    assert set(CALLS) - {"read_platform"} == public


@pytest.mark.parametrize("call", CALLS)
@given(name=names, namespace=names, context=names)
def test_no_name_is_read_as_a_flag(call, name, namespace, context):
    _, *line = vector(call, name, namespace, context)
    at = line.index("--") if "--" in line else len(line)
    for word in line[:at]:
        if word not in COMMANDS:
            flag, _, value = word.partition("=")
            assert flag in FLAGS, word
            assert value or flag in {"--overwrite", "--ignore-not-found", "--install", "--reset-values"} | {
                *("--force-conflicts", "--short")
            }, word
    _, *plain = vector(call, "a", "b", "c")
    assert len(line) == len(plain)  # one word stays one
    assert [one for one in line[:at] if one in COMMANDS] == [one for one in plain if one in COMMANDS]


@pytest.mark.parametrize("page", ["metrics", "inventory"])
def test_the_path_to_a_pods_page_leads_to_no_other_place(page):
    word = next(one for one in vector(f"KubeApi.pod_{page}", "../../secrets?x=", "a/b#") if one.startswith("--raw"))
    assert word == f"--raw=/api/v1/namespaces/a%2Fb%23/pods/..%2F..%2Fsecrets%3Fx%3D:80/proxy/{page}"


def test_a_failure_can_be_typed_as_it_was_run():
    with pytest.raises(ClusterAccessError) as caught:
        KubeApi(Cluster("x y"), saying(stderr=b"refused", code=1)).find_config_map("--all")
    assert caught.value.remedy.endswith(
        "kubectl get '--namespace=x y' --output=json --ignore-not-found --request-timeout=20s -- configmap --all"
    )


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_program_can_be_given_is_told(name):
    with pytest.raises(ClusterAccessError) as caught:
        KubeApi(Cluster()).find_config_map(name)
    assert caught.value.error_code == "argument-not-possible"


@pytest.mark.parametrize("said", ["\0", "\x1b[2J", "a\nb"])
def test_what_is_no_contexts_name_is_not_taken_for_one(said):
    assert resolve_context(Cluster(), saying(said.encode())) == Cluster()
