"""The facts about a node's SGX that its owner sends to this project, without anything that identifies the machine.

Nothing here judges the facts, and nothing fails: a fact that cannot be read is null, or in the section `unread`.
"""

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
Facts = dict[str, Value]
