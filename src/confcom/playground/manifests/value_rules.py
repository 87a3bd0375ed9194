"""The API server's rules for single values of manifests, with its messages: names, amounts, paths and variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from confcom.kubelet_api.resource_names import LABEL, MAX_LABEL, SUBDOMAIN, extended_resource
from confcom.playground.manifests.decoding import FieldError, Rule, camel_case, rule
from confcom.playground.manifests.quantity import Quantity

_NATIVE_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def _unique(text: str, key: str, *, code: str) -> Rule:
    def check(items: Sequence[object], path: str) -> Iterator[FieldError]:
        seen = set()
        for index, item in enumerate(items):
            if (value := getattr(item, key)) in seen:
                yield FieldError(text.format(value), f"{path}[{index}].{camel_case(key)}", code)
            seen.add(value)

    return check


UNIQUE_NAMES = _unique('Duplicate value: "{}"', "name", code="duplicate-name")
UNIQUE_MOUNT_PATHS = _unique('Invalid value: "{}": must be unique', "mount_path", code="duplicate-mount-path")
REQUIRED = rule("Required value", lambda value: not value, code="field-required")
NAME_REQUIRED = rule(
    "Required value: name or generateName is required", lambda name: not name, code="object-name-required"
)
# In a cluster an object's name may be longer; here it is also the name of a directory and of files.
SHORT_NAME = rule(
    f'Invalid value: "{{}}": must be no more than {MAX_LABEL} characters',
    lambda name: len(name) > MAX_LABEL,
    code="name-too-long",
)
LABEL_NAME = rule(
    "Invalid value: \"{}\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    f"'{LABEL}')",
    lambda name: name and not re.fullmatch(LABEL, name),
    code="not-a-label",
)
SUBDOMAIN_NAME = rule(
    "Invalid value: \"{}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{SUBDOMAIN}')",
    lambda name: name and not re.fullmatch(SUBDOMAIN, name),
    code="not-a-subdomain",
)
VARIABLE_NAME = rule(
    'Invalid value: "{}": a valid environment variable name must consist only of printable ASCII characters other '
    "than '='",
    lambda name: "=" in name or not name.isprintable(),
    code="variable-name-invalid",
)
WITHOUT_NUL = rule("Invalid value: must not contain NUL", lambda text: "\0" in text, code="nul-in-value")
NOT_UPWARDS = rule(
    "Invalid value: \"{}\": must not contain '..'", lambda path: ".." in path.split("/"), code="path-goes-up"
)
NOT_NEGATIVE = rule(
    "Invalid value: {}: must be greater than or equal to 0", lambda number: number < 0, code="negative-number"
)


def check_amounts(amounts: Mapping[str, Quantity], path: str) -> Iterator[FieldError]:
    """Yield the errors of resource names and amounts."""
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        if not (name in _NATIVE_RESOURCES or name.startswith("hugepages-") or extended_resource(name)):
            yield FieldError(
                f'Invalid value: "{name}": must be a standard resource type or fully qualified',
                where,
                code="resource-name-invalid",
            )
        if amount.value < 0:
            yield FieldError(
                f'Invalid value: "{amount}": must be greater than or equal to 0', where, code="negative-quantity"
            )
        elif extended_resource(name) and amount.value.denominator != 1:
            yield FieldError(f'Invalid value: "{amount}": must be an integer', where, code="quantity-not-an-integer")
