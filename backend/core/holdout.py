"""Which tasks are left without pre-labels, so that there is something to compare with."""

from __future__ import annotations

from hashlib import blake2b


def is_held_out(task: object, share: float) -> bool:
    """Whether a task belongs to the control group; always the same for the same task, and whoever
    is in a small group is in a larger one too.

    Args:
        task: its number.
        share: of all tasks, 0..1.

    >>> sum(is_held_out(task, 0.1) for task in range(1000))
    90
    """
    digest = blake2b(str(task).encode(), digest_size=8, person=b"holdout").digest()
    return int.from_bytes(digest, "big") < share * 2**64
