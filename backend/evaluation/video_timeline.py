"""A predicted and an accepted video as lines: where boxes agree, and where to look first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backend.core.boxes import box_iou
from backend.errors import counted
from backend.evaluation.video_effort import BoxTrack, Pair, key_frames, what_became

_GOOD = 0.75  # IoU from which on a box lies well
_HALF = 0.5
_MOST_LOOKS = 8  # of a video
_MOST_SPANS = 400  # of an object
_STATES = ("good", "off", "wrong", "invented", "missed")  # the worst last


@dataclass(frozen=True)
class Span:
    """Frames in a row that are alike, counted from 0.

    Attributes:
        state: ``good``, ``off`` (IoU below 0.75), ``wrong`` (below 0.5), ``missed`` (nothing was
            predicted) or ``invented`` (nothing was accepted).
        iou: the mean.
    """

    first: int
    last: int
    state: str
    iou: float


@dataclass(frozen=True)
class Row:
    """An object through its video.

    Attributes:
        label: that was accepted, else predicted.
        predicted_label: where that is another one.
        became: ``kept``, ``changed``, ``removed`` or ``added``.
        spans: in order.
        edits: key frames that a person changed, with what became of them.
    """

    label: str
    predicted_label: str | None
    became: str
    spans: tuple[Span, ...]
    edits: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Timeline:
    """One accepted annotation of a video beside its prediction.

    Attributes:
        name: of the task.
        task_id: its number in Label Studio.
        n_frames: of the video.
        hota: of this prediction.
        rows: one for each object.
        looks: spans to look at first, the worst first: frames, and what is wrong there.
    """

    name: str
    task_id: int | None
    n_frames: int
    hota: float
    rows: tuple[Row, ...]
    looks: tuple[tuple[int, int, str], ...]


def timeline(
    name: str, task_id: int | None, n_frames: int, hota: float, pairs: Sequence[Pair]
) -> Timeline:
    """Lay the tracks of a video beside each other."""
    rows = [_row(before, after) for before, after in pairs]
    bad = [
        (_loss(span), span.first, span.last, _reason(row, span))
        for row in rows
        for span in row.spans
        if span.state != "good"
    ]
    bad.sort(key=lambda one: (-one[0], one[1]))
    looks = tuple((first, last, reason) for _, first, last, reason in bad[:_MOST_LOOKS])
    return Timeline(name, task_id, n_frames, hota, tuple(rows), looks)


def _row(before: BoxTrack | None, after: BoxTrack | None) -> Row:
    label = "" if before is None else before.label
    other = None
    if after is not None:
        other = label if before is not None and label != after.label else None
        label = after.label
    edits = () if before is None or after is None else key_frames(before, after).items()
    return Row(
        label=label,
        predicted_label=other,
        became=what_became(before, after),
        spans=tuple(_fewer(list(_spans(before, after)))),
        edits=tuple((frame, what) for frame, what in edits if what != "kept"),
    )


def _spans(before: BoxTrack | None, after: BoxTrack | None) -> Iterator[Span]:
    ours = {} if before is None else before.boxes
    theirs = {} if after is None else after.boxes
    run: list[tuple[int, float]] = []
    state = ""
    for frame in sorted(ours.keys() | theirs.keys()):
        there = frame in ours and frame in theirs
        iou = box_iou(ours[frame], theirs[frame]) if there else 0.0
        now = _state(frame in ours, frame in theirs, iou)
        if run and (now != state or frame != run[-1][0] + 1):
            yield _span(state, run)
            run = []
        state = now
        run.append((frame, iou))
    if run:
        yield _span(state, run)


def _fewer(spans: list[Span]) -> list[Span]:
    """No more than a page can show: neighbours become one, with the state of the worst."""
    while len(spans) > _MOST_SPANS:
        merged: list[Span] = []
        for k, span in enumerate(spans):
            if k % 2 and merged[-1].last + 1 == span.first:
                merged[-1] = _both(merged[-1], span)
            else:
                merged.append(span)
        if len(merged) == len(spans):
            break  # gaps between all of them
        spans = merged
    return spans


def _both(a: Span, b: Span) -> Span:
    n, m = a.last - a.first + 1, b.last - b.first + 1
    worse = max(a, b, key=lambda one: _STATES.index(one.state))
    return Span(a.first, b.last, worse.state, round((n * a.iou + m * b.iou) / (n + m), 3))


def _state(is_predicted: bool, is_accepted: bool, iou: float) -> str:
    if not is_predicted:
        return "missed"
    if not is_accepted:
        return "invented"
    return "good" if iou >= _GOOD else "off" if iou >= _HALF else "wrong"


def _span(state: str, run: Sequence[tuple[int, float]]) -> Span:
    mean = sum(iou for _, iou in run) / len(run)
    return Span(run[0][0], run[-1][0], state, round(mean, 3))


def _loss(span: Span) -> float:
    return (span.last - span.first + 1) * (1 - span.iou)


def _reason(row: Row, span: Span) -> str:
    n_frames = counted(span.last - span.first + 1, "frame")
    what = {
        "missed": f"missed for {n_frames}",
        "invented": f"predicted for {n_frames}, not accepted there",
        "wrong": f"the box lies elsewhere for {n_frames}, IoU {span.iou:.2f}",
        "off": f"the box is off for {n_frames}, IoU {span.iou:.2f}",
    }[span.state]
    return f"{row.label or 'no label'}: {what}"
