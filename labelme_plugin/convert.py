"""Converting annotations from one format to another, image by image, with nothing lost unseen."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.datasets.copies import NOT_AT_HAND
from backend.datasets.formats import ReadOptions, WriteOptions, detect_format, make_reader, make_writer, names_in
from backend.datasets.model import NOT_CLASSES, ClassNames, Encoded, Fault, Reader, Sample, Writer, chosen
from backend.datasets.pictures import Pictures
from backend.datasets.splits import Division
from backend.datasets.target import Target
from backend.datasets.to_yolo import outdated
from backend.errors import ConfigError, InputError, Unavailable, is_disk_full
from backend.files import ensure_writable, is_inside, sweep_stale
from backend.images import SUFFIXES

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
        self.empty += not encoded.labels
        self.per_class.update(encoded.labels)
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
        lines += [f"  {name.encode(errors='backslashreplace').decode()}: {count}" for name, count in self.per_class.most_common()]
        lines += [f"{self.empty} of them without any instance"] if self.empty else []
        missing = Counter({text: n for text, n in self.losses.items() if text == NOT_AT_HAND})
        titles = (f"{self.target_format} cannot hold:", "not taken over from the source:", "to be looked after:")
        for title, counts in zip(titles, (self.losses - missing, self.left_out, missing), strict=True):
            lines += [title] * bool(counts)
            lines += [f"  {n} {text} (such as {', '.join(self.examples[text])})" for text, n in counts.most_common()]
        lines += self.remarks
        if self.kept:
            lines.append(f"kept {len(self.kept)} files that somebody else wrote, or changed since (--overwrite replaces them, with a .bak copy):")
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
    """A name for the outputs of every image, such that no two collide on any file system: later ones get their suffix, then a number.

    Args:
        per_split: whether the same name may come again in another split.
    """

    def __init__(self, per_split: bool) -> None:
        self._per_split = per_split
        self._taken: set[tuple[str | None, str]] = set()

    def stem_of(self, sample: Sample) -> str:
        split = sample.split if self._per_split else None
        name = sample.name.with_suffix("")
        if name.suffix.lower() in SUFFIXES:  # a.jpg.png: lists of images would take the rest for the suffix
            name = name.with_name(f"{name.stem}_{name.suffix[1:]}")
        base = stem = name.as_posix()
        if (split, stem.casefold()) in self._taken:
            base = stem = f"{stem}_{sample.name.suffix.lstrip('.').lower()}"
        number = 2
        while (split, stem.casefold()) in self._taken:
            stem, number = f"{base}_{number}", number + 1
        self._taken.add((split, stem.casefold()))
        return stem


def _check(source: Path, out: Path, kind: str, target: str) -> None:
    if out.is_file():
        raise ConfigError(f"{out}: is a file; name a folder for the {target} dataset")
    root = source if source.is_dir() else source.parent
    if out.resolve() == root.resolve() and (kind == target or source.is_dir()):
        raise ConfigError(f"{out}: is where the annotations come from; choose another folder, so that they and what is made of them stay apart")
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
    place = Target(out, target, options.overwrite)
    try:
        return _convert(source, place, kind, target, options, stop)
    finally:
        place.close()


def _class_names(out: Path, target: str, options: Options) -> ClassNames:
    """The classes that are known before: those the user named, else those of an earlier conversion into the folder, whose files may stay.

    Raises:
        ConfigError: the user names them in another order than an earlier conversion did.
    """
    before = names_in(out, target)
    if options.classes is None:
        return ClassNames(before)
    wanted = [name for name in options.classes if name not in NOT_CLASSES]
    if not options.overwrite and any(name in wanted and wanted.index(name) != k for k, name in enumerate(before)):
        raise ConfigError(f"--classes: {out} holds a conversion that numbers them otherwise: {', '.join(before)[:200]}; choose another OUT, or --overwrite")
    return ClassNames(wanted, fixed=True)


def _convert(source: Path, place: Target, kind: str, target: str, options: Options, stop: threading.Event) -> Summary:
    out = place.root
    root = source if source.is_dir() else source.parent
    pictures = Pictures([*options.roots, root], options.images, [out])
    shared = make_writer(out, target, ClassNames(), pictures, options.write).shared
    place.check_shared(shared)
    names = _class_names(out, target, options)
    n_before = len(names.names)
    reader = make_reader(source, kind, names, pictures, options.read, out)
    listed = len(names.names) > n_before or n_before > 0
    writer = make_writer(out, target, names, pictures, options.write)
    summary = Summary(kind, target)
    try:
        _stream(reader, writer, names, place, options, summary, stop)
        summary.remarks += reader.remarks
        summary.classes = names.names
        if summary.stopped is None:
            summary.outputs.append(out)
            _close(writer, place, summary)
    except Unavailable as error:
        summary.stopped = str(error)
        summary.failed.append((str(out), str(error)))
    finally:
        writer.abort()
    summary.kept, summary.unchanged = place.kept, place.unchanged
    if not listed and target != "labelme" and summary.classes:
        summary.remarks.append(f"the source lists no classes; they are numbered as they came: {', '.join(summary.classes[:20])}. --classes fixes the order")
    return summary


def _stream(reader: Reader, writer: Writer, names: ClassNames, place: Target, options: Options, summary: Summary, stop: threading.Event) -> None:
    stems = _Stems(writer.per_split)
    with tqdm(total=reader.total, unit="img", disable=not options.progress, file=sys.stderr, dynamic_ncols=True) as bar:
        for found in reader.samples():
            if stop.is_set():
                summary.stopped = "interrupted"
                break
            if isinstance(found, Fault):
                summary.failed.append((found.where, found.sentence))
            else:
                try:
                    sample = chosen(found, names, writer.lists_names)
                    if options.division is not None:
                        sample = replace(sample, split=options.division.split_of(str(sample.name)))
                    _one(sample, stems.stem_of(sample), writer, place, options, summary)
                except Unavailable as error:
                    summary.failed.append((found.where, str(error)))
                    if is_disk_full(error):  # which fails all that follow as well
                        summary.stopped = str(error)
                        break
                except Exception as error:
                    summary.failed.append((found.where, Fault.of(found.where, error).sentence))
            bar.update()
            if summary.failed:
                bar.set_postfix(failed=len(summary.failed), refresh=False)


def _one(sample: Sample, stem: str, writer: Writer, place: Target, options: Options, summary: Summary) -> None:
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
    left = place.leftovers()
    if summary.target_format == "yolo":  # programs that train take whatever lies in its folders
        left = outdated(left, place.touched)
        if not summary.failed and (removed := place.prune(left)):
            summary.remarks.append(f"removed {removed} files of an earlier conversion that are no part of this one, and that nobody changed")
            left = [name for name in left if (place.root / name).exists()]
    if left:
        summary.remarks.append(f"{len(left)} files of an earlier conversion are still there and no part of this one, such as {left[0]}")
