"""Tables for the terminal, and what figures are called in them."""

from __future__ import annotations

from collections.abc import Sequence

HEADLINE = {
    "pixel_accuracy": "pixel accuracy",
    "mean_iou": "mean IoU",
    "mean_iou_without_background": "mean IoU without background",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_accuracy": "mean accuracy",
    "mean_dice": "mean Dice",
    "boundary_f": "boundary F-score",
    "precision_50": "precision at IoU 0.5",
    "recall_50": "recall at IoU 0.5",
    "f1_50": "F1 at IoU 0.5",
    "f1_75": "F1 at IoU 0.75",
    "AP": "mask AP (COCO)",
    "AP50": "mask AP at IoU 0.5",
    "AP75": "mask AP at IoU 0.75",
    "panoptic_quality": "panoptic quality",
    "segmentation_quality": "  segmentation quality",
    "recognition_quality": "  recognition quality",
}


def as_number(value: float | None, digits: int = 4) -> str:
    """A figure, or n/a."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left."""
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
