from confcom.addon.daemon_pods import daemon_pod
from confcom.addon.problems import Problem
from confcom.addon.snapshot import Snapshot
from confcom.addon.status import add_on_status
from confcom.addon.tenants import tenant_pod
from confcom.cli.status_table import MAX_NODES, MAX_ROWS, status_lines
from confcom.kubernetes.node import Node
from confcom.kubernetes.workload import Workload
from testkit import cluster_objects as make
from testkit.cli_output import commands_in
from testkit.cluster_objects import EPC, SYSTEM

A_SCREEN = 50
ALL = "confcom status -o json"
PARTS = ("device-plugin", "quote-helper")
TEMPLATES = {f"confcom-{part}": "1" for part in PARTS}
PLUGIN = make.inventory()


NOT_READ = tuple(Problem(f"{kind} cannot be read", code="not-read") for kind in map(str, range(2 * MAX_ROWS)))


def name(number):
    return f"node-{number:04}"


def lines(nodes=1, *, silent=0, broken=0, tenants=(), **more):
    """Status lines of nodes. The first `silent` are not ready; the next `broken` nodes lack helper images."""
    made = [make.node(name(at), make.SIMULATED, resources={EPC: 162}, ready=at >= silent) for at in range(nodes)]
    pods = [make.daemon(part, name(at)) for at in range(nodes) for part in PARTS]
    for at in range(silent, silent + broken):
        pods[2 * at + 1]["status"] = make.waiting("ErrImagePull", "no image")
    facts = {
        "nodes": tuple(map(Node.parse, made)),
        "daemon_sets": tuple(Workload.parse(make.daemon_set(part)) for part in PARTS),
        "templates": TEMPLATES,
        "pods": tuple(map(daemon_pod, pods)),
        "epc_pods": tuple(map(tenant_pod, tenants)),
    }
    return list(status_lines(add_on_status(Snapshot(SYSTEM, **facts | more))))


def cells(line):
    return [cell for cell in line.split("  ") if cell]


def test_a_node_has_a_row_with_its_amounts_and_daemons():
    found = lines(inventories={name(0): PLUGIN}, tenants=[make.pod("x", on=name(0), limits={EPC: 100})])
    header, row = ([part.strip() for part in cells(line)] for line in found[2:4])
    assert dict(zip(header, row, strict=True)) == {
        "NODE": name(0),
        "SGX": "simulated",
        "EPC MiB FOUND": "168",
        "OFFERED": "162",
        "REQUESTED": "100",
        "FREE": "62",
        "COUNTED AS": "device (fits-devices)",
        "DEVICE PLUGIN": "ready 0.1.0",
        "QUOTE HELPER": "ready 0.1.0",
    }
    assert "SIMULATED" in found[0]
    assert [part.strip() for part in cells(lines(epc_pods=None)[3])][2:7] == ["?", "162", "?", "?", "?"]


def test_equal_pods_of_a_node_are_one_cell_with_their_count():
    rejected = [make.daemon("quote-helper", name(0), name=f"x{at}", status=make.rejected()) for at in range(4)]
    pods = [*rejected, *(make.daemon(part, name(0), created=make.STARTED) for part in PARTS)]
    found = lines(pods=tuple(map(daemon_pod, sorted(pods, key=lambda pod: pod["metadata"]["name"][0] != "x"))))
    assert "rejected 0.1.0 (4), ready 0.1.0" in found[3]


def test_the_last_line_says_how_far_it_is_well():
    unread = {"not_read": (Problem("Pods", code="not-read"),)}
    rejected = {"tenants": [make.pod("x", limits={EPC: 1}, status=make.rejected())]}
    last = {lines(**more)[-1] for more in ({}, unread, rejected)}
    assert len(last) == len([line for line in last if "well" in line]) == 3


def test_a_problem_or_an_update_is_not_well():
    broken = lines(broken=1)
    assert [line for line in broken if line.startswith(f"  {name(0)}: the quote helper ")]
    updating = lines(templates=TEMPLATES | {"confcom-quote-helper": "2"})
    assert not [line for line in (*broken, *updating) if "well" in line]


def test_a_large_cluster_with_problems_fits_on_a_screen():
    tenants = [make.pod(f"web-{at}", on=name(at), limits={EPC: at % 100 + 1}) for at in range(500, 900)]
    tenants += [make.pod(f"pending-{at}", limits={EPC: 1}, status=make.unschedulable("no EPC")) for at in range(9)]
    found = lines(1000, silent=250, broken=250, tenants=tenants, not_read=NOT_READ)
    assert len(found) <= A_SCREEN
    assert f"  and {len(NOT_READ) - MAX_ROWS} more of other kinds: `{ALL}` has them all" in found
    assert [line for line in found if line.startswith("500 nodes ") and "81000 MiB" in line]
    assert [line for line in found if line.startswith("250 nodes ")]
    assert len([line for line in found if line.startswith("  250 nodes (")]) == 2
    assert [line for line in found if line.startswith(f"and {409 - MAX_ROWS} more with ")]
    assert len([line for line in found if line.endswith(" and 4 more: pending: Unschedulable: no EPC")]) == 1


def test_pods_that_are_not_reached_are_one_line():
    pods = [f"device-plugin-{name(at)}" for at in range(20)]
    not_read = tuple(Problem(f"x: {pod} says nothing", name(at), code="not-read") for at, pod in enumerate(pods))
    (found,) = [line for line in lines(nodes=20, not_read=not_read) if "says nothing" in line]
    assert "20 nodes" in found


def test_nodes_that_are_not_well_are_rows_as_far_as_they_fit():
    found = lines(2 * MAX_NODES, silent=1, broken=MAX_ROWS + 3)
    assert len([line for line in found if line.startswith("node-")]) == MAX_ROWS
    (rest,) = [line for line in found if ALL in commands_in(line)]
    assert rest.startswith("and 3 more ")


def test_more_kinds_of_problems_than_anybody_reads_are_cut():
    pods = [make.daemon(part, name(at)) for at in range(100) for part in PARTS]
    for at in range(100):
        pods[2 * at + 1]["status"] = make.waiting("ErrImagePull", f"no image of kind {at}")
    found = lines(100, pods=tuple(map(daemon_pod, pods)))
    assert len([line for line in found if "no image of kind" in line]) == MAX_ROWS
    assert [line for line in found if line.startswith(f"  and {100 - MAX_ROWS} more ") and ALL in commands_in(line)]


def test_workloads_are_a_table_with_the_causes_below():
    refused = make.pod("x", on=name(0), limits={EPC: 7}, owner=("Job", "train"))
    devices = make.pod("y", on=name(0), limits={make.ENCLAVE: 1}, owner=("Job", "spark"))
    waiting = make.pod("bare", limits={EPC: 9}, status=make.unschedulable("no EPC"))
    found = lines(tenants=[refused, devices, waiting])
    at = next(index for index, line in enumerate(found) if line.startswith("NAMESPACE"))
    *rows, last = [[part.strip() for part in cells(line)] for line in found[at + 1 : at + 4]]
    assert [*rows, last[:-1]] == [
        ["default", "Pod bare", "1", "0", "9", "pending"],
        ["default", "Job train", "1", "1", "7", "in use"],
        ["default", "Job spark", "1", "1", "0"],
    ]
    assert found[at + 4].startswith("  Pod default/bare: pending: ")


def test_a_long_name_shifts_only_its_own_row():
    long = "n" * 200
    nodes = tuple(Node(one, make.SIMULATED, capacity={EPC: 162}, allocatable={EPC: 162}) for one in ("a", "b", long))
    header, first, _, shifted = lines(nodes=3)[2:6]
    assert len(header) < 200
    wide = [line for line in status_lines(add_on_status(Snapshot(SYSTEM, nodes=nodes))) if line.startswith(("a", long))]
    assert len(wide[0]) < 200 < len(wide[1])
    assert first.index("simulated") == shifted.index("simulated")
