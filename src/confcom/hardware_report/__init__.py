"""Report of facts about a node's SGX, for its owner to send to this project; no fact identifies the machine.

The facts are not judged, and no error ends the report: an unreadable fact is null, or in the section `unread`.
"""

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
Facts = dict[str, Value]
