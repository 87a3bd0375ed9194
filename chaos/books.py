"""What is wrong with the kubelet's books, given the sockets of all that are registered by their own word.

Everything wrong is a pair of a code and a text.
"""

from collections import Counter


def wrong_streams(node, current):
    """Streams that are missing, doubled or of nobody, and sockets in the books that are nobody's."""
    followed, books = +node.followed, node.registered_sockets()
    kept = _kept(followed.keys() | books, current)
    if followed - Counter(kept) != Counter(current):
        yield "streams", f"streams {_names(followed.elements())} instead of {_names(current)}"
    if not books <= current | kept:
        yield "books", f"the kubelet still knows {_names(books - current - kept)}"


def wrong_allocatable(node, current, *, taken, count, served):
    """Resources of which the node offers too many or too few, and those for which nobody is asked although served."""
    state, kept = node.state().node, _kept(node.registered_sockets(), current)
    for resource, offered in state.allocatable.items():
        asked = node.asked(resource)
        due = (count if resource == taken else state.capacity[resource]) if asked else 0
        if offered != due:
            yield "allocatable", f"allocatable of {resource} is {offered}, not {due}"
        if served and asked not in current | kept:
            yield "nobody-asked", f"nobody that lives would be asked for {resource}"


def _kept(known, current):
    """Sockets that instances serve beside the current ones, one for a resource at most: see `Serving.keep`."""
    served = {_served_by(path) for path in current}
    return set({_served_by(path): path for path in known - current if _served_by(path) in served}.values())


def _served_by(path):
    """The part of a socket's name that tells resource and instance."""
    return path.name[: -len("000.sock")]


def _names(paths):
    return sorted(path.name for path in paths)
