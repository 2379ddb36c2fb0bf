"""Weights of the published models' shapes without their training: what they say means nothing, but
they are loaded and run as the real ones are.
"""

from __future__ import annotations

from pathlib import Path

import torch

from backend.models.table import Model
from backend.models.yolo_stock import untrained_yolo
from tests.support.word_detectors import write_grounding_dino, write_owlv2


def untrained_weights(model: Model, root: Path) -> Path:
    """Write the weights where the registry looks for those of the model.

    Args:
        model: a published one.
        root: MODEL_ROOT.
    """
    torch.manual_seed(0)
    path = root / model.weights
    if model.folder:  # small ones; those of full size have a test of their own
        if model.name.startswith("owlv2"):
            write_owlv2(path.parent)
        else:
            write_grounding_dino(path.parent, small=True)
    elif model.kind == "detector":
        untrained_yolo(path, model.name)
    else:
        from sam2.build_sam import build_sam2

        network = build_sam2(model.config, None, device="cpu")
        torch.save({"model": network.state_dict()}, path)
    return path
