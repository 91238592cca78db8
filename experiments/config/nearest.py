"""What somebody may have meant by a name that does not exist."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the known ones that are most like ``name``, or the first forty where none is."""
    names = list(known)
    tail = {key.rpartition(".")[2]: key for key in names}
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    near += [
        tail[match]
        for match in difflib.get_close_matches(name, tail, n=2)
        if tail[match] not in near
    ]
    if near:
        return f"Did you mean: {', '.join(near)}?"
    return f"Known: {', '.join(names[:40])}."
