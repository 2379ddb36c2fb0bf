"""Converting annotations from one format to another, image by image, with nothing lost unseen."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from backend.core.classes import NOT_CLASSES, ClassNames
from backend.datasets.copying import Copies
from backend.datasets.lists import repeated
from backend.datasets.report import ConvertSummary
from backend.datasets.splits import Division
from backend.datasets.stems import Stems
from backend.errors import ConfigError, InputError, LabelingError, Unavailable, is_disk_full
from backend.files.atomic import check_out, ensure_writable, sweep_stale
from backend.files.find import is_inside
from backend.files.ownership import OutputFolder
from backend.files.pictures import Pictures
from backend.formats.base import NOT_AT_HAND, TURNED, Reader, ReadRequest, Writer, WriteRequest
from backend.formats.options import ReadOptions, WriteOptions
from backend.formats.registry import detect_format, format_of
from backend.formats.sample import (
    BLANKS,
    LISTS,
    UNWANTED,
    Fault,
    Sample,
    with_wanted_instances,
)
from backend.formats.yolo.writer import outdated

_HARMLESS = (
    NOT_AT_HAND,
    TURNED,
    LISTS,
    BLANKS,
)  # told, but nothing of the annotations is lost by it
_REST_TAKEN = "left out; the rest of its picture is converted"


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What to do with what is read."""

    read: ReadOptions = field(default_factory=ReadOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    images: Path | None = None  # where pictures lie, to be looked through by name
    roots: tuple[Path, ...] = ()  # other folders whose pictures may be read, where files name them
    classes: tuple[str, ...] | None = None  # in order; others are left out
    first_classes: tuple[str, ...] = ()  # come first, in order; others follow
    division: Division | None = None
    strict: bool = False
    overwrite: bool = False
    progress: bool = True


def _check(source: Path, out: Path, kind: str, target: str) -> None:
    if out.is_file():
        raise ConfigError(f"{out}: is a file; name a folder for the {target} dataset")
    root = source if source.is_dir() else source.parent
    if out.resolve() == root.resolve() and (kind == target or source.is_dir()):
        raise ConfigError(
            f"{out}: is where the annotations come from; choose another folder, so that they and"
            " what is made of them stay apart"
        )
    if kind == target == "labelme" and source.is_dir() and is_inside(out, root):
        raise ConfigError(
            f"{out}: lies in {source}, and whatever reads that next would find everything twice;"
            " choose a folder outside of it"
        )
    if (
        format_of(target).holds_pictures
        and out.resolve() != root.resolve()
        and is_inside(root, out)
    ):
        raise ConfigError(f"{out}: holds {source}; choose a folder beside or inside of it")


def convert(
    source: Path,
    out: Path,
    target: str,
    options: ConvertOptions,
    kind: str | None = None,
    stop: threading.Event | None = None,
) -> ConvertSummary:
    """Convert a dataset.

    What was converted before is done again, and files that did not change are left as they are; a
    file that this program did not write is kept. An image that cannot be read, or with ``strict``
    not be held without loss, is listed and does not stop the others.

    Args:
        source: file or folder.
        out: folder for the target, made if missing.
        target: format to write; ``formats.registry.format_names`` lists them.
        options: see ``ConvertOptions``.
        kind: format of the source; None looks.
        stop: set it to end after the image in hand.

    Returns:
        What was done.

    Raises:
        ConfigError: there is nothing to convert, or nowhere to put it.
    """
    check_out(out)
    kind = kind or detect_format(source)
    _check(source, out, kind, target)
    ensure_writable(out)
    sweep_stale(out)
    stop = stop or threading.Event()
    place = OutputFolder(
        out, target, overwrite=options.overwrite, is_marked=format_of(target).is_marked
    )
    try:
        return _convert(source, place, kind, target, options, stop)
    finally:
        place.close()


def _class_names(out: Path, target: str, options: ConvertOptions) -> ClassNames:
    """The classes that are known before: those the user named, else those of an earlier conversion
    into the folder, whose files may stay.

    Raises:
        ConfigError: the user names them in another order than an earlier conversion did.
    """
    try:
        before = format_of(target).names_in(out)
    except LabelingError:
        if not options.overwrite:
            raise
        before = ()
    if options.classes is None and not options.first_classes:
        return ClassNames(before)
    given = options.first_classes if options.classes is None else options.classes
    wanted = [name for name in given if name not in NOT_CLASSES]
    if not options.overwrite and any(
        name in wanted and wanted.index(name) != k for k, name in enumerate(before)
    ):
        option = "--classes-of" if options.classes is None else "--classes"
        raise ConfigError(
            f"{option}: {out} holds a conversion that numbers them otherwise:"
            f" {', '.join(before)[:200]}; choose another OUT, or --overwrite"
        )
    if options.classes is None:
        return ClassNames(list(dict.fromkeys([*wanted, *before])))
    return ClassNames(wanted, fixed=True)


def _convert(
    source: Path,
    place: OutputFolder,
    kind: str,
    target: str,
    options: ConvertOptions,
    stop: threading.Event,
) -> ConvertSummary:
    out = place.root
    root = source if source.is_dir() else source.parent
    pictures = Pictures([*options.roots, root], options.images, [out])
    made = format_of(target)
    copies = Copies(options.write.copy or ("copy" if made.holds_pictures else "none"), pictures)
    request = WriteRequest(
        out=out, names=ClassNames(), pictures=pictures, copies=copies, options=options.write
    )
    shared = made.write(request).shared
    place.check_shared(shared)
    names = _class_names(out, target, options)
    n_before = len(names.names)
    reader = format_of(kind).read(
        ReadRequest(
            source=source, names=names, pictures=pictures, options=options.read, skip=(out,)
        )
    )
    listed = len(names.names) > n_before or n_before > 0
    writer = made.write(replace(request, names=names))
    summary = ConvertSummary(kind, target)
    summary.per_split.update(
        dict.fromkeys(options.division.names if options.division is not None else (), 0)
    )
    stems = Stems(
        writer.per_split, ("images",) if target == "yolo" else ()
    )  # Ultralytics looks for labels by the last one in a path
    try:
        _stream(reader, writer, names, stems, place, options, summary, stop)
        summary.remarks += reader.remarks
        summary.classes = names.names
        if summary.stopped is None:
            summary.outputs.append(out)
            _close(writer, place, summary, stems)
    except Unavailable as error:
        summary.stopped = str(error)
        summary.failed.append((str(out), str(error)))
    finally:
        writer.abort()
    summary.kept = place.kept
    summary.unchanged = place.unchanged
    summary.remarks += _remarks(summary, pictures, options, out)
    if not listed and target != "labelme" and summary.classes:
        summary.remarks.append(
            "the source lists no classes; they are numbered as they came:"
            f" {', '.join(summary.classes[:20])}. --classes fixes the order, and --classes-of"
            " DETECTOR takes that of a detector"
        )
    return summary


def _remarks(
    summary: ConvertSummary, pictures: Pictures, options: ConvertOptions, out: Path
) -> list[str]:
    """What the user should know about the whole, beside counts."""
    told = [
        f"{n} pictures of the --images folder were not taken: {why}"
        for why, n in pictures.doubtful.items()
    ]
    absent = [
        name
        for name in options.classes or ()
        if name not in summary.per_class and name not in NOT_CLASSES
    ]
    if absent and summary.images:
        others = (
            f"; there are {', '.join(sorted(summary.unwanted)[:20])}" if summary.unwanted else ""
        )
        told.append(f"--classes: {', '.join(absent[:20])}: occur nowhere{others}")
    if options.division is not None and (
        empty := [name for name in options.division.names if not summary.per_split[name]]
    ):
        told.append(
            f"--split: no image came to {', '.join(empty)}: names decide, and these are few; other"
            " shares may do"
        )
    if summary.target_format == "yolo" and summary.images:
        if not any(name.startswith("val") for name in summary.per_split) and not any(
            (out / "labels").glob("val*")
        ):
            told.append(
                "data.yaml: there is no val, so that models are validated on what they are trained"
                " on; --split train=0.8,val=0.2 divides"
            )
        if options.write.copy == "none":
            told.append(
                "no pictures were copied; images/ has to be filled before anything can be trained"
            )
    return told


def _stream(
    reader: Reader,
    writer: Writer,
    names: ClassNames,
    stems: Stems,
    place: OutputFolder,
    options: ConvertOptions,
    summary: ConvertSummary,
    stop: threading.Event,
) -> None:
    with tqdm(
        total=reader.total,
        unit="img",
        disable=not options.progress or reader.total == 0,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        for found in reader.samples():
            if stop.is_set():
                summary.stopped = "interrupted"
                break
            if isinstance(found, Fault):
                summary.failed.append((found.where, found.sentence))
            else:
                n_known = len(names.names)
                try:
                    sample = with_wanted_instances(found, names, writer.lists_names)
                    summary.unwanted |= {one.label for one in found.instances} - {
                        one.label for one in sample.instances
                    }
                    sample = _placed(sample, writer, options)
                    _one(sample, stems.stem_of(sample), writer, place, options, summary)
                except Unavailable as error:
                    summary.failed.append((found.where, str(error)))
                    if is_disk_full(error):  # which fails all that follow as well
                        summary.stopped = str(error)
                        break
                except Exception as error:
                    names.cut(n_known)
                    summary.failed.append((found.where, Fault.of(found.where, error).sentence))
            bar.update()
            if summary.failed:
                bar.set_postfix(failed=len(summary.failed), refresh=False)


def _placed(sample: Sample, writer: Writer, options: ConvertOptions) -> Sample:
    """A sample with the split it is written to.

    Raises:
        InputError: its name can be in no file but its own.
    """
    if writer.lists_names or writer.per_split:  # else every image has a file of its own
        try:
            str(sample.name).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{sample.where}: the name {str(sample.name)!r} is not UTF-8; rename the picture"
            ) from None
    split = (
        sample.split if options.division is None else options.division.split_of(str(sample.name))
    )
    return replace(sample, split=split or (options.write.split if writer.per_split else None))


def _one(
    sample: Sample,
    stem: str,
    writer: Writer,
    place: OutputFolder,
    options: ConvertOptions,
    summary: ConvertSummary,
) -> None:
    encoded = writer.encode(sample, stem)
    lost = [
        f"{n} {text}"
        for text, n in [*encoded.losses.items(), *sample.left_out.items()]
        if text not in (*_HARMLESS, UNWANTED)
    ]
    if options.strict and (lost or sample.faults):
        told = ", ".join([*lost, *sample.faults[:1]])
        raise InputError(f"{sample.where}: cannot be held without loss: {told} (--strict)")
    for path, content in encoded.files:
        place.put(path, content)
    writer.add(encoded)
    summary.count(sample, encoded)
    summary.failed += [(sample.where, f"{text} ({_REST_TAKEN})") for text in sample.faults]
    if format_of(summary.target_format).knows_lists:
        summary.per_split[sample.split or options.write.split] += 1


def _close(writer: Writer, place: OutputFolder, summary: ConvertSummary, stems: Stems) -> None:
    """Write what all images share, and look after what an earlier conversion left."""
    kind = summary.target_format
    if stems.repeated:
        summary.remarks.append(
            f"{len(stems.repeated)} pictures are in the source more than once, such as"
            f" {stems.repeated[0]}; each time was taken for a picture of its own"
        )
    removed = 0
    if kind == "yolo":  # programs that train take whatever lies in its folders
        old = outdated(place.leftovers(), place.touched)
        removed += place.prune(old) if not summary.failed else 0
        place.kept += [
            str(place.root / name)
            for name in old
            if (place.root / name).exists() and not summary.failed
        ]
    for path, content in writer.close():
        if place.put(path, content) and path.name != "labels.txt":
            summary.outputs.append(place.root / path)
    if kind == "label-studio":  # whoever imports the folder takes all of its files
        removed += place.prune(
            [name for name in place.leftovers() if PurePosixPath(name).match("import-*.json")]
        )
    if removed:
        summary.remarks.append(
            f"removed {removed} files of an earlier conversion that are no part of this one, and"
            " that nobody changed"
        )
    left = (
        place.leftovers() if kind != "yolo" else []
    )  # where splits may have been written one after the other
    if left:
        summary.remarks.append(
            f"{len(left)} files of an earlier conversion are still there and no part of this one,"
            f" such as {left[0]}"
        )
    for name, again in repeated(place.root, kind, left, stems.taken):
        told = (
            f"lists {len(again)} images of this conversion too, such as {again[0]}, since an"
            " earlier one divided otherwise"
        )
        summary.failed.append(
            (
                str(place.root / name),
                f"{place.root / name}: {told}; remove it, or choose another OUT",
            )
        )
