"""The cluster's simulated root: deleted and made again while helpers run, and what its maker may do."""

import json
import secrets
import subprocess

import pytest
import yaml

from e2e.add_on import CONSENT, EPC, RELEASE, ROOT, SIMULATED_LABEL, SYSTEM, names, uninstall
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import HELPER, enabled, uids
from e2e.images_workshop import CHART_REGISTRY
from e2e.relying_party import CONFCOM, RelyingParty
from e2e.tenants import Tenant, quoting_pod
from e2e.waiting import until

EPC_MIB = 28
FOLLOW_SECONDS = 330.0
"""For helpers to take another root: their kubelets look at volumes every minute, after failures every two."""
AWAY_SECONDS = 90.0
"""For the controller manager to notice a kubelet that does not report: 50 s by default."""
SECRET, RECORD, MAKER = "confcom-simulated-platform", "confcom-simulated-root", "confcom-simulated-root"
IN_SYSTEM = f"--namespace={SYSTEM}"
CHART = ROOT / "charts" / "confcom"


def quote_on(tenant, node):
    """A quote of that node, and its challenge."""
    name, challenge = f"asks-{secrets.token_hex(4)}", secrets.token_hex(32)
    tenant.create(quoting_pod(name, challenge, {EPC: 1}, node=node.name))
    tenant.wait_for_phase(name, "Succeeded")
    quote = tenant.quote(name)
    tenant.delete(name)
    return quote, challenge


def is_trusted(party, quote, challenge):
    """Whether a relying party takes it."""
    trust = ["--root", str(party.trust / "root.pem"), "--collateral", str(party.trust / "collateral")]
    policy = ["--mrenclave", party.mr_enclave, "--report-data", challenge, "--allow-simulated"]
    file = party.trust / "quote.bin"
    file.write_bytes(quote)
    done = subprocess.run([*CONFCOM, "verify", str(file), *trust, *policy], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.timeout(900, func_only=True)
def test_a_deleted_root_is_told_and_made_again_and_every_helper_takes_the_new_one(cluster, nodes, namespace, tmp_path):
    first, second, _ = nodes
    tenant = Tenant(cluster, namespace)
    with enabled(cluster, (first, second), epc_mib=EPC_MIB) as add_on:
        before = RelyingParty.of(cluster, tmp_path / "before")
        for node in (first, second):
            assert is_trusted(before, *quote_on(tenant, node))
        helpers = uids(add_on.pods(HELPER))
        assert add_on.status()["ok"] is True

        cluster.kubectl("delete", "secret", SECRET, IN_SYSTEM)
        told = until(lambda: add_on.status()["problems"], "status says that the root is gone")
        assert f"the ConfigMap {RECORD} is missing" in told[0]
        assert is_trusted(before, *quote_on(tenant, first))  # nothing has happened to the helpers

        # A kubelet that is away renews no volume, so that its helper stays behind for as long as the case wants.
        second.stop("kubelet")
        away = ("wait", "--for=condition=Ready=Unknown", f"node/{second.name}", f"--timeout={AWAY_SECONDS:.0f}s")
        cluster.kubectl(*away, timeout=AWAY_SECONDS + 30)
        done = add_on.confcom("enable", "--simulated", "--no-wait")
        assert f"Secret {SECRET}, ConfigMap {RECORD}" in done.stderr
        after = RelyingParty.of(cluster, tmp_path / "after")
        assert after.root != before.root

        def behind():
            another = "uses another simulated root"
            return [one.partition(":")[0] for one in add_on.status()["problems"] if another in one]

        until(
            lambda: behind() == [second.name], "only the helper whose kubelet is away is behind", seconds=FOLLOW_SECONDS
        )
        assert is_trusted(after, *quote_on(tenant, first))

        second.start("kubelet")
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{second.name}", "--timeout=60s")
        add_on.confcom("enable", "--simulated")
        assert add_on.status()["problems"] == []
        for node in (first, second):
            quote, challenge = quote_on(tenant, node)
            assert is_trusted(after, quote, challenge)
            assert not is_trusted(before, quote, challenge)
        assert uids(add_on.pods(HELPER)) == helpers  # none was restarted
        assert not any(one["restartCount"] for pod in add_on.all_pods(HELPER) for one in containers(pod))


def containers(pod):
    return pod["status"]["containerStatuses"]


@pytest.fixture
def maker(cluster):
    """The chart, and what its Job has while it runs: the ServiceAccount, the Role and its binding."""
    uninstall(cluster)
    cluster.kubectl("label", "node", NODE_NAME, f"{SIMULATED_LABEL}=true", "--overwrite")
    cluster.kubectl("create", "namespace", SYSTEM, check=False)
    yield cluster
    for kind in ("rolebinding", "role", "serviceaccount"):
        cluster.kubectl("delete", kind, MAKER, IN_SYSTEM, "--ignore-not-found")
    cluster.kubectl("delete", "job", "--all", IN_SYSTEM)  # a failed one stays, and its Pod for as long
    uninstall(cluster)
    cluster.kubectl("label", "node", NODE_NAME, f"{SIMULATED_LABEL}-")


def upgrade(cluster, *settings, check=True):
    chosen = [f"--set={one}" for one in (*CONSENT, CHART_REGISTRY, *settings)]
    command = ["helm", "upgrade", RELEASE, str(CHART), "--install", IN_SYSTEM, "--wait", "--timeout=60s", *chosen]
    return cluster.run(command, check=check, timeout=150)


def rendered(cluster, *settings):
    chosen = [f"--set={one}" for one in (*CONSENT, CHART_REGISTRY, *settings)]
    return cluster.run(["helm", "template", RELEASE, str(CHART), IN_SYSTEM, *chosen]).stdout


def secret(name=SECRET, **more):
    labels = {"app.kubernetes.io/name": "confcom"}
    metadata = {"name": name, "labels": labels | more.pop("labels", {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"platform.json": "eA=="}} | more


def config_map(name=RECORD, **more):
    data = {"sha256": "x"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data} | more


def policies(cluster):
    listed = cluster.kubectl_json("get", "validatingadmissionpolicies,validatingadmissionpolicybindings")["items"]
    return sorted(one["metadata"]["name"] for one in listed if MAKER in one["metadata"]["name"])


def test_the_roots_maker_may_create_nothing_else(maker):
    upgrade(maker)
    assert policies(maker) == [f"{MAKER}.{SYSTEM}"] * 2  # the policy and its binding; the hook's are gone
    for kind in ("serviceaccounts", "roles", "rolebindings"):
        assert MAKER not in names(maker, kind, SYSTEM)
    parts = [
        one
        for one in yaml.safe_load_all(rendered(maker))
        if one and one["metadata"]["name"] == MAKER and one["kind"] in {"ServiceAccount", "Role", "RoleBinding"}
    ]
    assert len(parts) == 3
    maker.kubectl("create", "--filename=-", input=yaml.safe_dump_all(parts))
    maker.kubectl("delete", "secret", SECRET, IN_SYSTEM)

    def refusal(thing, account=MAKER):
        user = f"--as=system:serviceaccount:{SYSTEM}:{account}"
        create = ("create", IN_SYSTEM, user, "--dry-run=server", "--filename=-")
        return maker.kubectl(*create, input=json.dumps(thing), check=False).stderr

    def is_in_force():
        return "ValidatingAdmissionPolicy" in refusal(secret("another"))

    until(is_in_force, "the Role is known to the API server, and the policy enforced")
    release = {"owner": "helm", "name": RELEASE, "status": "deployed", "version": "99"}
    for thing in (
        secret(f"sh.helm.release.v1.{RELEASE}.v99", type="helm.sh/release.v1", labels=release),
        secret(labels=release),
        secret(data={"platform.json": "eA==", "release": "eA=="}),
        secret(stringData={"release": "x"}),
        secret(data={}),
        secret(type="helm.sh/release.v1"),
        secret("any") | {"metadata": {"generateName": "any-"}},
        config_map("another"),
        config_map(data={"sha256": "x", "release": "x"}),
        config_map(binaryData={"release": "eA=="}),
        config_map(metadata={"name": RECORD, "labels": release}),
    ):
        assert f"ValidatingAdmissionPolicy '{MAKER}.{SYSTEM}'" in refusal(thing), thing
    assert refusal(secret()) == ""
    maker.kubectl("delete", "configmap", RECORD, IN_SYSTEM, "--ignore-not-found")
    assert refusal(config_map()) == ""
    # Others are not its affair.
    assert "ValidatingAdmissionPolicy" not in refusal(secret("another"), account="default")
    done = maker.kubectl("create", IN_SYSTEM, "--dry-run=server", "--filename=-", input=json.dumps(secret("another")))
    assert done.stderr == ""


def test_the_rights_of_the_roots_maker_go_also_when_it_fails_and_the_job_stays(maker):
    broken = ("quoteHelper.image.tag=absent", "quoteHelper.image.pullPolicy=Never")
    for installed in (False, True):
        if installed:
            upgrade(maker)
        done = maker.run(
            [*("helm", "upgrade", RELEASE, str(CHART), "--install", IN_SYSTEM, "--timeout=10s")]
            + [f"--set={one}" for one in (*CONSENT, CHART_REGISTRY, *broken)],
            check=False,
            timeout=150,
        )
        assert done.returncode != 0
        for kind in ("serviceaccounts", "roles", "rolebindings"):
            assert MAKER not in names(maker, kind, SYSTEM)
        assert [name for name in names(maker, "jobs", SYSTEM) if name.startswith(MAKER)]
        assert policies(maker) == ([f"{MAKER}.{SYSTEM}"] * 2 if installed else [])


def test_applied_plainly_the_maker_is_limited_too_and_publishes_the_root(maker, tmp_path):
    text = rendered(maker)
    maker.kubectl("apply", "--filename=-", input=text)
    try:
        (job,) = [name for name in names(maker, "jobs", SYSTEM) if name.startswith(MAKER)]
        maker.kubectl("wait", IN_SYSTEM, "--for=condition=Complete", f"job/{job}", "--timeout=90s", timeout=120)
        record = maker.kubectl_json("get", "configmap", RECORD, IN_SYSTEM)
        (owner,) = record["metadata"]["ownerReferences"]
        root = maker.kubectl_json("get", "secret", SECRET, IN_SYSTEM)
        assert owner["uid"] == root["metadata"]["uid"]
        assert set(record["data"]) == {"sha256"}
        maker.run([*CONFCOM, "simulation", "export", f"--namespace={SYSTEM}", str(tmp_path / "trust")])
        assert record["data"]["sha256"] == (tmp_path / "trust" / "root.sha256").read_text().strip()
        assert set(policies(maker)) == {f"{MAKER}.{SYSTEM}", f"{MAKER}-hook.{SYSTEM}"}
        maker.kubectl("apply", "--filename=-", input=text)
    finally:
        maker.kubectl("delete", "--filename=-", "--ignore-not-found", input=text)
