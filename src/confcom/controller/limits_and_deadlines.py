"""Every limit and deadline of the controller, with its reason."""

PAGE = 250
"""Nodes, or Pods of ours, in a page of a list: 3 MB, with nodes of 12 kB."""
POD_PAGE = 16
"""Pods in a page of a node's Pods: a kubelet's default maximum of 110 is 7 pages, of 10 ms each."""
ANSWER_BYTES = 10 * 1024 * 1024
"""Read limit of an answer, and of an event of a watch. A larger page is asked again with half as many objects. etcd
takes objects of 1.5 MiB by default, which are 9 MiB as JSON if they consist of `<`, since Go writes `\\u003c`."""
DEEPEST = 12_000
"""Nested levels of JSON that are decoded, and of calls. An API server takes 10,000, for example in managed fields."""
REQUEST_SECONDS = 15.0
"""Timeout of a request to the API server. A page takes 0.2 s, and the API server's own timeout is 60 s."""
QUIET_SECONDS = 75.0
"""A watch without an event for so long may be dead, and is begun again. The API server sends a bookmark each minute."""
GATHER_SECONDS = 0.5
"""Pause of a watch after an event for which it had to wait; those that come meanwhile are then read together, each at a
third of the CPU. 5,000 kubelets report 17 times in a second."""
WAITED_SECONDS = 0.005
"""An event that took longer was not there yet. What is there is read within a millisecond."""
SHORT_WATCH_SECONDS = 10.0
"""A watch that lasted less is followed by a pause. An API server ends a watch after half an hour at the earliest."""
STALE_SECONDS = 180.0
"""Without contact with the API server for this long, the controller is not ready: two quiet watches, and a retry."""

QUICK_SECONDS = 5.0
"""Deadline for the Pods of a node, which take 0.1 s. A node that needs longer is read among the slow ones. One node of
each kind is read at the same time, so that two answers are in memory at most."""
SLOW_SECONDS = 30.0
"""Deadline for the Pods of a slow node. A tenant can bind thousands to a node whose kubelet is away."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
"""Pauses after failures, between two writes of one node, and between two reads of its Pods, doubled each time: after a
change from device accounting, a kubelet overwrites for five minutes; no watch tells when a tenant's Pod has ended."""
CALM_SECONDS = 75.0
"""A node that was left alone for this long is looked at without a pause: longer than the longest pause twice over."""
TICK_SECONDS = 5.0
"""How often nodes are looked at whose time will come without an event."""
WRITES_AT_ONCE = 8
"""Nodes that are written at the same time. The API server takes some hundred a second."""
EVENT_SECONDS = 1800.0
"""A shortfall that lasts is reported again after this time: the API server forgets Events after an hour."""
LOG_SECONDS = 10.0
"""Interval of the log lines about requests that fail: there may be thousands."""

INVENTORY_BYTES = 256 * 1024
"""Read limit of a plugin's answer, which takes 3 kB, and 100 bytes for each NUMA node."""
INVENTORY_SECONDS = 5.0
"""Timeout for a plugin's answer, all of it. It takes milliseconds."""
PLUGINS_AT_ONCE = 16
"""Plugins that are asked at the same time: 1,000 nodes take some seconds then."""
REFRESH_SECONDS = 600.0
"""A plugin that answered is asked again after this time. What it says changes only when its Pod does, which is seen."""
STOP_SECONDS = 5.0
"""Timeout of the orderly stop, which takes milliseconds."""
