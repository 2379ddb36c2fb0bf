"""Scenes on disk, once, for both trainers: pictures and boxes as Ultralytics reads them, object
maps beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from backend.demo.dataset import true_detections
from backend.demo.scenes.compose import TRAIN_SEEDS, VALIDATION_SEEDS, generate
from backend.demo.scenes.objects import CLASS_NAMES


def write_one(folder: Path, seed: int) -> None:
    """Write ``images/SEED.jpg``, ``labels/SEED.txt`` (class, centre and size as shares) and
    ``objects/SEED.png``.
    """
    if (folder / "labels" / f"{seed}.txt").exists():
        return
    cv2.setNumThreads(1)
    scene = generate(seed)
    height, width = scene.objects.shape
    scale = np.array([width, height, width, height], np.float32)
    rows = []
    for class_id, box in zip(scene.class_ids, true_detections(scene).xyxy / scale, strict=True):
        x0, y0, x1, y1 = box.tolist()
        rows.append(
            f"{class_id} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n"
        )
    cv2.imwrite(
        str(folder / "images" / f"{seed}.jpg"),
        cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, 95],
    )
    cv2.imwrite(str(folder / "objects" / f"{seed}.png"), scene.objects)
    (folder / "labels" / f"{seed}.txt").write_text("".join(rows))


def write_split(folder: Path, seeds: Iterable[int]) -> None:
    """Write many scenes with all cores; what is already there is kept."""
    for name in ("images", "labels", "objects"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Fresh processes: a fork of one whose torch or OpenCV runs threads can wait for a lock for
    # ever.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(write_one, folder), seeds, chunksize=16))


def write_data_file(folder: Path) -> None:
    """Write the ``data.yaml`` that Ultralytics reads, for the splits below ``folder``."""
    names = "".join(f"  {k}: {name}\n" for k, name in enumerate(CLASS_NAMES))
    (folder / "data.yaml").write_text(
        f"path: {folder.resolve()}\ntrain: train/images\nval: val/images\nnames:\n{names}"
    )


def main() -> None:
    """Write the training and validation scenes and the dataset file for Ultralytics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=4000, help="number of training scenes")
    parser.add_argument("--validation", type=int, default=200, help="number of validation scenes")
    args = parser.parse_args()
    write_split(args.out / "train", TRAIN_SEEDS[: args.train])
    write_split(args.out / "val", VALIDATION_SEEDS[: args.validation])
    write_data_file(args.out)


if __name__ == "__main__":
    main()
