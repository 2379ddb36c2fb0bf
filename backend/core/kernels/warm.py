"""Compiling before the first picture, instead of with it."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import numpy as np

from backend.core.kernels import brush, coco, deflate, logits, runs
from backend.core.kernels.compiled import STAMP, code_folder, stamp_of

logger = logging.getLogger(__name__)


def warm_up() -> None:
    """Load the loops that every labelled picture needs, or compile them where this machine has not
    done so yet.
    """
    modules = Path(__file__).parent
    folder = code_folder(modules)
    stamp = stamp_of(modules)
    is_compiled = folder is not None and _read(folder / STAMP) == stamp
    if not is_compiled:
        logger.warning("compiling loops for this machine, which takes ten seconds, once")
    grids = np.ones((1, 2, 2), np.float32)
    logits.crops_of_logits(grids, 4, 4, 0.0, 0.0, 4.0, 4.0)
    edges = runs.edges_of_crop(np.ones((2, 2), np.uint8), 0, 0, 4)
    runs.crop_of_edges(edges, 4)
    brush.json_of_edges(edges, np.array([len(edges)]), 16)
    head, codes = deflate.table()
    deflate.deflated_runs(edges, 16, head, *codes)
    coco.text_of_edges(edges, 16)
    if folder is not None and not is_compiled:
        with suppress(OSError):
            (folder / STAMP).write_text(stamp)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


if __name__ == "__main__":
    warm_up()
