"""Put trained weights into the package: stripped to what inference needs, half precision, with
their checksums.

python -m backend.training.checkpoint --yolo OUT/yolo/weights/best.pt --sam2 OUT/sam2.pt
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from backend.files.atomic import file_digest, write_atomic
from backend.models.weights import DEMO_CLIP, EMBEDDED_FOLDER

_INFERENCE_SIDE = 384  # pixels; trained at 320, but found more on validation scenes at this size
_KEPT_ARGUMENTS = (
    "task",
    "single_cls",
)  # of a YOLO checkpoint; the others hold folders of the training machine


def strip_yolo(source: Path, target: Path) -> None:
    """Keep a YOLO checkpoint's model and class names.

    Drop optimiser, metrics, dates, paths and training arguments.
    """
    checkpoint = torch.load(
        source, map_location="cpu", weights_only=False
    )  # our own file, written by the trainer
    model = checkpoint["ema"] or checkpoint["model"]
    arguments = {
        key: checkpoint["train_args"][key]
        for key in _KEPT_ARGUMENTS
        if key in checkpoint["train_args"]
    }
    arguments["imgsz"] = _INFERENCE_SIDE
    model.args = arguments
    model.yaml_file = "demo_yolov8.yaml"
    if isinstance(model.yaml, dict):
        model.yaml["yaml_file"] = "demo_yolov8.yaml"
    for attribute in ("pt_path", "criterion", "session"):
        if hasattr(model, attribute):
            setattr(model, attribute, None)
    torch.save(
        {
            "model": model.half(),
            "ema": None,
            "train_args": arguments,
            "version": checkpoint.get("version"),
            "epoch": -1,
        },
        target,
    )


def strip_sam2(source: Path, target: Path) -> None:
    """Keep the weights alone, in half precision, as ``weights_only`` loading accepts them."""
    weights = torch.load(source, map_location="cpu", weights_only=True)["model"]
    torch.save({"model": {name: value.half() for name, value in weights.items()}}, target)


def main() -> None:
    """Command line: write the files and ``SHA256SUMS``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--yolo", type=Path, help="trained YOLO checkpoint")
    parser.add_argument("--sam2", type=Path, help="trained SAM 2.1 checkpoint")
    parser.add_argument("--clip", type=Path, help="folder of the trained CLIP")
    args = parser.parse_args()
    yolo = EMBEDDED_FOLDER / "demo_yolov8.pt"
    sam2 = EMBEDDED_FOLDER / "demo_sam2.1.pt"
    if args.yolo is not None:
        strip_yolo(args.yolo, yolo)
    if args.sam2 is not None:
        strip_sam2(args.sam2, sam2)
    if args.clip is not None:
        shutil.rmtree(DEMO_CLIP, ignore_errors=True)
        shutil.copytree(args.clip, DEMO_CLIP, copy_function=shutil.copyfile)
    files = [yolo, sam2, *sorted(DEMO_CLIP.iterdir())]
    sums = "".join(
        f"{file_digest(path)}  {path.relative_to(EMBEDDED_FOLDER).as_posix()}\n" for path in files
    )
    write_atomic(EMBEDDED_FOLDER / "SHA256SUMS", sums.encode("ascii"))


if __name__ == "__main__":
    main()
