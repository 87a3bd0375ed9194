"""Every limit and deadline of the controller, with its reason."""

PAGE = 250
"""Objects in a page of a list. A page decides the memory at the peak: with 5,000 nodes and 20,000 Pods of 6 to 7 kB,
53 MiB were seen."""
ANSWER_BYTES = 16 * 1024 * 1024
"""Read limit of an answer, and of an event of a watch. etcd takes objects of 1.5 MiB by default, which are 9 MiB as
JSON if they consist of `<`, since Go writes `\\u003c`. A page that is larger is asked for again with fewer objects."""
ANSWERS_AT_ONCE = 2
"""Answers whose bodies are in memory at the same time: with an event of either feed these are 64 MiB at most. Of one at
a time objects are made, which take 42 MiB of 16 if it consists of owner references. The rest of the process takes
53 MiB, and its container has 256."""
DEEPEST = 12_000
"""Nested levels of JSON that are decoded. An API server takes 10,000, for example in a Pod's managed fields."""
REQUEST_SECONDS = 15.0
"""Timeout of a request to the API server. A page takes 0.2 s, and the API server's own timeout is 60 s."""
QUIET_SECONDS = 60.0
"""A watch without an event for this long is begun again: its connection may be dead without either side knowing."""
SHORT_WATCH_SECONDS = 10.0
"""A watch that lasted less is followed by a pause. An API server ends a watch after half an hour at the earliest."""
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
"""Pauses after failures, doubled each time: nothing must wait much longer than the API server or a plugin is away."""
STALE_SECONDS = 180.0
"""Without contact with the API server for this long, the controller is not ready: three quiet watches."""

INVENTORY_BYTES = 256 * 1024
"""Read limit of a plugin's inventory, which takes 3 kB, and 100 bytes for each NUMA node."""
INVENTORY_SECONDS = 5.0
"""Timeout for a plugin's answer, all of it. It takes milliseconds."""
PLUGINS_AT_ONCE = 16
"""Plugins that are asked at the same time: 1,000 nodes take some seconds then."""
REFRESH_SECONDS = 600.0
"""A plugin that answered is asked again after this time. What it says changes only when its Pod does, which is seen."""

WRITES_AT_ONCE = 8
"""Nodes that are written at the same time. The API server takes some hundred a second."""
FIRST_REWRITE_SECONDS = 1.0
LONGEST_REWRITE_SECONDS = 60.0
"""Pauses between two writes of one node, doubled each time, since somebody else may overwrite what is written: after a
change from device accounting, a kubelet does so for five minutes."""
CALM_SECONDS = 150.0
"""A node that was not written for this long is written at once: longer than the longest pause twice over."""
TICK_SECONDS = 5.0
"""How often nodes are looked at whose time will come without an event."""

EVENT_SECONDS = 1800.0
"""A shortfall that lasts is reported again after this time: the API server forgets Events after an hour."""
EVENT_PAUSE_SECONDS = 60.0
"""A shortfall that changes is reported at most this often, for each node."""
STOP_SECONDS = 5.0
"""Timeout of the orderly stop, which takes milliseconds."""
