import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.quote_helper.transport.peers import MAX_CGROUP_SIZE, UNKNOWN, PodCgroup, parse_pod_cgroup

UID = "8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a"
SLICE_UID = UID.replace("-", "_")
OTHER_UID = "11111111-2222-3333-4444-555555555555"
STATIC_UID = "0e2a7b6d4b1c8f3a9d5e6f7081920a3b"
ID = "3f7a" * 16
OTHER_ID = "b0c1" * 16

V1_CGROUPFS = f"""\
12:blkio:/kubepods/besteffort/pod{UID}/{ID}
11:cpu,cpuacct:/kubepods/besteffort/pod{UID}/{ID}
10:perf_event:/kubepods/besteffort/pod{UID}/{ID}
9:memory:/kubepods/besteffort/pod{UID}/{ID}
1:name=systemd:/kubepods/besteffort/pod{UID}/{ID}
0::/
"""
V1_HOST_LINES_FIRST = f"""\
11:rdma:/
10:cpuset:/
9:memory:/kubepods/burstable/pod{UID}
8:pids:/kubepods/burstable/pod{UID}/{ID}
0::/system.slice/containerd.service
"""
SYSTEMD = "/kubepods.slice/kubepods-{qos}.slice/kubepods-{qos}-pod" + SLICE_UID + ".slice/{container}"
KIND = f"/system.slice/docker-{OTHER_ID}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"

STATIC = "/kubepods.slice/kubepods-burstable-pod" + STATIC_UID + ".slice"
BESIDE = "/../../../kubepods-besteffort.slice/kubepods-besteffort-pod" + SLICE_UID + ".slice"

REAL = {
    "v1 cgroupfs": V1_CGROUPFS,
    "v1, some hierarchies elsewhere": V1_HOST_LINES_FIRST,
    "v1 systemd, Docker": "5:memory:" + SYSTEMD.format(qos="burstable", container=f"docker-{ID}.scope"),
    "v2 cgroupfs, guaranteed": f"0::/kubepods/pod{UID}/{ID}",
    "v2 systemd, containerd": "0::" + SYSTEMD.format(qos="burstable", container=f"cri-containerd-{ID}.scope"),
    "v2 systemd, CRI-O": "0::" + SYSTEMD.format(qos="besteffort", container=f"crio-{ID}.scope"),
    "v2 systemd, CRI-O, a cgroup inside": "0::"
    + SYSTEMD.format(qos="besteffort", container=f"crio-{ID}.scope/container"),
    "systemd, guaranteed": f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope",
    "CRI-O with cgroupfs": f"0::/kubepods/besteffort/pod{UID}/crio-{ID}",
    "containerd on cgroupfs, kubelet on systemd": (
        f"0::/system.slice/containerd.service/kubepods-burstable-pod{SLICE_UID}.slice:cri-containerd:{ID}"
    ),
    "kind, systemd": f"0::{KIND}kubelet-kubepods-besteffort-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope",
    "kind, cgroupfs": f"0::/docker/{OTHER_ID}/kubelet/kubepods/burstable/pod{UID}/{ID}",
    "a cgroup root with dashes": (
        f"0::/a.slice/a-b.slice/a-b-kubepods.slice/a-b-kubepods-pod{SLICE_UID}.slice/crio-{ID}.scope"
    ),
    "another pod's cgroup namespace, same class": f"0::/../../pod{UID}/{ID}",
    "another pod's cgroup namespace, other class": f"0::{BESIDE}/cri-containerd-{ID}.scope",
    "a container's own cgroups": f"0::/kubepods/pod{UID}/{ID}/init.scope",
    "a container that names itself after another pod": f"0::/kubepods/pod{UID}/{ID}/kubepods/pod{OTHER_UID}/{OTHER_ID}",
}
OTHERS = {
    "a static pod": (f"0::/kubepods/burstable/pod{STATIC_UID}/{ID}", PodCgroup(STATIC_UID, ID)),
    "a static pod, systemd": (f"0::{STATIC}/cri-containerd-{ID}.scope", PodCgroup(STATIC_UID, ID)),
    "a process beside the containers": (f"0::/kubepods/burstable/pod{UID}", PodCgroup(UID, "")),
}


@pytest.mark.parametrize(
    ("text", "place"),
    [*((text, PodCgroup(UID, ID)) for text in REAL.values()), *OTHERS.values()],
    ids=[*REAL, *OTHERS],
)
def test_real_texts(text, place):
    assert parse_pod_cgroup(text.removesuffix("\n") + "\n") == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "0::/\n",
        "0::/user.slice/user-1000.slice/session-3.scope\n",
        f"0::/system.slice/docker-{ID}.scope\n",
        f"0::/machine.slice/libpod-{ID}.scope\n",
        "0::/kubepods.slice\n",
        f"0::/kubepods/pod{UID[:-1]}/{ID}\n",
        f"0::/kubepods/pod{UID.upper()}/{ID}\n",
        f"0::/kubepods/pod{UID[:8]}_{UID[9:]}/{ID}\n",
        f"0::/kubepods/xpod{UID}/{ID}\n",
        f"0::/../{ID}\n",
        f"pod{UID}/{ID}",
    ],
)
def test_no_pod(text):
    assert parse_pod_cgroup(text) == UNKNOWN


@pytest.mark.parametrize(
    ("text", "perhaps"),
    [
        ("3:cpu:/\n2:memory:/\n1:name=systemd:/\n", True),
        ("1:name=systemd:/\n0::/\n", True),
        ("1:name=systemd:/\n0::/user.slice\n", True),
        ("2:memory:/docker\n1:name=systemd:/\n", False),
        ("0::/\n", False),
        ("", False),
    ],
)
def test_who_is_in_the_root_of_all_of_v1_may_be_ending(text, perhaps):
    assert parse_pod_cgroup(text) == PodCgroup(perhaps_exiting=perhaps)


def test_a_text_without_end_is_cut_its_last_line_not_believed():
    line = f"0::/kubepods/pod{UID}/{ID}\n"
    padding = "1:x:/y\n" * MAX_CGROUP_SIZE
    assert parse_pod_cgroup(line + padding) == PodCgroup(UID, ID)
    assert parse_pod_cgroup(padding + line) == UNKNOWN
    path = f"0::/kubepods/pod{UID}/{ID}"
    assert parse_pod_cgroup("\n" * (MAX_CGROUP_SIZE - len(path)) + path + "0") == UNKNOWN


PARTS = [*"/:\n_-.", "0::/", "kubepods", "pod", ".slice", ".scope", UID, SLICE_UID, ID, ".."]


@given(st.text(max_size=20) | st.lists(st.sampled_from(PARTS)).map("".join))
def test_neither_is_what_almost_fits(text):
    place = parse_pod_cgroup(text)
    assert place.pod in {"", UID}
    assert place.container in {"", ID}
    assert place.pod or not place.container
