"""Weights of the published models' shapes without their training: what they say means nothing, but
they are loaded and run as the real ones are.
"""

from __future__ import annotations

from pathlib import Path

import torch

from backend.models.registry import Model
from backend.models.yolo import quiet_ultralytics
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
        quiet_ultralytics(offline=True)
        from ultralytics import YOLO

        network = YOLO(f"{model.name}.yaml")
        head = network.model.model[-1]
        for layer in head.modules():  # fresh ones are sure that there is nothing
            sure = isinstance(layer, torch.nn.Conv2d) and layer.out_channels == head.nc
            if sure and layer.bias is not None:
                layer.bias.data.zero_()
        network.save(path)
    else:
        from sam2.build_sam import build_sam2

        network = build_sam2(model.config, None, device="cpu")
        torch.save({"model": network.state_dict()}, path)
    return path
