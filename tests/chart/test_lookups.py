from dataclasses import dataclass

import pytest

from testkit.chart_golden import NAMESPACE, NFD_LABEL, SIMULATED_LABEL
from testkit.chart_manifests import PLUGIN
from tests.chart.conftest import ALLOWED

OWN_LABEL, FAKE_LABEL = "example.com/sgx", "example.com/fake"
NOTHING = ""
AKS = "values-aks.yaml"
HARDWARE = "quoteHelper.enabled=false"
AESMD = "quoteHelper.aesmd.image.repository=our/aesmd"
SIMULATED = "simulated.enabled=true"
BESIDE = f"{SIMULATED},simulated.besideHardware=true"


def label(key, value, section=""):
    return f"{section}nodeSelector.{key.replace('.', chr(92) + '.')}={value}"


OWN = f"{label(NFD_LABEL, 'null')},{label(OWN_LABEL, 'yes')}"
BOTH_LABELS = label(OWN_LABEL, "")
FAKE = f"{label(SIMULATED_LABEL, 'null', 'simulated.')},{label(FAKE_LABEL, 'yes', 'simulated.')}"
BY_OWN = f"{label(SIMULATED_LABEL, 'null', 'simulated.')},{label(OWN_LABEL, 'yes', 'simulated.')}"
OTHER_TERMS = (
    "nodeSelectorTerms[0].matchExpressions[0].key=pool,nodeSelectorTerms[0].matchExpressions[0].operator=Exists"
)

ON_HARDWARE, TO_SIMULATE = {NFD_LABEL: "true"}, {SIMULATED_LABEL: "true"}
HW, SIM = {"hw-1": ON_HARDWARE}, {"sim-1": TO_SIMULATE}
HW_LABELLED = {"hw-1": ON_HARDWARE | TO_SIMULATE}
ON_AKS = {"aks-1": {"node.kubernetes.io/instance-type": "Standard_DC4s_v3"}}

LOSES, CHANGES, HARDWARE_TOO = "nodes-lose-daemons", "nodes-change-platform", "hardware-in-cluster"
DELETE = f"kubectl -n {NAMESPACE} delete daemonset {PLUGIN}"
SET_BESIDE = "--set simulated.besideHardware=true"
ANY_LABEL = "kubectl label"


@dataclass(frozen=True, slots=True)
class Upgrade:
    nodes: dict
    """Labels of each node, keyed by the node's name."""
    before: str
    """Settings of the installed release; empty if no release is installed."""
    after: str
    code: str = ""
    """Code of the chart's refusal; empty if the chart allows the upgrade."""
    said: tuple = ()
    unsaid: tuple = ()


CASES = {
    "nothing changes": Upgrade(HW | SIM | {"other": {}}, BESIDE, f"{BESIDE},logLevel=debug"),
    "hardware has gone": Upgrade(SIM, BESIDE, SIMULATED),
    "another label of hardware": Upgrade(
        HW | SIM,
        BESIDE,
        f"{BESIDE},{OWN}",
        LOSES,
        [f"kubectl label node hw-1 {OWN_LABEL}=yes", f"kubectl label node hw-1 {NFD_LABEL}-"],
        [SIMULATED_LABEL, "sim-1"],
    ),
    "the other platform's label does not count": Upgrade(
        HW_LABELLED, BESIDE, f"{BESIDE},{OWN}", LOSES, [f"kubectl label node hw-1 {OWN_LABEL}=yes"]
    ),
    "labelled before": Upgrade({"hw-1": ON_HARDWARE | {OWN_LABEL: "yes"}}, BESIDE, f"{BESIDE},{OWN}"),
    "of two labels one is missing": Upgrade(HW, HARDWARE, f"{HARDWARE},{BOTH_LABELS}", LOSES),
    "of two labels one has another value": Upgrade(
        {"hw-1": ON_HARDWARE | {OWN_LABEL: "no"}}, HARDWARE, f"{HARDWARE},{BOTH_LABELS}", LOSES
    ),
    "both labels": Upgrade({"hw-1": ON_HARDWARE | {OWN_LABEL: ""}}, HARDWARE, f"{HARDWARE},{BOTH_LABELS}"),
    "another label of simulation": Upgrade(
        HW | SIM,
        BESIDE,
        f"{BESIDE},{FAKE}",
        LOSES,
        [f"kubectl label node sim-1 {FAKE_LABEL}=yes", f"kubectl label node sim-1 {SIMULATED_LABEL}-"],
        ["hw-1"],
    ),
    "another label of simulation beside terms": Upgrade(
        ON_AKS | SIM, f"{AKS},{BESIDE}", f"{AKS},{BESIDE},{FAKE}", LOSES, [f"kubectl label node sim-1 {FAKE_LABEL}=yes"]
    ),
    "simulated nodes would be hardware": Upgrade(
        {"own-1": {OWN_LABEL: "yes"}},
        f"{SIMULATED},{BY_OWN}",
        f"{BESIDE},{OWN}",
        CHANGES,
        ["own-1", f"{DELETE}\n"],
        [ANY_LABEL],
    ),
    "they simulate on": Upgrade(
        {"own-1": {OWN_LABEL: "yes"}},
        f"{SIMULATED},{BY_OWN}",
        f"{SIMULATED},{OWN}",
        LOSES,
        [f"kubectl label node own-1 {SIMULATED_LABEL}=true"],
    ),
    "the end of simulation": Upgrade(
        HW | SIM,
        SIMULATED,
        HARDWARE,
        LOSES,
        ["sim-1", f"--set {SIMULATED}", f"{DELETE}\n"],
        [SET_BESIDE, ANY_LABEL, "hw-1"],
    ),
    "the end of simulation beside hardware": Upgrade(
        HW | SIM,
        BESIDE,
        HARDWARE,
        LOSES,
        ["sim-1", f"--set {SIMULATED}", SET_BESIDE, f"{DELETE}-simulated\n"],
        [ANY_LABEL, "hw-1"],
    ),
    "hardware alone at first": Upgrade(HW | SIM, NOTHING, HARDWARE),
    # Cases in which simulation replaces hardware.
    "simulation for hardware": Upgrade(
        HW | SIM,
        HARDWARE,
        SIMULATED,
        HARDWARE_TOO,
        ["(hw-1)", SET_BESIDE, f"kubectl label node hw-1 {NFD_LABEL}-"],
        [SIMULATED_LABEL, "delete"],
    ),
    "simulation alone, after both": Upgrade(
        HW | SIM, BESIDE, SIMULATED, HARDWARE_TOO, ["(hw-1)", SET_BESIDE], ["delete"]
    ),
    "simulation beside hardware": Upgrade(HW | SIM, HARDWARE, BESIDE),
    "without the label of hardware": Upgrade(SIM | {"hw-1": {}}, HARDWARE, SIMULATED),
    "labelled to simulate": Upgrade(HW_LABELLED, NOTHING, SIMULATED),
    "labelled to simulate, and runs the hardware plugin": Upgrade(
        HW_LABELLED, HARDWARE, SIMULATED, HARDWARE_TOO, [f"kubectl label node hw-1 {NFD_LABEL}-"]
    ),
    "a plugin that another label chose": Upgrade(
        {"own-1": {OWN_LABEL: "yes"}} | HW,
        f"{HARDWARE},{OWN}",
        SIMULATED,
        HARDWARE_TOO,
        ["(own-1, hw-1)", f"kubectl label node hw-1 {NFD_LABEL}-", f"{DELETE}\n"],
    ),
    # If a DaemonSet has node affinity terms, only its own status says how many nodes match.
    "terms beside simulation alone": Upgrade(
        SIM, NOTHING, f"{AKS},{SIMULATED}", "hardware-chosen-and-simulated", [SET_BESIDE, "nodeSelectorTerms=[]"]
    ),
    "terms beside both": Upgrade(SIM, NOTHING, f"{AKS},{BESIDE}"),
    "simulation for hardware by terms": Upgrade(
        ON_AKS, f"{AKS},{HARDWARE}", SIMULATED, HARDWARE_TOO, [SET_BESIDE, f"{DELETE}\n"], [ANY_LABEL]
    ),
    "simulation beside hardware by terms": Upgrade(ON_AKS, f"{AKS},{HARDWARE}", f"{AKS},{BESIDE}"),
    "simulation for terms without nodes": Upgrade({}, f"{AKS},{HARDWARE}", SIMULATED),
    "terms are forgotten": Upgrade(ON_AKS, f"{AKS},{HARDWARE}", HARDWARE, LOSES, ["values-aks.yaml"], [ANY_LABEL]),
    "terms are forgotten beside simulation": Upgrade(ON_AKS, f"{AKS},{HARDWARE}", BESIDE, LOSES, [AKS], [ANY_LABEL]),
    "terms without nodes are forgotten": Upgrade({}, f"{AKS},{HARDWARE}", HARDWARE),
    "other terms": Upgrade(ON_AKS, f"{AKS},{HARDWARE}", f"{HARDWARE},{OTHER_TERMS}"),
    "other terms beside simulation": Upgrade(ON_AKS, f"{AKS},{HARDWARE}", f"{BESIDE},{OTHER_TERMS}"),
    # Cases in which quote helpers run on hardware.
    "a helper comes beside simulation": Upgrade(HW | SIM, BESIDE, f"{BESIDE},{AESMD}"),
    "helpers go beside simulation": Upgrade(HW | SIM, f"{BESIDE},{AESMD}", f"{BESIDE},{HARDWARE}"),
    "the helper's image is forgotten": Upgrade(
        HW | SIM, f"{BESIDE},{AESMD}", BESIDE, "aesmd-image-missing", [f"--set {HARDWARE}"]
    ),
    "a helper's EPC is lowered": Upgrade(HW, f"{AESMD},quoteHelper.epcMiB=5", AESMD, "helper-epc-lowered"),
    "a simulated helper holds none": Upgrade(SIM, f"{SIMULATED},quoteHelper.epcMiB=5", SIMULATED),
    "a helper's EPC stays": Upgrade(HW, f"{AESMD},quoteHelper.epcMiB=5", f"{AESMD},quoteHelper.epcMiB=5"),
    "a node loses EPC and quotes": Upgrade(HW, AESMD, f"{AESMD},{OWN}", LOSES, ["there their EPC and quotes.\n"]),
    "a node loses EPC": Upgrade(HW, HARDWARE, f"{HARDWARE},{OWN}", LOSES, ["there their EPC.\n"]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_upgrade(cluster, installed, upgrade, case):
    cluster.nodes = case.nodes
    if case.before:
        installed(case.before)
    code, told = upgrade(case.after)
    assert code == case.code
    assert [part for part in case.said if part not in told] == []
    assert [part for part in case.unsaid if part in told] == []


def test_terms_of_a_file_can_be_left_out(cluster, upgrade):
    cluster.nodes = SIM
    assert upgrade(f"{AKS},{SIMULATED}", "--set-json", "nodeSelectorTerms=[]") == ALLOWED


NEW = "NEW WITH THIS UPGRADE: each of these nodes sets 6 MiB of its EPC aside"


@pytest.mark.parametrize(
    ("before", "after"),
    [(HARDWARE, AESMD), (BESIDE, f"{BESIDE},{AESMD}"), (HARDWARE, HARDWARE), (AESMD, AESMD), (NOTHING, AESMD)],
)
def test_notes_say_once_that_epc_is_set_aside(cluster, installed, upgrade_notes, before, after):
    cluster.nodes = HW | SIM
    if before:
        installed(before)
    comes = bool(before) and AESMD in after and AESMD not in before
    assert (NEW in upgrade_notes(after)) is comes
