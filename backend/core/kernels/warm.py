"""Compiling before the first picture, instead of with it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from backend.core.kernels import brush, coco, deflate, logits, runs
from backend.core.kernels.compiled import code_folder

logger = logging.getLogger(__name__)


def warm_up() -> None:
    """Load the loops that every labelled picture needs, or compile them where this machine has not
    done so yet.
    """
    folder = code_folder(Path(__file__).parent)
    if folder is None or next(folder.glob("*.nbi"), None) is None:
        logger.warning("compiling loops for this machine, which takes ten seconds, once")
    grids = np.ones((1, 2, 2), np.float32)
    logits.crops_of_logits(grids, 4, 4, 0.0, 0.0, 4.0, 4.0)
    edges = runs.edges_of_crop(np.ones((2, 2), np.uint8), 0, 0, 4)
    runs.crop_of_edges(edges, 4)
    brush.json_of_edges(edges, np.array([len(edges)]), 16)
    head, codes = deflate.table()
    deflate.deflated_runs(edges, 16, head, *codes)
    coco.text_of_edges(edges, 16)


if __name__ == "__main__":
    warm_up()
