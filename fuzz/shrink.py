"""A smaller input that breaks the same rule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from fuzz.inputs import Ending, Input
from fuzz.wire import HEADER_SIZE, Node, NotProtobufError, Raw, Tree, encode, frame, parse

MAX_TRIES: Final = 2_000
"""Smaller inputs that are tried for one finding: a second or so, and enough for a request of ten fields."""


def shrink(sent: Input, still_fails: Callable[[Input], bool]) -> Input:
    """Make an input smaller as long as it breaks the same rule."""
    tries = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(sent):
            if tries >= MAX_TRIES:
                return sent
            tries += 1
            if still_fails(candidate):
                sent, smaller = candidate, True
                break
    return sent


def _smaller(sent: Input) -> Iterator[Input]:
    """Inputs that are simpler in one way, the greatest steps first."""
    data = sent.data
    if len(sent.pieces) > 1:
        yield replace(sent, pieces=(data,))
    if sent.ending is not Ending.WAIT:
        yield replace(sent, ending=Ending.WAIT)
    if len(sent.pieces) > 1:
        return
    body = data[HEADER_SIZE:]
    if data == frame(body):
        with contextlib.suppress(NotProtobufError):
            for simpler in _simpler_trees(parse(body)):
                yield replace(sent, pieces=(frame(encode(simpler)),))
    for shorter in _shorter(data):
        yield replace(sent, pieces=(shorter,) if shorter else ())


def _simpler_trees(tree: Tree) -> Iterator[Tree]:
    for at in range(len(tree)):
        yield tree[:at] + tree[at + 1 :]
    for at, node in enumerate(tree):
        for simpler in _simpler_nodes(node):
            yield (*tree[:at], simpler, *tree[at + 1 :])


def _simpler_nodes(node: Node) -> Iterator[Node]:
    if isinstance(node, Raw):
        yield from map(Raw, _shorter(node.data))
        return
    value = node.value
    match value:
        case int():
            values: Iterable[int | bytes | Tree] = {0, value >> 8, max(0, value - 1)} - {value}
        case bytes():
            values = (*_shorter(value), *([bytes(len(value))] if any(value) else []))
        case tuple():
            values = _simpler_trees(value)
    for simpler in values:
        yield replace(node, value=simpler)


def _shorter(data: bytes) -> Iterator[bytes]:
    """Without its end, its beginning, or a part, in ever smaller steps."""
    step = len(data)
    while step:
        for start in range(0, len(data), step):
            yield data[:start] + data[start + step :]
        step //= 2
        if len(data) // max(step, 1) > 64:
            break
    if data:
        yield data[:-1]
