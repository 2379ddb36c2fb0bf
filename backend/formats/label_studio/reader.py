"""Label Studio exports and task files as samples: one annotation or prediction of every task."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from backend.core.types import Mask
from backend.errors import ConfigError, InputError, json_kind
from backend.files.addresses import name_in, path_of
from backend.files.images import SUFFIXES
from backend.files.names import safe_name
from backend.files.picture_data import header_of
from backend.files.text import open_utf8
from backend.formats.base import ReadRequest
from backend.formats.coco import parts
from backend.formats.json_stream import read_tasks
from backend.formats.label_studio.people import all_names, person
from backend.formats.label_studio.region_masks import masks_of
from backend.formats.label_studio.regions import StoredRegion, read_regions
from backend.formats.label_studio.tasks import find_address, page_tags
from backend.formats.options import ANNOTATIONS, BEST, PREDICTIONS, What
from backend.formats.sample import (
    EXTRA,
    OTHER_REGIONS,
    DatasetInstance,
    Fault,
    Part,
    Sample,
    check_something_left,
    extras_of,
    object_value,
    with_holes,
)

_IMPORT = re.compile(r"import(-\d+)?\.json")
_NO_REGIONS = (
    "choices",
    "textarea",
    "rating",
    "relation",
    "taxonomy",
    "number",
)  # types of a result
DATA = "label_studio_data"  # key of notes for what a task holds beside its picture


def export_files(source: Path) -> list[Path]:
    """The task files of a folder that ``annotate`` or ``convert`` wrote, or the file itself."""
    if source.is_file():
        return [source]
    for folder in (source, source / "label-studio"):
        if found := sorted(
            path
            for path in folder.glob("import*.json")
            if _IMPORT.fullmatch(path.name) and path.is_file()
        ):
            return found
    files = sorted(path for path in source.glob("*") if path.is_file() and path.name[0] != ".")
    ones = [path for path in files if path.suffix.lower() in ("", ".json")]
    return ones if ones and all(map(is_one_task, ones)) else []


def is_one_task(path: Path) -> bool:
    """True if the beginning of a file looks like a single task, or an annotation with its task."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            head = stream.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    kinds = (b'"annotations"', b'"predictions"', b'"completions"', b'"result"')
    return (
        head.startswith(b"{")
        and b'"data"' in head
        and any(kind in head for kind in kinds)
        and b'"shapes"' not in head
        and b'"images"' not in head
    )


class LabelStudioReader:
    """Tasks of exports, snapshots, or files for import.

    Args:
        request: its source is a JSON file, or a folder with ``import*.json``.

    Raises:
        ConfigError: no such file.
    """

    def __init__(self, request: ReadRequest) -> None:
        source = request.source
        self._source = source
        self._source_folder = source if source.is_dir() else source.parent
        self._files = export_files(source)
        self._pictures = request.pictures
        self._what = request.options.what or What(ANNOTATIONS)
        self._prefix = request.options.url_prefix
        self._encoding = request.options.encoding
        if not self._files:
            raise ConfigError(f"{source}: no import.json there; name the export itself")
        self.total: int | None = None
        self.remarks: list[str] = []
        self._n_several = self._n_unlabelled = self._n_predicted = 0
        self._versions: set[str] = set()  # of all predictions
        self._people: set[str] = set()  # of all annotations, where some are chosen

    def samples(self) -> Iterator[Sample | Fault]:
        """Every picture of every task, or what is wrong with the task."""
        for path in self._files:
            try:
                if path != self._source:
                    self._pictures.check(path)
                with open_utf8(path, self._encoding) as stream:
                    for place, task in enumerate(read_tasks(stream, path)):
                        yield from self._task(task, path, place)
            except (InputError, ConfigError) as error:
                yield Fault(str(path), str(error))
        if self._n_several:
            self.remarks.append(
                f"{self._n_several} tasks have several {self._what.kind}: the ground truth is"
                " taken, else the newest"
            )
        if self._n_unlabelled:
            wanted = self._what.kind
            if self._what.model_version is not None:
                wanted = f"predictions of {self._what.model_version}"
            elif self._what.annotators:
                wanted = f"annotations of {', '.join(sorted(self._what.annotators))}"
            known = sorted(self._versions | self._people)
            told = f"; there are {', '.join(known[:10])}" if known else ""
            if self._n_predicted and self._what.kind == ANNOTATIONS:
                told = (
                    f"; {self._n_predicted} of them have predictions: --what predictions takes"
                    " those, --what best where nobody annotated"
                )
            self.remarks.append(f"{self._n_unlabelled} tasks without {wanted} left out{told}")

    def _task(self, task: Any, path: Path, place: int) -> Iterator[Sample | Fault]:
        number = task.get("id") if isinstance(task, dict) else None
        where = f"{path}: task {number}" if isinstance(number, int) else f"{path}: item {place}"
        try:
            if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
                told = (
                    "; this is JSON_MIN: export as JSON"
                    if isinstance(task, dict) and {"annotator", "annotation_id"} & set(task)
                    else ""
                )
                raise InputError(f"{where}: expected a task with data, got {json_kind(task)}{told}")
            chosen = self._choose(task, where)
            if chosen is None:
                self._n_unlabelled += 1
                return
            yield from self._samples(task, *chosen, where)
        except Exception as error:
            yield Fault.of(where, error)

    def _choose(
        self, task: Mapping[str, Any], where: str
    ) -> tuple[str, str, Mapping[str, Any]] | None:
        """The annotation or prediction that is wanted: of which kind, how to call it, and itself.

        None where there is none.
        """
        for key in [ANNOTATIONS, PREDICTIONS] if self._what.kind == BEST else [self._what.kind]:
            found = task.get(key, task.get("completions") if key == ANNOTATIONS else None)
            if found is None and (ANNOTATIONS in task or PREDICTIONS in task):
                continue
            if not isinstance(found, list):
                raise InputError(
                    f"{where}: {key}: expected a list, got {json_kind(found)}; export as JSON, not"
                    " as JSON_MIN or another format"
                )
            if any(isinstance(one, int) for one in found):
                raise InputError(
                    f"{where}: {key}: holds only their ids; export a snapshot with full predictions"
                    " (see yolosam2 score --help)"
                )
            lists = [
                (f"{key}[{k}]", one)
                for k, one in enumerate(found)
                if isinstance(one, dict) and not one.get("was_cancelled")
            ]
            if key == ANNOTATIONS and self._what.annotators:
                self._people.update(person(one) for _, one in lists)
                lists = [
                    (at, one)
                    for at, one in lists
                    if not self._what.annotators.isdisjoint(all_names(one))
                ]
            if self._what.model_version is not None:
                self._versions.update(str(one.get("model_version")) for _, one in lists)
                lists = [
                    (at, one)
                    for at, one in lists
                    if one.get("model_version") == self._what.model_version
                ]
            if lists:
                self._n_several += len(lists) > 1
                at, one = max(enumerate(lists), key=_rank)[1]
                return key, at, one
        self._n_predicted += bool(task.get(PREDICTIONS))
        return None

    def _samples(
        self, task: Mapping[str, Any], kind: str, at: str, chosen: Mapping[str, Any], where: str
    ) -> Iterator[Sample]:
        result = chosen.get("result")
        at = f"{where}: {at}"
        read = read_regions(result, f"{at}.result")
        data = task["data"]
        images = list(dict.fromkeys(region.to_name for region in read.regions)) or [""]
        pages = page_tags(data, images[0])
        images = [*pages, *(image for image in images if image not in pages)]
        left_out = Counter({OTHER_REGIONS: read.n_others} if read.n_others else {})
        if n_others := sum(
            isinstance(one, dict) and one.get("type") in _NO_REGIONS for one in result or ()
        ):
            left_out["choices, texts and relations"] = n_others
        if n_odd := sum(region.odd_score for region in read.regions):
            left_out["scores that are not from 0 to 1"] = n_odd
        faults = list(read.faults)
        for image in images:
            own = [region for region in read.regions if region.to_name == image]
            key, address = find_address(data, image, where)
            name, picture = self._picture(address, task, where)
            actual = None if picture is None else header_of(picture, where).size_hw
            own, size_hw = of_one_size(own, actual, at, faults)
            made = [
                (one, extras_of(region.meta).get(parts.DRAWN))
                for order, (region, mask) in enumerate(masks_of(own, faults))
                if (one := _instance(region, mask, order, left_out)) is not None
            ]
            check_something_left(made, faults)
            instances = with_holes(parts.restore(made, size_hw))
            version = str(chosen.get("model_version") or "unknown") if kind == PREDICTIONS else None
            columns = {name: value for name, value in data.items() if name not in (key, EXTRA)}
            notes = {**extras_of(data), **({DATA: columns} if columns and len(images) == 1 else {})}
            url = address if not address.startswith("data:") else None
            yield Sample(
                name=name,
                where=where,
                size_hw=size_hw,
                instances=instances,
                picture=picture,
                url=url,
                model_version=version,
                split=None,
                notes=notes,
                left_out=left_out,
                faults=tuple(faults),
            )
            left_out = Counter()
            faults = []

    def _picture(
        self, address: str, task: Mapping[str, Any], where: str
    ) -> tuple[PurePosixPath, Path | bytes | None]:
        """What the picture of a task is called, and where it is."""
        if address.startswith("data:"):
            head, _, body = address.partition(",")
            try:
                picture = base64.b64decode(body, validate=True)
            except (ValueError, binascii.Error) as error:
                raise InputError(f"{where}: data: {head[:40]}: {error}") from None
            return (
                PurePosixPath(
                    f"task_{task.get('id', 'x')}.{header_of(picture, where).format.lower()}"
                ),
                picture,
            )
        own = bool(self._prefix) and address.startswith(self._prefix)
        bare = address[len(self._prefix) :] if own else address
        path = path_of(bare)
        name = safe_name(path.lstrip("/") if own else name_in(address), f"{where}: data")
        beside = self._pictures.beside(self._source_folder, str(name))
        picture_file = self._pictures.find(beside, path)
        if name.suffix.lower() not in SUFFIXES:
            name = name.with_name(
                name.name + (picture_file.suffix if picture_file is not None else ".jpg")
            )
        return name, picture_file


def _rank(pair: tuple[int, tuple[str, Mapping[str, Any]]]) -> tuple[bool, str, int]:
    """Ground truth over others, newer over older, later over earlier."""
    place, (_, one) = pair
    return (
        bool(one.get("ground_truth")),
        str(one.get("updated_at") or one.get("created_at") or ""),
        place,
    )


def of_one_size(
    regions: Sequence[StoredRegion],
    actual: tuple[int, int] | None,
    where: str,
    faults: list[str],
) -> tuple[list[StoredRegion], tuple[int, int] | None]:
    """The regions of an image that are of its size, and that size.

    Args:
        regions: of the image; those without a size get it.
        actual: size of the picture; None takes the one that most regions tell.
        where: for messages.
        faults: takes a sentence for each region of another size.

    Raises:
        InputError: there is no telling which size is right, or no region is of the picture's.
    """
    sizes = Counter(one.declared_hw for one in regions if one.declared_hw is not None)
    most = sizes.most_common()
    shown = " and ".join(f"{w}x{h}" for h, w in sorted(sizes))
    if actual is not None and sizes and actual not in sizes:
        raise InputError(
            f"{where}: regions are of {shown}, but its picture is {actual[1]}x{actual[0]}"
        )
    if actual is None and len(most) > 1 and most[0][1] == most[1][1]:
        raise InputError(f"{where}: regions of several image sizes: {shown}")
    size_hw = actual or (most[0][0] if most else None)
    kept = []
    for one in regions:
        if one.declared_hw in (None, size_hw):
            kept.append(replace(one, declared_hw=size_hw))
        else:
            height, width = one.size_hw
            faults.append(f"{one.where}: is of an image of {width}x{height}, the others of {shown}")
    return kept, size_hw


def _instance(
    region: StoredRegion, mask: Mask | None, order: int, left_out: Counter[str]
) -> DatasetInstance | None:
    if mask is None:
        left_out["regions that cover no pixel"] += 1
        return None
    return instance_of(region, mask, order)


def instance_of(region: StoredRegion, mask: Mask, order: int) -> DatasetInstance:
    """A region as an instance.

    Args:
        region: as Label Studio stores it.
        mask: its pixels.
        order: among the regions of its image.
    """
    extra = dict(extras_of(region.meta))
    crowd = extra.pop("iscrowd", 0)
    number = extra.pop("voc_object", None)
    extra.pop(parts.DRAWN, None)
    texts = region.meta.get("text")
    if isinstance(texts, list | str) and texts:
        extra["description"] = texts if isinstance(texts, str) else "\n".join(map(str, texts))
    others = {key: value for key, value in region.meta.items() if key not in (EXTRA, "text")}
    if others:
        extra["label_studio_meta"] = others
    return DatasetInstance(
        label=region.label,
        parts=(Part(mask, order),),
        score=region.score,
        crowd=crowd in (1, True),
        number=object_value(number),
        notes=extra,
        key=region.id,
        is_box=region.kind == "rectangle",
    )
