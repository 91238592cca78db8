"""One run as a record: locked, attempted, ended.

``execute`` stands here too, as recorded code is replayed by ``experiments.run.execute``; it is
imported when it is asked for, since it loads torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.run.run import execute

__all__ = ["execute"]


def __getattr__(name: str) -> Any:
    if name == "execute":
        from experiments.run.run import execute

        return execute
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
