"""Model calls over many rows, fewer at once where memory does not hold them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from backend.errors import Unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Which option decides how many of them are tried at once, and which one names the model.
_OPTIONS = {
    "boxes": ("--sam-batch", "--segmenter"),
    "points": ("--points-per-batch", "--segmenter"),
    "views": ("", "--namer"),
    "pictures": ("--batch", "--detector"),
    "objects": ("", "--segmenter"),
}
_OTHERS = ("--batch", "--segmenter")


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def in_chunks(
    device: torch.device, count: int, chunk: int, what: str, run: Callable[[int, int], T]
) -> list[T]:
    """``run(start, stop)`` over all rows.

    Running out of memory halves the chunk and goes on.

    Args:
        device: where the model is.
        count: rows; 0 calls nothing.
        chunk: most rows of a call.
        what: the rows are, in the plural.
        run: gives the answer for rows ``start`` to ``stop``.

    Raises:
        Unavailable: out of memory even with a single row.
    """
    results: list[T] = []
    start = 0
    while start < count:
        stop = min(count, start + chunk)
        try:
            results.append(run(start, stop))
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            option, model = _OPTIONS.get(what, _OTHERS)
            if stop - start == 1:
                raise Unavailable(
                    f"{device}: out of memory with one of the {what}; use a smaller {model} or"
                    " --device cpu"
                ) from None
            chunk = (stop - start) // 2
            advice = f"; lower {option} to avoid this" if option else ""
            text = "%s: out of memory with %d %s at once, going on with %d%s"
            logger.warning(text, device, stop - start, what, chunk, advice)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        start = stop
    return results
