from confcom.addon.daemon_pods import PodState, daemon_pod
from confcom.sysdump.selection import MAX_PODS, chosen_pods, sources
from testkit import cluster_objects as make


def pods(component, count, **more):
    return [make.daemon(component, f"n{number:03}", **more) for number in range(count)]


def test_pods_with_problems_come_first_and_few_of_each_component_are_read():
    bad = pods("quote-helper", 3, status=make.not_ready("main"))
    well = [make.daemon("quote-helper", f"w{number:03}") for number in range(3 * MAX_PODS)]
    found, left = chosen_pods([*pods("device-plugin", 5), *well, make.pod("tenant"), *bad])
    names = [one["metadata"]["name"] for one in found]
    assert names[:3] == [one["metadata"]["name"] for one in bad]
    assert len(names) == MAX_PODS + 5
    assert left == 2 * MAX_PODS + 3
    states = [daemon_pod(one).state for one in found]
    assert states[3:] == [PodState.READY] * (MAX_PODS + 2)


def test_the_components_take_turns_so_that_none_uses_up_the_archive():
    found, _ = chosen_pods([*pods("quote-helper", MAX_PODS), *pods("device-plugin", 2), *pods("controller", 2)])
    assert len({one["metadata"]["name"].rpartition("-")[0] for one in found[:3]}) == 3


def test_each_component_has_its_pages_and_a_restarted_container_two_logs():
    plugin, helper = make.daemon("device-plugin"), make.daemon("quote-helper")
    restarted = {
        "name": "main",
        "state": {"running": {"startedAt": make.CREATED}},
        "lastState": {"terminated": {"exitCode": 1}},
    }
    helper["status"]["containerStatuses"] = [restarted]
    plugin["status"]["containerStatuses"] = [{"name": "main", "state": {"running": {"startedAt": make.CREATED}}}]
    assert [one.name.rpartition("/")[2] for one in sources(plugin)] == [
        *("readyz.txt", "metrics.txt", "inventory.json", "main.log"),
    ]
    assert [one.name.rpartition("/")[2] for one in sources(helper)] == [
        *("readyz.txt", "metrics.txt", "platform.json", "main.log", "main.previous.log"),
    ]


def test_a_pod_that_never_ran_has_neither_pages_nor_logs():
    waits = make.daemon("quote-helper", status=make.waiting("ImagePullBackOff"))
    assert list(sources(waits)) == []
