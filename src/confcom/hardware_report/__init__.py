"""Reports facts about a node's SGX. The owner can send us the report; no fact identifies the machine.

The report does not judge facts, and no error ends it. An unreadable fact is null, or is in the section `unread`.
"""

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
Facts = dict[str, Value]
