"""Converting annotations from one format to another, image by image, with nothing lost unseen."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.datasets.formats import ReadOptions, WriteOptions, detect_format, make_reader, make_writer
from backend.datasets.model import NOT_CLASSES, ClassNames, Encoded, Fault, Sample, Writer
from backend.datasets.pictures import Pictures
from backend.datasets.splits import Division
from backend.datasets.target import Target
from backend.errors import ConfigError, InputError, Unavailable
from backend.files import ensure_writable, is_inside, sweep_stale

_EXAMPLES = 3  # images named with each loss
_SHOWN = 50  # failures in the text


@dataclass(frozen=True)
class Options:
    """What to do with what is read."""

    read: ReadOptions = field(default_factory=ReadOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    images: Path | None = None  # where pictures lie, to be looked through by name
    roots: tuple[Path, ...] = ()  # other folders whose pictures may be read, where files name them
    classes: tuple[str, ...] | None = None  # in order; others are left out
    division: Division | None = None
    strict: bool = False
    overwrite: bool = False
    progress: bool = True


@dataclass
class Summary:
    """What a conversion did."""

    source_format: str
    target_format: str
    images: int = 0
    empty: int = 0
    per_class: Counter[str] = field(default_factory=Counter)
    per_split: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)  # files of others that were not replaced
    unchanged: int = 0  # files that were there already, the same
    failed: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    stopped: str | None = None

    def count(self, sample: Sample, encoded: Encoded) -> None:
        """Take one converted image into account."""
        self.images += 1
        self.empty += not sample.instances
        self.per_class.update(one.label for one in sample.instances)
        for found, total in ((encoded.losses, self.losses), (sample.left_out, self.left_out)):
            total.update(found)
            for text in found:
                shown = self.examples.setdefault(text, [])
                if len(shown) < _EXAMPLES:
                    shown.append(str(sample.name))

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "from": self.source_format,
            "to": self.target_format,
            "images": self.images,
            "without_instances": self.empty,
            "instances": dict(self.per_class.most_common()),
            "classes": self.classes,
            "splits": dict(self.per_split),
            "not_held_by_target": dict(self.losses),
            "left_out_of_source": dict(self.left_out),
            "examples": self.examples,
            "kept": self.kept,
            "unchanged_files": self.unchanged,
            "failed": [{"file": where, "reason": reason} for where, reason in self.failed],
            "remarks": self.remarks,
            "stopped": self.stopped,
            "outputs": [str(path) for path in self.outputs],
        }

    def as_text(self) -> str:
        """For people: one line a fact, failures last."""
        splits = f" ({', '.join(f'{name} {n}' for name, n in self.per_split.items())})" if len(self.per_split) > 1 else ""
        lines = [f"converted {self.images} images{splits} with {sum(self.per_class.values())} instances from {self.source_format} to {self.target_format}"]
        lines += [f"  {name}: {count}" for name, count in self.per_class.most_common()]
        lines += [f"{self.empty} of them without any instance"] if self.empty else []
        for title, counts in ((f"{self.target_format} cannot hold:", self.losses), ("not taken over from the source:", self.left_out)):
            lines += [title] * bool(counts)
            lines += [f"  {n} {text} (such as {', '.join(self.examples[text])})" for text, n in counts.most_common()]
        lines += self.remarks
        if self.kept:
            lines.append(f"kept {len(self.kept)} files that this program did not write (--overwrite replaces them, with a .bak copy):")
            lines += [f"  {path}" for path in self.kept[:_SHOWN]]
        lines += [f"wrote {path}" for path in self.outputs]
        if self.failed:
            lines.append(f"failed {len(self.failed)}:")
            lines += [f"  {reason}" for _, reason in self.failed[:_SHOWN]]
            lines += [f"  ... and {len(self.failed) - _SHOWN} more; --json lists all"] if len(self.failed) > _SHOWN else []
        if self.stopped:
            lines.append(f"stopped early: {self.stopped}; run the same command again")
        return "\n".join(lines)


class _Stems:
    """A name for the outputs of every image, such that no two collide on any file system: later ones get their suffix, then a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def stem_of(self, sample: Sample) -> str:
        base = stem = sample.name.with_suffix("").as_posix()
        if stem.casefold() in self._taken:
            base = stem = f"{stem}_{sample.name.suffix.lstrip('.').lower()}"
        number = 2
        while stem.casefold() in self._taken:
            stem, number = f"{base}_{number}", number + 1
        self._taken.add(stem.casefold())
        return stem


def _check(source: Path, out: Path, kind: str, target: str) -> None:
    if out.is_file():
        raise ConfigError(f"{out}: is a file; name a folder for the {target} dataset")
    root = source if source.is_dir() else source.parent
    if out.resolve() == root.resolve() and kind == target:
        raise ConfigError(f"{out}: is where the annotations come from, and they would be replaced; choose another folder")
    if target in ("yolo", "voc") and out.resolve() != root.resolve() and is_inside(root, out):
        raise ConfigError(f"{out}: holds {source}; choose a folder beside or inside of it")


def convert(source: Path, out: Path, target: str, options: Options, kind: str | None = None, stop: threading.Event | None = None) -> Summary:
    """Convert a dataset.

    What was converted before is done again, and files that did not change are left as they are; a file that this program did not write is kept. An
    image that cannot be read, or with ``strict`` not be held without loss, is listed and does not stop the others.

    Args:
        source: file or folder.
        out: folder for the target, made if missing.
        target: of ``backend.datasets.formats.FORMATS``.
        options: see ``Options``.
        kind: format of the source; None looks.
        stop: set it to end after the image in hand.

    Returns:
        What was done.

    Raises:
        ConfigError: there is nothing to convert, or nowhere to put it.
    """
    kind = kind or detect_format(source)
    _check(source, out, kind, target)
    ensure_writable(out)
    sweep_stale(out)
    stop = stop or threading.Event()
    names = ClassNames([name for name in options.classes or () if name not in NOT_CLASSES], fixed=options.classes is not None)
    pictures = Pictures([*options.roots, source if source.is_dir() else source.parent], options.images)
    reader = make_reader(source, kind, names, pictures, options.read, out)
    listed = bool(names.names)
    writer = make_writer(out, target, names, pictures, options.write)
    summary = Summary(kind, target)
    place = Target(out, target, options.overwrite)
    try:
        place.check_shared(writer.shared)
        _stream(reader, writer, place, options, summary, stop)
        summary.remarks += reader.remarks
        summary.classes = names.names
        if summary.stopped is None:
            summary.outputs.append(out)
            _close(writer, place, summary)
            if left := place.leftovers():
                summary.remarks.append(f"{len(left)} files of an earlier conversion are still there and no part of this one, such as {left[0]}")
    finally:
        writer.abort()
        place.close()
    summary.kept, summary.unchanged = place.kept, place.unchanged
    if not listed and target != "labelme" and summary.classes:
        summary.remarks.append(f"the source lists no classes; they are numbered as they came: {', '.join(summary.classes[:20])}. --classes fixes the order")
    return summary


def _stream(reader: Any, writer: Writer, place: Target, options: Options, summary: Summary, stop: threading.Event) -> None:
    stems = _Stems()
    with tqdm(total=reader.total, unit="img", disable=not options.progress, file=sys.stderr, dynamic_ncols=True) as bar:
        for found in reader.samples():
            if stop.is_set():
                summary.stopped = "interrupted"
                break
            if isinstance(found, Fault):
                summary.failed.append((found.where, found.sentence))
            else:
                try:
                    _one(found, stems.stem_of(found), writer, place, options, summary)
                except Unavailable as error:  # a full disk fails all that follow as well
                    summary.failed.append((found.where, str(error)))
                    summary.stopped = str(error)
                    break
                except Exception as error:
                    summary.failed.append((found.where, Fault.of(found.where, error).sentence))
            bar.update()
            if summary.failed:
                bar.set_postfix(failed=len(summary.failed), refresh=False)


def _one(sample: Sample, stem: str, writer: Writer, place: Target, options: Options, summary: Summary) -> None:
    if options.division is not None:
        sample = replace(sample, split=options.division.split_of(str(sample.name)))
    encoded = writer.encode(sample, stem)
    if options.strict and encoded.losses:
        told = ", ".join(f"{n} {text}" for text, n in encoded.losses.items())
        raise InputError(f"{sample.where}: cannot be held without loss: {told} (--strict)")
    for path, content in encoded.files:
        place.put(path, content)
    writer.add(encoded)
    summary.count(sample, encoded)
    if sample.split or options.write.split:
        summary.per_split[sample.split or options.write.split] += 1


def _close(writer: Writer, place: Target, summary: Summary) -> None:
    for path, content in writer.close():
        if place.put(path, content) and path.name != "labels.txt":
            summary.outputs.append(place.root / path)
