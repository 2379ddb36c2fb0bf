"""Train the micro YOLOv8 of the embedded pair from nothing, on generated scenes, without a network.

Best after ``python -m backend.demo.training_data --out DATA``. On two CPU cores this takes about
half an hour.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from backend.models.weights import EMBEDDED_FOLDER

YOLO_CONFIG = EMBEDDED_FOLDER / "demo_yolov8.yaml"


def offline(home: Path) -> None:
    """Keep Ultralytics from downloading a font, packages or settings.

    Must run before its first import.
    """
    import matplotlib

    home.mkdir(parents=True, exist_ok=True)
    os.environ.update(YOLO_CONFIG_DIR=str(home), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")
    shutil.copy(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", home / "Arial.ttf"
    )


def train(data: Path, out: Path, epochs: int, threads: int) -> Path:
    """Train and return the path of the best weights, optimiser stripped, fp16."""
    offline(out / "ultralytics")
    import torch
    from ultralytics import YOLO, settings

    torch.set_num_threads(threads)
    settings.update({"sync": False})
    model = YOLO(str(YOLO_CONFIG), task="detect")
    model.train(
        data=str(data / "data.yaml"),
        project=str(out),
        name="yolo",
        exist_ok=True,
        pretrained=False,
        device="cpu",
        imgsz=320,
        batch=16,
        epochs=epochs,
        optimizer="AdamW",
        lr0=0.002,
        lrf=0.02,
        cos_lr=True,
        warmup_epochs=1.0,
        mosaic=0.3,
        close_mosaic=3,
        scale=0.4,
        hsv_h=0.1,
        degrees=5.0,
        flipud=0.0,
        amp=False,
        plots=False,
        workers=0,
        seed=0,
        val=True,
        cache=False,
    )
    return out / "yolo" / "weights" / "best.pt"


def validate(weights: Path, data: Path) -> tuple[float, float]:
    """mAP of a detector by Ultralytics' validator: at IoU 0.5, and averaged over 0.5 to 0.95.

    Args:
        weights: of the detector.
        data: folder with ``data.yaml``; the validator writes its runs into it.
    """
    offline(data / "ultralytics")
    from ultralytics import YOLO

    home = Path.cwd()
    os.chdir(data)
    try:
        figures = YOLO(str(weights)).val(
            data=str(data / "data.yaml"),
            batch=16,
            device="cpu",
            plots=False,
            verbose=False,
            workers=0,
        )
    finally:
        os.chdir(home)
    return float(figures.box.map50), float(figures.box.map)


def main() -> None:
    """Command line of the YOLO trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    best = train(args.data, args.out.resolve(), args.epochs, args.threads)
    sys.stdout.write(f"best weights: {best}\n")


if __name__ == "__main__":
    main()
