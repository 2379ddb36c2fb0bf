"""Label Studio exports and task files as samples: one annotation or prediction of every task."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backend.datasets.model import EXTRA, DatasetInstance, Fault, Part, Sample, extras_of, object_value, safe_name
from backend.datasets.pictures import Pictures, header_of
from backend.errors import ConfigError, InputError, json_kind
from backend.formats.export_file import read_tasks
from backend.formats.regions import StoredRegion, read_regions, region_mask
from backend.formats.tasks import address_of, path_of, uploaded_name
from backend.images import SUFFIXES

_NO_REGIONS = ("choices", "textarea", "rating", "relation", "taxonomy", "number")  # types of a result
ANNOTATIONS, PREDICTIONS = "annotations", "predictions"


@dataclass(frozen=True)
class What:
    """What of a task is wanted: ``annotations``, ``predictions``, or the predictions of one ``model_version``."""

    kind: str
    model_version: str | None = None


def parse_what(text: str) -> What:
    """``annotations``, ``predictions`` or ``model_version=V``.

    Raises:
        ConfigError: anything else.
    """
    key, sign, version = text.partition("=")
    if key == "model_version" and version:
        return What(PREDICTIONS, version)
    if text not in (ANNOTATIONS, PREDICTIONS) or sign:
        raise ConfigError(f"--what: expected annotations, predictions or model_version=..., got {text[:60]!r}")
    return What(text)


def export_files(source: Path) -> list[Path]:
    """The task files of a folder that ``annotate`` or ``convert`` wrote, or the file itself."""
    if source.is_file():
        return [source]
    for folder in (source, source / "label-studio"):
        if found := sorted(folder.glob("import*.json")):
            return found
    return []


class LabelStudioReader:
    """Tasks of exports, snapshots, or files for import.

    Args:
        source: a JSON file, or a folder with ``import*.json``.
        pictures: where pictures may be.
        what: of a task.
        url_prefix: what task addresses begin with that is no part of a picture's name.

    Raises:
        ConfigError: no such file.
    """

    def __init__(self, source: Path, pictures: Pictures, what: What, url_prefix: str = "") -> None:
        self._files, self._pictures, self._what, self._prefix = export_files(source), pictures, what, url_prefix
        if not self._files:
            raise ConfigError(f"{source}: no import.json there; name the export itself")
        self.total: int | None = None
        self.remarks: list[str] = []
        self._n_several = self._n_unlabelled = 0

    def samples(self) -> Iterator[Sample | Fault]:
        """Every picture of every task, or what is wrong with the task."""
        for path in self._files:
            try:
                with path.open("rb") as stream:
                    for place, task in enumerate(read_tasks(stream, path)):
                        yield from self._task(task, path, place)
            except InputError as error:
                yield Fault(str(path), str(error))
        if self._n_several:
            self.remarks.append(f"{self._n_several} tasks have several {self._what.kind}: the ground truth is taken, else the newest")
        if self._n_unlabelled:
            self.remarks.append(f"{self._n_unlabelled} tasks without {self._what.kind} left out")

    def _task(self, task: Any, path: Path, place: int) -> Iterator[Sample | Fault]:
        number = task.get("id") if isinstance(task, dict) else None
        where = f"{path}: task {number}" if isinstance(number, int) else f"{path}: item {place}"
        try:
            if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
                raise InputError(f"{where}: expected a task with data, got {json_kind(task)}")
            chosen = self._choose(task, where)
            if chosen is None:
                self._n_unlabelled += 1
                return
            yield from self._samples(task, *chosen, where)
        except Exception as error:
            yield Fault.of(where, error)

    def _choose(self, task: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]] | None:
        """The annotation or prediction that is wanted, and how to call it; None where there is none."""
        key = self._what.kind
        found = task.get(key, task.get("completions") if key == ANNOTATIONS else None)
        if found is None and (ANNOTATIONS in task or PREDICTIONS in task):
            return None
        if not isinstance(found, list):
            raise InputError(f"{where}: {key}: expected a list, got {json_kind(found)}; export as JSON, not as JSON_MIN or another format")
        if any(isinstance(one, int) for one in found):
            raise InputError(f"{where}: {key}: holds only their ids; export a snapshot with full predictions (see yolosam2 score --help)")
        lists = [(f"{key}[{k}]", one) for k, one in enumerate(found) if isinstance(one, dict) and not one.get("was_cancelled")]
        if self._what.model_version is not None:
            lists = [(at, one) for at, one in lists if one.get("model_version") == self._what.model_version]
        if not lists:
            return None
        self._n_several += len(lists) > 1
        return max(
            enumerate(lists),
            key=lambda pair: (bool(pair[1][1].get("ground_truth")), str(pair[1][1].get("updated_at") or pair[1][1].get("created_at") or ""), pair[0]),
        )[1]

    def _samples(self, task: Mapping[str, Any], at: str, chosen: Mapping[str, Any], where: str) -> Iterator[Sample]:
        result = chosen.get("result")
        regions, others = read_regions(result, f"{where}: {at}.result")
        data = task["data"]
        images = list(dict.fromkeys(region.to_name for region in regions)) or [""]
        left_out = Counter({"key points, lines and other regions without an area": others} if others else {})
        if n_others := sum(isinstance(one, dict) and one.get("type") in _NO_REGIONS for one in result or ()):
            left_out["choices, texts and relations"] = n_others
        for image in images:
            own = [region for region in regions if region.to_name == image]
            sizes = {region.size_hw for region in own}
            if len(sizes) > 1:
                raise InputError(f"{where}: {at}: regions of several image sizes: {' and '.join(f'{w}x{h}' for h, w in sorted(sizes))}")
            address = address_of(data, image) if len(images) == 1 else data.get(image)
            name, picture = self._picture(address, task, where)
            size_hw = next(iter(sizes), None)
            if picture is not None:
                actual = header_of(picture, where).size_hw
                if size_hw is not None and actual != size_hw:
                    raise InputError(f"{where}: {at}: regions are of {size_hw[1]}x{size_hw[0]}, but its picture is {actual[1]}x{actual[0]}")
                size_hw = actual
            instances = [one for order, region in enumerate(own) if (one := _instance(region, order, left_out)) is not None]
            version = str(chosen.get("model_version") or "unknown") if self._what.kind == PREDICTIONS else None
            notes = extras_of(data)
            url = address if isinstance(address, str) and not address.startswith("data:") else None
            yield Sample(name, where, size_hw, tuple(instances), picture, url, version, None, notes, left_out)
            left_out = Counter()

    def _picture(self, address: Any, task: Mapping[str, Any], where: str) -> tuple[PurePosixPath, Path | bytes | None]:
        """What the picture of a task is called, and where it is."""
        if not isinstance(address, str) or not address:
            raise InputError(f"{where}: data: no address of a picture in it")
        if address.startswith("data:"):
            head, _, body = address.partition(",")
            try:
                picture = base64.b64decode(body, validate=True)
            except (ValueError, binascii.Error) as error:
                raise InputError(f"{where}: data: {head[:40]}: {error}") from None
            return PurePosixPath(f"task_{task.get('id', 'x')}.{header_of(picture, where).format.lower()}"), picture
        path = path_of(address[len(self._prefix) :] if self._prefix and address.startswith(self._prefix) else address)
        is_path = "?d=" in address or bool(self._prefix and address.startswith(self._prefix))
        picture_file = self._pictures.find(None, path)
        last = PurePosixPath(path).name
        name = safe_name(path.lstrip("/") if is_path else uploaded_name(last) if "/upload/" in path else last, f"{where}: data")
        if name.suffix.lower() not in SUFFIXES:
            name = name.with_name(name.name + (picture_file.suffix if picture_file is not None else ".jpg"))
        return name, picture_file


def _instance(region: StoredRegion, order: int, left_out: Counter[str]) -> DatasetInstance | None:
    mask = region_mask(region)
    if mask is None:
        left_out["regions that cover no pixel"] += 1
        return None
    extra = dict(extras_of(region.meta))
    crowd, number = extra.pop("iscrowd", 0), extra.pop("voc_object", None)
    texts = region.meta.get("text")
    if isinstance(texts, list | str) and texts:
        extra["description"] = texts if isinstance(texts, str) else "\n".join(map(str, texts))
    if others := {key: value for key, value in region.meta.items() if key not in (EXTRA, "text")}:
        extra["label_studio_meta"] = others
    return DatasetInstance(region.label, (Part(mask, order),), region.score, crowd in (1, True), object_value(number), extra)
