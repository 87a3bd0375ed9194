"""Which machines are UpToDate, by which set of collateral, and what raises each SVN that is short.

`judgement`, `quotes` and `report` are pure; `nodes` reads a cluster, `sets` reads collateral, `groups` uses both.
"""
