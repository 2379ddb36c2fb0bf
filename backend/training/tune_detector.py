"""Fine-tune a detector of Ultralytics on accepted pictures."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from backend.errors import ConfigError, Unavailable, disk_error
from backend.files.atomic import file_digest, write_atomic
from backend.models.yolo import load_ultralytics
from backend.training.detector_data import write_detector_data
from backend.training.detector_loop import CLOSING, DetectorRun, train_detector
from backend.training.division import Parts, key_of
from backend.training.logs import LOGS
from backend.training.segmenter_loop import INTERRUPTED, Progress, TuneOptions

STATE_FOLDER = ".detector"  # of a training under way
_KEY = "key"
_DONE = "done.json"
_SECONDS = "seconds"
_TASKS = ("detect", "segment")
_BATCH = 16
_SIDE = 640  # pixels, of models that do not tell what they were trained with
_PATIENCE = 30  # epochs without a better one, at least
_PATIENT = 0.3  # of all epochs; the figure of few pictures goes up and down


@dataclass(frozen=True, kw_only=True)
class TunedDetector:
    """What came of a run.

    Attributes:
        path: of the best weights, as Ultralytics reads them.
        names: of its classes.
        best: mAP at IoU 0.5 to 0.95 on the validation part, by Ultralytics.
        epochs: that were trained.
        stopped: why it ended before its time; None where it did not.
        faults: a sentence for each picture that could not be used.
    """

    path: Path
    names: tuple[str, ...]
    best: float
    epochs: int
    stopped: str | None
    faults: tuple[str, ...]


def tune_detector(
    base: Path,
    parts: Parts,
    out: Path,
    options: TuneOptions,
    *,
    device: str,
    scratch: bool,
    stop: threading.Event,
    tell: Callable[[Progress], None],
) -> TunedDetector:
    """Fine-tune a detector to the classes of accepted pictures. It forgets all others.

    Args:
        base: its weights.
        parts: accepted pictures; those without objects teach what is nothing.
        out: folder of the run, locked by the caller.
        options: how long.
        device: of torch.
        scratch: whether its weights begin anew.
        stop: ends after the step in hand, and keeps the best so far.
        tell: hears of every epoch.

    Raises:
        ConfigError: the base is no detector that can learn, or there is nothing to learn from.
        Unavailable: the disk refuses, memory does not hold it, or it was stopped before an epoch
            ended.
    """
    model = load_ultralytics(base, _TASKS)
    if not hasattr(model.model, "yaml") or type(model).__name__ != "YOLO":
        raise ConfigError(f"--detector: {base}: finds words, and is not fine-tuned; name a YOLO")
    names = tuple(sorted({label for one in parts.train for label in one.every_label}))
    if not names:
        raise ConfigError("no picture to train on has an object")
    side = int(model.overrides.get("imgsz") or _SIDE)
    faults: list[str] = []
    folder = _prepared(out / STATE_FOLDER, _key(base, parts, options, side, scratch=scratch))
    if (done := _done(folder / _DONE, out, options.minutes)) is not None:
        return done
    data = folder / "data"
    if data.exists():
        shutil.rmtree(data)
    listed = write_detector_data(parts, names, data, options.limits, faults)
    run = train_detector(
        base,
        listed,
        folder / "run",
        _recipe(options, side, device, len(parts.train)),
        minutes=options.minutes,
        spent=_spent(folder / _SECONDS),
        scratch=scratch,
        stop=stop,
        tell=tell,
        keep=lambda row: _keep(out / LOGS["detector"], folder / _SECONDS, row),
    )
    path = _written(run, out)
    found = TunedDetector(
        path=path,
        names=names,
        best=run.best,
        epochs=run.epochs,
        stopped=run.stopped,
        faults=tuple(faults),
    )
    if run.stopped != INTERRUPTED:
        told = {**asdict(found), "path": path.name, "minutes": options.minutes}
        write_atomic(folder / _DONE, json.dumps(told).encode())
    return found


def _done(path: Path, out: Path, minutes: float | None) -> TunedDetector | None:
    """The same training, where an earlier run that was interrupted later ended it."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("minutes") != minutes:
            return None
        lists = {name: tuple(told[name]) for name in ("names", "faults")}
        found = TunedDetector(**{**told, **lists, "path": out / told["path"]})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.path.is_file() else None


def _recipe(options: TuneOptions, side: int, device: str, n_pictures: int) -> dict[str, Any]:
    """What Ultralytics' trainer is told; all else is as it chooses."""
    return {
        "epochs": options.epochs,
        "patience": max(_PATIENCE, round(_PATIENT * options.epochs)),
        "batch": min(_BATCH, max(2, n_pictures)),
        "imgsz": side,
        "device": device,
        "workers": 0,
        "seed": options.recipe.seed,
        "amp": False,
        "close_mosaic": max(1, round(CLOSING * options.epochs)),
        "warmup_epochs": min(1.0 if options.minutes else 3.0, 0.1 * options.epochs),
        "exist_ok": True,
    }


def _key(base: Path, parts: Parts, options: TuneOptions, side: int, *, scratch: bool) -> str:
    """What must be the same for a training to be gone on with."""
    told = [file_digest(base), key_of(parts), options.epochs, options.recipe.seed, side, scratch]
    return sha256(json.dumps(told).encode()).hexdigest()


def _prepared(folder: Path, key: str) -> Path:
    """The folder of a training; what an earlier one of something else left is removed."""
    held = folder / _KEY
    try:
        if not held.is_file() or held.read_text() != key:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            held.write_text(key)
    except OSError as error:
        raise disk_error(error, folder) from None
    return folder


def _spent(path: Path) -> float:
    """Seconds that a training which is gone on with took so far."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return 0.0


def _keep(path: Path, seconds: Path, row: Mapping[str, Any]) -> None:
    seconds.write_text(str(row["seconds"]))
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def _written(run: DetectorRun, out: Path) -> Path:
    """The best weights alone, in a file that its digest names."""
    from ultralytics.utils.torch_utils import strip_optimizer

    if run.weights is None:
        raise Unavailable(
            "the detector was stopped before its first epoch ended"
            if run.stopped in (None, INTERRUPTED)
            else run.stopped
        )
    small = run.weights.with_name("small.pt")
    strip_optimizer(run.weights, str(small))
    data = small.read_bytes()
    path = out / f"detector-{sha256(data).hexdigest()[:8]}.pt"
    write_atomic(path, data)
    load_ultralytics(path, _TASKS)
    return path
