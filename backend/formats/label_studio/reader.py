"""Label Studio exports and task files as samples: one annotation or prediction of every task."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from backend.core.types import Mask
from backend.errors import ConfigError, InputError, json_kind
from backend.files.images import SUFFIXES
from backend.files.names import safe_name
from backend.files.pictures import header_of, uploaded_name
from backend.formats.base import ReadRequest
from backend.formats.coco import parts
from backend.formats.json_stream import read_tasks
from backend.formats.label_studio.regions import StoredRegion, read_regions, region_mask
from backend.formats.label_studio.tasks import looks_like_address, path_of
from backend.formats.options import ANNOTATIONS, BEST, PREDICTIONS, What
from backend.formats.sample import (
    EXTRA,
    DatasetInstance,
    Fault,
    Part,
    Sample,
    extras_of,
    object_value,
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
    return []


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
        self._files = export_files(source)
        self._pictures = request.pictures
        self._what = request.options.what or What(ANNOTATIONS)
        self._prefix = request.options.url_prefix
        if not self._files:
            raise ConfigError(f"{source}: no import.json there; name the export itself")
        self.total: int | None = None
        self.remarks: list[str] = []
        self._n_several = self._n_unlabelled = self._n_predicted = 0
        self._versions: set[str] = set()  # of all predictions

    def samples(self) -> Iterator[Sample | Fault]:
        """Every picture of every task, or what is wrong with the task."""
        for path in self._files:
            try:
                if path != self._source:
                    self._pictures.check(path)
                with path.open("rb") as stream:
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
            wanted = (
                self._what.kind
                if self._what.model_version is None
                else f"predictions of {self._what.model_version}"
            )
            told = f"; there are {', '.join(sorted(self._versions)[:10])}" if self._versions else ""
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
        regions, others = read_regions(result, f"{where}: {at}.result")
        data = task["data"]
        images = list(dict.fromkeys(region.to_name for region in regions)) or [""]
        left_out = Counter(
            {"key points, lines and other regions without an area": others} if others else {}
        )
        if n_others := sum(
            isinstance(one, dict) and one.get("type") in _NO_REGIONS for one in result or ()
        ):
            left_out["choices, texts and relations"] = n_others
        for image in images:
            own = [region for region in regions if region.to_name == image]
            sizes = {region.size_hw for region in own}
            if len(sizes) > 1:
                raise InputError(
                    f"{where}: {at}: regions of several image sizes:"
                    f" {' and '.join(f'{w}x{h}' for h, w in sorted(sizes))}"
                )
            key, address = _address(data, image, where)
            name, picture = self._picture(address, task, where)
            size_hw = next(iter(sizes), None)
            if picture is not None:
                actual = header_of(picture, where).size_hw
                if size_hw is not None and actual != size_hw:
                    raise InputError(
                        f"{where}: {at}: regions are of {size_hw[1]}x{size_hw[0]}, but its picture"
                        f" is {actual[1]}x{actual[0]}"
                    )
                size_hw = actual
            made = [
                (_instance(region, order, left_out), extras_of(region.meta).get(parts.DRAWN))
                for order, region in enumerate(own)
            ]
            instances = parts.restore(
                [(one, kept) for one, kept in made if one is not None], size_hw
            )
            version = str(chosen.get("model_version") or "unknown") if kind == PREDICTIONS else None
            columns = {name: value for name, value in data.items() if name not in (key, EXTRA)}
            notes = {**extras_of(data), **({DATA: columns} if columns and len(images) == 1 else {})}
            url = address if isinstance(address, str) and not address.startswith("data:") else None
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
            )
            left_out = Counter()

    def _picture(
        self, address: Any, task: Mapping[str, Any], where: str
    ) -> tuple[PurePosixPath, Path | bytes | None]:
        """What the picture of a task is called, and where it is."""
        if not isinstance(address, str) or not address:
            raise InputError(f"{where}: data: no address of a picture in it")
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
        path = path_of(
            address[len(self._prefix) :]
            if self._prefix and address.startswith(self._prefix)
            else address
        )
        is_path = "?d=" in address or bool(self._prefix and address.startswith(self._prefix))
        picture_file = self._pictures.find(None, path)
        last = PurePosixPath(path).name
        name = safe_name(
            path.lstrip("/") if is_path else uploaded_name(last) if "/upload/" in path else last,
            f"{where}: data",
        )
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


def _address(data: Mapping[str, Any], image: str, where: str) -> tuple[str, Any]:
    """The key and the address of the picture that a tag shows, by the tag's name, or as the only
    one there is.

    Raises:
        InputError: the task has several, and none goes by that name.
    """
    tag, sign, place = image.rpartition("#")
    found = data.get(tag if sign else image)
    if sign and isinstance(found, list) and place.isdigit() and int(place) < len(found):
        return tag, found[int(place)]
    if isinstance(found, list) and found and not sign:
        return image, found[0]
    addresses = [
        key for key, text in data.items() if isinstance(text, str) and looks_like_address(text)
    ]
    if isinstance(found, str) and (
        looks_like_address(found) or not addresses
    ):  # a relative path will do, a caption by the tag's name not
        return image, found
    if len(addresses) == 1:
        return addresses[0], data[addresses[0]]
    if not addresses:
        raise InputError(f"{where}: data: no address of a picture in it")
    if not image and "image" in addresses:
        return "image", data["image"]
    told = (
        f"has several pictures, {', '.join(addresses)[:80]}, and none by the name of the tag"
        f" {image!r}"
    )
    raise InputError(f"{where}: data: {told}; give the tag the name of its picture")


def _instance(region: StoredRegion, order: int, left_out: Counter[str]) -> DatasetInstance | None:
    mask = region_mask(region)
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
