"""Runs an older commit and this tree on the same inputs, and compares all they write byte by byte.

Run by hand after a change that must not change anything for users:

    python tests/support/compare_versions.py [--old COMMIT] [--data DIR] [--only NAME,..]

The older commit is checked out into a temporary folder and removed at the end. Both trees run in
turn in a folder of the same path, with this Python and a clean environment, so that neither paths
nor settings of this machine tell them apart. Compared are the files that the commands write, what
they print, their exit codes, and the answers of the server. A run may read what an earlier run of
the same tree wrote.

The exit code is 1 if anything differs that is not in ``ACCEPTED``, or if a command of the older
commit ended otherwise than planned, so that a run that fails on both sides does not pass.
"""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

ROOT = Path(__file__).resolve().parent.parent.parent
OLD = "b33a6e9"

# What may differ: a pattern of "run/file: kind", and why. The kinds are those of ``_difference``.
ACCEPTED: dict[str, str] = {
    "*/label-studio/import.json: JSON, same values written otherwise": (
        'the blank after "image": is gone, as one writer of compact JSON writes tasks too'
    ),
    "*/label-studio/tasks/*.json: JSON, same values written otherwise": (
        "what import.json is made of, without that blank as well"
    ),
    "serve*/*.json: JSON, same values in another order": (
        "one function makes all predictions: model_version, score, result"
    ),
    "prelabel/predictions.json: JSON, same values in another order": (
        "one function makes all predictions: task, model_version, score, result"
    ),
    "help/*.stdout: text": (
        "made of the declarations of the settings, so that all commands say the same of an option,"
        " and laid out in 100 columns"
    ),
    "*/.yolosam2.*.lock: only in the new": "locks are files of filelock",
    "*/.yolosam2-*: bytes": "the manifest of what was written is a SQLite file",
    "*/.yolosam2-*: only in the new": "import.json of annotate is remembered as that of convert is",
    "prelabel/journal: bytes": "the journal is a SQLite file",
    "prelabel/journal.lock: only in the new": "locks are files of filelock",
    "convert-predictions/import.json: JSON, same values in another order": (
        "one function makes all regions: the score comes before the value"
    ),
    "detect/*deep-coco*": (
        "COCO two folders deep is told as COCO without its list, no longer as a damaged labelme"
        " file; neither version reads it"
    ),
    "mistakes/*_--to_png.stderr: text": (
        "which formats there are is only known when the command runs, as others may add some"
    ),
    "mistakes/*_--from_png.stderr: text": (
        "which formats there are is only known when the command runs, as others may add some"
    ),
}

# What is not compared: a pattern of "run/file", one of text in it, what takes its place, and why.
NORMALISED: tuple[tuple[str, str, str, str], ...] = (
    ("demo/*.stdout", r"in \d+\.\d s", "in TIME s", "how long the demo took"),
    ("*.html", r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE TIME", "when a report was made"),
    ("prelabel/report.json", r'("seconds": )[\d.]+', r"\1TIME", "how long pre-labelling took"),
    (
        "prelabel/journal",
        r'(?m)^[0-9a-f]{8} |(?<="run":)\d+|(?<="at":)[\d.]+',
        "X",
        "process, times, and check sums of lines with these",
    ),
    ("watch/*", r"\d\d:\d\d:\d\d", "TIME", "when a picture was labelled"),
    ("prelabel/*", r"127\.0\.0\.1[:-]\d+", "ADDRESS", "the port of the stand-in for Label Studio"),
    ("serve*/click*.json", r'("id":)"[0-9a-f]{10}"', r'\1"ID"', "ids of clicks are random"),
    ("serve*/*.json", r'("id": )"[0-9a-f]{8}"', r'\1"ID"', "ids of requests are random"),
    ("serve*/*.stderr", r"\bid=[0-9a-f]{8}", "id=ID", "ids of requests are random"),
    ("serve*/*.stderr", r"\d+ ms id", "TIME ms id", "how long a request took"),
    ("serve*/*.stderr", r"(?m)^INFO .*GET /readyz .*\n", "", "how often readiness was asked"),
    ("mistakes/*.stderr", r"(?s)^usage: .*?\n(?=yolosam2)", "", "usage; --help is compared"),
    ("*.stderr", r"(?m)^([A-Z]+) backend[\w.]*:", r"\1 backend:", "loggers, named after modules"),
)

MODELS = "--detector demo --segmenter demo --device cpu"
FORMATS = ("labelme", "label-studio", "voc", "coco", "yolo", "overlay")
COMMANDS = (
    "demo",
    "annotate",
    "visualize",
    "serve",
    "doctor",
    "make-config",
    "prelabel",
    "evaluate",
    "score",
    "convert",
    "labelme",
    "models",
    "bench",
)
SHARED = {"in/photographs": "labelme-voc", "in/camvid": "camvid-voc", "in/cases": "../cases"}
KEPT_ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
COMMAND_S = 900
BOOT_S = 180


@dataclass(frozen=True)
class Side:
    """One of the two trees.

    Attributes:
        name: old or new.
        tree: where its code lies.
        place: the folder in which it runs; has ``in``, ``out`` with a folder for each run, and
            ``told`` with what each run printed.
        port: of its server.
    """

    name: str
    tree: Path
    place: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What its programs see: nothing that is a setting."""
        kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        return {**kept, "PYTHONPATH": str(self.tree), "COLUMNS": "100"}

    def python(self, *arguments: str) -> list[str]:
        """A command line of this Python."""
        return [sys.executable, *arguments]


@dataclass(frozen=True)
class Run:
    """Some commands of ``yolosam2`` whose results are compared together.

    Attributes:
        name: also of the folder in ``out``.
        commands: as typed after ``yolosam2``, in order; variables may stand in front.
        code: what they end with; None for anything.
        needs: runs whose results it reads, beside those that stand in its commands as ``out/NAME``.
        prepare: makes its inputs.
        act: does more than commands can.
    """

    name: str
    commands: tuple[str, ...] = ()
    code: int | None = 0
    needs: tuple[str, ...] = ()
    prepare: Callable[[Side], None] | None = None
    act: Callable[[Side, Path], None] | None = None

    def all_needs(self) -> set[str]:
        """The names of the runs that must come before."""
        read = re.findall(r"\bout/([\w-]+)", " ".join(self.commands))
        return {*self.needs, *read} - {self.name}

    def inputs(self) -> set[str]:
        """The folders of shared data that it reads."""
        return {folder for folder in SHARED if folder in " ".join(self.commands)}


# The runs.


def all_runs(cases: Path) -> list[Run]:
    """Everything that is compared, in an order in which it can be run."""
    return [
        Run("demo", ("demo --out out/demo --no-progress",)),
        *_annotate_runs(),
        *_convert_runs(),
        *_judging_runs(),
        *_small_runs(),
        Run("mistakes", MISTAKES, code=None),
        Run("cases", tuple(_case_commands(cases)), code=None),
        Run("serve", needs=("make-config",), act=_serve),
        Run("serve-unset", needs=("make-config",), act=_serve_unset),
        Run("prelabel", needs=("make-config",), act=_prelabel),
        Run("watch", act=_watch),
    ]


def _annotate(name: str, source: str, more: str, code: int = 0) -> Run:
    command = f"annotate {source} --out out/{name} {more} --device cpu --no-progress"
    return Run(name, (command,), code)


def _annotate_runs() -> Iterator[Run]:
    samples = "in/samples/JPEGImages"
    models = "--detector demo --segmenter demo"
    for kind in FORMATS:
        yield _annotate(f"annotate-{kind}", samples, f"--format {kind} {models}")
    yield _annotate("annotate-all", samples, f"--format {','.join(FORMATS)} --json {models}")
    yield _annotate("annotate-photographs", "in/photographs", f"{models} --conf 0.1")
    difficult = f"--format {','.join(FORMATS)} {models}"
    yield _annotate("annotate-difficult", "in/difficult", difficult, code=1)
    yield _annotate("annotate-undecodable", "in/undecodable", models)
    configured = "annotate in/samples/JPEGImages -c in/settings.yaml --no-progress"
    yield Run(
        "annotate-configured",
        (
            f"{configured} --out out/annotate-configured/a",
            f"MODEL_SCORE_THRESHOLD=0.7 BATCH_SIZE=2 {configured} --out out/annotate-configured/b",
            f"DEVICE=tpu {configured} --out out/annotate-configured/c --device cpu --conf 0.8",
        ),
    )
    tidy = "--box-margin 0.04 --min-part 0.02 --agnostic-nms --iou 0.5 --max-det 5 -b 3"
    yield _annotate("annotate-tidy", samples, f"{models} {tidy} --sam-batch 2 --classes ball,cup")
    for kind in ("labelme", "label-studio"):
        name = f"annotate-boxes-{kind}"
        yield _annotate(name, samples, f"--mode boxes --format {kind} --detector demo")
    prompts = "--prompts in/samples/prediction.json --segmenter demo"
    yield _annotate("annotate-prompts", "in/samples", f"--format labelme,voc {prompts}")
    again = f"annotate {samples} --out out/annotate-again --no-progress {MODELS}"
    yield Run(
        "annotate-again",
        (again, f"{again} --json", f"{again} --overwrite"),
        needs=("annotate-labelme",),
        prepare=_half_done,
    )
    draw = f"visualize in/samples --out out/visualize --no-progress {MODELS}"
    yield Run("visualize", (draw,))
    draw = f"visualize in/samples --out out/visualize-plain --plain --json --no-progress {MODELS}"
    yield Run("visualize-plain", (draw,))


def _convert(name: str, source: str, more: str, code: int | None = 0) -> Run:
    return Run(name, (f"convert {source} out/{name} {more} --no-progress",), code)


def _convert_runs() -> Iterator[Run]:
    samples = "--images in/samples/JPEGImages"
    photographs = "--images in/photographs"
    for kind in ("labelme", "label-studio", "coco", "yolo"):
        there = f"convert-samples-{kind}"
        yield _convert(there, "in/samples", f"--to {kind}")
        for back in ("labelme", "voc"):
            yield _convert(f"{there}-{back}", f"out/{there}", f"--to {back} {samples}")
    for kind in ("label-studio", "coco", "yolo", "voc"):
        there = f"convert-photographs-{kind}"
        yield _convert(there, "in/photographs", f"--to {kind}")
        yield _convert(f"{there}-labelme", f"out/{there}", f"--to labelme {photographs}")
    outlines = "--to labelme --shape polygon --simplify 1.5 --copy copy --json"
    yield _convert("convert-outlines", "out/annotate-labelme", f"{outlines} {samples}")
    yield _convert("convert-predictions", "out/annotate-labelme", f"--to label-studio {samples}")
    yield _convert("convert-models-yolo", "out/annotate-labelme", f"--to yolo {samples}")
    yield _convert("convert-strict", "out/annotate-labelme", f"--to voc --strict {samples}", code=1)
    lists = "--to coco --split train=0.7,val=0.3 --classes cup,leaf,ball,box,ring,star --json"
    yield _convert("convert-lists", "out/annotate-labelme", f"{lists} {samples}")
    again = f"convert in/samples out/convert-again --to yolo --split train=0.8,val=0.2 {samples}"
    lists = "convert in/samples out/convert-again --to coco --no-progress --json"
    yield Run("convert-again", (f"{again} --no-progress", f"{again} --no-progress", lists))
    best = f"convert in/export.json out/convert-export --to labelme --what best {samples}"
    coco = f"convert in/export.json out/convert-export/coco --to coco --json {samples}"
    yield Run(
        "convert-export",
        (f"{best} --no-progress", f"{coco} --no-progress"),
        code=1,
        needs=("annotate-label-studio",),
        prepare=_make_export,
    )
    images = "--images in/samples/JPEGImages --no-progress"
    yield Run(
        "detect",
        tuple(
            f"convert in/mixed/{name} out/detect/{name.replace('/', '-')} --to yolo {images}"
            for name in (*MIXED, *(f"{name}/{path}" for name in MIXED for path in MIXED[name]))
        ),
        code=None,
        needs=("annotate-labelme", "convert-samples-coco"),
        prepare=_make_mixed,
    )
    yield Run(
        "check",
        (
            "convert --check in/photographs --no-progress",
            "convert --check out/annotate-labelme --no-progress",
        ),
    )
    damaged = "convert --check in/damaged --no-progress"
    yield Run(
        "check-damaged",
        (
            damaged,
            f"{damaged} --json",
            "convert in/damaged out/check-damaged --to coco --no-progress",
        ),
        code=1,
        needs=("annotate-labelme",),
        prepare=_make_damaged,
    )


# Folders of JSON files whose format has to be found out, and what each file holds.
MIXED = {
    "coco-and-list": {"instances.json": "coco", "results.json": "list"},
    "labelme-and-list": {"a.json": "labelme", "results.json": "list"},
    "labelme-and-coco": {"a.json": "labelme", "instances.json": "coco"},
    "only-list": {"export.json": "list"},
    "only-tasks": {"import.json": "tasks"},
    "deep-coco": {"sub/deep/instances.json": "coco"},
    "deep-labelme": {"sub/deep/a.json": "labelme"},
    "deep-list": {"sub/deep/export.json": "list"},
    "object": {"other.json": "object"},
    "object-and-list": {"other.json": "object", "results.json": "list"},
    "empty": {"nothing.json": "nothing"},
    "number": {"number.json": "number"},
}


def _results(name: str) -> str:
    return f"--json out/{name}/scores.json --report out/{name}/report.html --no-progress"


def _judging_runs() -> Iterator[Run]:
    name = "evaluate-camvid"
    boxes = "--prompts in/camvid/prediction.json --segmenter demo --device cpu"
    yield Run(name, (f"evaluate in/camvid {boxes} {_results(name)}",))
    name = "evaluate-samples"
    yield Run(name, (f"evaluate in/samples {MODELS} {_results(name)}",))
    maps = "evaluate in/samples --predictions out/annotate-voc --no-progress"
    yield Run("evaluate-maps", (maps, f"{maps} --overlap last --resamples 0 --json -"))
    name = "score-export"
    export = "score in/export.json --no-progress"
    yield Run(
        name,
        (
            f"score in/export.json --images in/samples/JPEGImages {_results(name)}",
            f"{export} --suggest-thresholds --annotator anna@example.com --missing",
            f"{export} --ground-truth --overlap smallest --resamples 50 --json -",
            f"{export} --latest --include-cancelled --tag brush --rename cup=ball",
        ),
        code=None,
        needs=("annotate-label-studio",),
        prepare=_make_export,
    )
    name = "score-folders"
    folders = "score in/accepted --predictions out/annotate-labelme"
    yield Run(
        name,
        (f"{folders} --images in/samples/JPEGImages {_results(name)}",),
        needs=("annotate-labelme",),
        prepare=_make_accepted,
    )


def _small_runs() -> Iterator[Run]:
    yield Run("models", ("models --json", "models --model-root in", "MODEL_ROOT=in models"))
    yield Run(
        "make-config",
        (
            "make-config --classes a,b",
            "make-config --detector demo --device cpu",
            "make-config -c in/settings.yaml",
            "make-config -c in/settings.json",
            "DETECTOR=demo DEVICE=cpu make-config",
        ),
    )
    yield Run("doctor", (f"doctor --json {MODELS}", f"doctor {MODELS}"))
    yield Run("help", ("--help", *(f"{name} --help" for name in COMMANDS)))


MISTAKES = (
    "",
    "nonsense",
    "--detector demo annotate in/samples",
    "annotate in/samples",
    "annotate in/nowhere --out out/mistakes",
    "annotate in/samples --out out/mistakes --format voc,png",
    "annotate in/samples --out out/mistakes --conf 2 --iou x --batch 0 --device tpu --max-det 1.5",
    "annotate in/samples --out out/mistakes --conf",
    "annotate in/samples --out out/mistakes --con 0.3",
    "annotate in/samples --out out/mistakes --detectr demo",
    "annotate in/samples --out out/mistakes -conf 3",
    "annotate in/samples --out out/mistakes --detector nowhere.pt",
    "annotate in/samples --out out/mistakes --detector demo --segmenter nowhere.pt",
    "annotate in/samples --out out/mistakes --prompts in/samples/class_names.txt",
    "annotate in/samples --out out/mistakes --prompts in/nowhere.json",
    "annotate in/samples --out out/mistakes --split nowhere --detector demo",
    "annotate --watch in/samples --format voc",
    "annotate --watch in/samples --prompts in/samples/prediction.json",
    f"visualize in/samples --out out/mistakes --rename ball {MODELS}",
    "visualize in/samples",
    "convert in/samples",
    "convert in/samples out/mistakes --to png",
    "convert in/samples out/mistakes --to coco --from png",
    "convert in/samples out/mistakes --to coco --from labelme --no-progress",
    "convert in out/mistakes --to coco --no-progress",
    "convert in/samples out/mistakes --to coco --shape polygon",
    "convert in/samples out/mistakes --to coco --simplify 1",
    "convert in/samples out/mistakes --to yolo --simplify -1",
    "convert in/samples out/mistakes --to labelme --split train=0.8,val=0.2",
    "convert in/samples out/mistakes --to coco --split train=x",
    "convert in/samples out/mistakes --to label-studio --what nonsense",
    "convert in/samples out/mistakes --to coco --classes in/nowhere.txt",
    "convert in/samples out/mistakes --to coco --images in/nowhere",
    "convert in/samples in/samples --to voc",
    "convert --check in/nowhere",
    "convert --check in/samples --to coco",
    f"evaluate in/nowhere {MODELS}",
    f"evaluate in/samples/JPEGImages {MODELS}",
    f"evaluate in/samples --rename ball=nothing {MODELS}",
    "evaluate in/samples --predictions in/samples --detector demo",
    "evaluate in/samples --predictions in/nowhere",
    "evaluate in/samples --predictions in/samples --resamples -1",
    "evaluate in/samples --predictions in/samples --json in/samples",
    "score in/nowhere.json",
    "score in/samples",
    "score in/samples/prediction.json --no-progress",
    "score in/samples/prediction.json --url ftp://nowhere --api-key x",
    "serve --host 0.0.0.0",
    "serve --url nowhere",
    "serve --url",
    "serve --prompts in/samples/prediction.json",
    "PORT=x QUEUE_SIZE=90 BASIC_AUTH_USER=a MAX_BODY_MB=0 serve --threads 1",
    "LABEL_STUDIO_URL=ftp://nowhere ALLOWED_HOSTS=http://x LOCAL_FILES_ROOT=/ serve",
    "LABEL_STUDIO_ACCESS_TOKEN='a b' PREDICT_DEADLINE=-1 STUCK_AFTER=x serve --port 70000",
    f"doctor --url nowhere --api-key 'a b' {MODELS}",
    f"doctor --url http://127.0.0.1:1 --api-key x --project 1 {MODELS}",
    "prelabel --project 1 --detector demo",
    "prelabel --url http://127.0.0.1:1 --api-key x --project 1 --ids one",
    "prelabel --url http://127.0.0.1:1 --api-key x --project x",
    "prelabel --url http://127.0.0.1:1 --project 1 --from-boxes annotations --prompts in/x.json",
    "labelme --nonsense",
    "labelme -c in/prompts.yaml --detector demo",
    "make-config -c in/wrong.yaml",
    "make-config -c in/nowhere.yaml",
    "make-config --classes a,a",
    "DEVICE=tpu BATCH_SIZE=x MODEL_SCORE_THRESHOLD=2 make-config --classes a",
    "models --nonsense",
    "bench --repeats x",
)


def _case_commands(cases: Path) -> Iterator[str]:
    """Small inputs of other programs, each to two formats; most hold something unusual."""
    for case in sorted(path for path in cases.glob("*") if path.is_dir()):
        here = f"in/cases/{case.name}"
        has_photos = (case / "photos").is_dir()
        sources = [f"{here}/{path.name}" for path in sorted(case.glob("*.json"))]
        images = f" --images {here}/photos" if has_photos else ""
        for source in sources if has_photos else [here]:
            for kind in ("coco", "yolo"):
                out = f"out/cases/{source.removeprefix('in/cases/').replace('/', '-')}-{kind}"
                yield f"convert {source} {out} --to {kind} --no-progress{images}"
        if (case / "a.json").is_file() and (case / "pred").is_dir():
            yield f"score {here} --predictions {here}/pred --no-progress"


# Their inputs.


def fill_inputs(place: Path, data: Path) -> None:
    """Copy everything that the runs read into ``place/in``."""
    shutil.copytree(ROOT / "backend" / "demo" / "samples", place / "in" / "samples")
    yaml = "arch:\n  yolo_weights: demo\n  sam_weights: demo\ndevice: cpu\ndataset: {conf: 0.4}\n"
    (place / "in" / "settings.yaml").write_text(yaml)
    (place / "in" / "settings.json").write_text('{"classes": ["cup", "leaf"], "n_gpu": 1}')
    (place / "in" / "prompts.yaml").write_text("prompts: in/samples/prediction.json\n")
    (place / "in" / "wrong.yaml").write_text("arch: {yolo_weight: x}\nbatch: many\nnothing: 1\n")
    _make_difficult(place / "in")
    if (data / "labelme-voc").is_dir():
        (place / "in" / "photographs").mkdir()
        for path in sorted((data / "labelme-voc").glob("*.*")):
            shutil.copyfile(path, place / "in" / "photographs" / path.name)
    if (data / "camvid-voc").is_dir():
        _copy_camvid(data / "camvid-voc", place / "in" / "camvid")
    if (data / ".." / "cases").is_dir():
        shutil.copytree(
            data / ".." / "cases", place / "in" / "cases", copy_function=shutil.copyfile
        )


def _make_difficult(folder: Path) -> None:
    """Pictures with odd names, one on its side with EXIF that says so, and a damaged one."""
    pictures = sorted((ROOT / "backend" / "demo" / "samples" / "JPEGImages").glob("*.jpg"))
    names = (
        b"undecodable/no text \xff.jpg",
        b"difficult/plain.jpg",
        b"difficult/UPPER.JPG",
        "difficult/sub ä #1/图 c?.jpg".encode(),
    )
    for name, picture in zip(names, pictures, strict=False):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, path)
    turned = PIL.Image.open(pictures[4]).transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "difficult" / "turned.jpg", quality=95, exif=exif)
    (folder / "difficult" / "damaged.jpg").write_bytes(pictures[5].read_bytes()[:9000])


def _copy_camvid(source: Path, target: Path) -> None:
    """The validation list, and a prompt file with the boxes of its objects."""
    listed = Path("ImageSets", "Segmentation", "val.txt")
    (target / listed).parent.mkdir(parents=True)
    shutil.copyfile(source / listed, target / listed)
    shutil.copyfile(source / "class_names.txt", target / "class_names.txt")
    rows = []
    for stem in (source / listed).read_text().split():
        for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
            (target / folder).mkdir(exist_ok=True)
            (path,) = (source / folder).glob(f"{stem}.*")
            shutil.copyfile(path, target / folder / path.name)
        classes = np.asarray(PIL.Image.open(target / "SegmentationClass" / f"{stem}.png"))
        objects = np.asarray(PIL.Image.open(target / "SegmentationObject" / f"{stem}.png"))
        for number in sorted(set(np.unique(objects).tolist()) - {0, 255}):
            y, x = np.nonzero(objects == number)
            box = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
            row = {"image_id": stem, "category_id": int(classes[y[0], x[0]]) - 1, "bbox": box}
            rows.append({**row, "score": 1.0 - number / 512})
    (target / "prediction.json").write_text(json.dumps(rows))


def _half_done(side: Side) -> None:
    """A folder in which some pictures are labelled, one of them by a person."""
    out = side.place / "out" / "annotate-again"
    paths = sorted((side.place / "out" / "annotate-labelme").glob("*.json"))[:6]
    for path in paths:
        shutil.copy(path, out / path.name)
    document = json.loads((out / paths[0].name).read_text())
    document["shapes"] = document["shapes"][1:]
    (out / paths[0].name).write_text(json.dumps(document))


def _make_export(side: Side) -> None:
    """An export of Label Studio: predictions as they were made, and annotations that are not."""
    made = side.place / "out" / "annotate-label-studio" / "label-studio" / "import.json"
    names = ["ball", "box", "star", "cup", "leaf", "ring"]
    count = itertools.count()
    tasks = []
    for number, task in enumerate(json.loads(made.read_text()), 1):
        (prediction,) = task["predictions"]
        regions = [_edited(region, next(count), names) for region in prediction["result"]]
        annotation = {
            "id": number,
            "completed_by": {"id": 1, "email": "anna@example.com"},
            "was_cancelled": False,
            "ground_truth": number == 2,
            "parent_prediction": 100 + number,
            "result": [region for region in regions if region is not None],
        }
        task = {"id": number, **task, "annotations": [annotation]}
        task["predictions"] = [{"id": 100 + number, **prediction}]
        tasks.append(task)
    second = {**tasks[0]["annotations"][0], "id": 50, "completed_by": 2}
    tasks[0]["annotations"] += [{**second, "result": second["result"][:1]}]
    tasks[1]["annotations"] += [{**second, "id": 51, "was_cancelled": True}]
    tasks[2]["predictions"] = []
    tasks[3]["annotations"] = []
    tasks[4]["annotations"][0]["result"] += [{"type": "brushlabels", "value": {"rle": [1, 2]}}]
    tasks[5]["annotations"][0]["completed_by"] = 3
    (side.place / "in" / "export.json").write_text(json.dumps(tasks))


def _edited(region: dict[str, Any], number: int, names: Sequence[str]) -> dict[str, Any] | None:
    """What a person made of a region: often nothing."""
    (label,) = region["value"]["brushlabels"]
    drawn = {**region, "id": f"drawn{number}"}
    del drawn["score"]
    if number % 6 == 2:
        other = names[(names.index(label) + 1) % len(names)]
        return {**region, "value": {**region["value"], "brushlabels": [other]}}
    if number % 6 == 3:
        return None
    if number % 6 == 4:
        value = {"x": 10 + number % 40, "y": 20, "width": 25, "height": 30.5, "rotation": 0}
        value["rectanglelabels"] = [label]
        return {**drawn, "type": "rectanglelabels", "from_name": "box", "value": value}
    if number % 12 == 5:
        points = [[10, 10], [60.5, 12], [55, 70 - number % 20], [12, 40]]
        value = {"points": points, "closed": True, "polygonlabels": [label]}
        return {**region, "type": "polygonlabels", "from_name": "outline", "value": value}
    if number % 12 == 11:
        value = {"x": 50, "y": 50, "radiusX": 12, "radiusY": 8.5, "rotation": 20}
        value["ellipselabels"] = [label]
        return {**drawn, "type": "ellipselabels", "from_name": "oval", "value": value}
    return region


def _make_accepted(side: Side) -> None:
    """labelme files as a person left them."""
    folder = side.place / "in" / "accepted"
    folder.mkdir()
    made = side.place / "out" / "annotate-labelme"
    for number, path in enumerate(sorted(made.glob("*.json"))):
        document = json.loads(path.read_text())
        shapes = document["shapes"]
        if number % 3 == 0:
            shapes[0]["label"] = "ring"
        if number % 3 == 1:
            del shapes[-1]
            corners = [[20, 30], [200, 60.5], [120, 180]]
            shapes.append({"label": "leaf", "shape_type": "polygon", "points": corners})
        if number % 3 == 2:
            shift = 5 if shapes[0]["points"][0][0] < 20 else -5
            for point in shapes[0]["points"]:
                point[0] += shift
        (folder / path.name).write_text(json.dumps(document))


def _make_mixed(side: Side) -> None:
    """The folders of ``MIXED``."""
    out = side.place / "out"
    samples = side.place / "in" / "samples"
    tasks = '[{"id": 1, "data": {"image": "/data/local-files/?d=3000000.jpg"}, "annotations": []}]'
    texts = {
        "coco": (out / "convert-samples-coco/annotations/instances_val.json").read_text(),
        "labelme": (out / "annotate-labelme/3000000.json").read_text(),
        "list": (samples / "prediction.json").read_text(),
        "tasks": tasks,
        "object": '{"a": 1}',
        "nothing": "",
        "number": "12",
    }
    for folder, files in MIXED.items():
        for name, kind in files.items():
            path = side.place / "in" / "mixed" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[kind])


def _make_damaged(side: Side) -> None:
    """labelme files with a fault each, and a good one."""
    folder = side.place / "in" / "damaged"
    folder.mkdir()
    paths = sorted((side.place / "out" / "annotate-labelme").glob("*.json"))
    texts = [path.read_text() for path in paths]
    documents = [json.loads(text) for text in texts]
    documents[1]["shapes"][0].pop("label")
    documents[2]["shapes"][0]["points"][1][0] += 1
    documents[3]["imageHeight"] = 7
    documents[4]["shapes"][0]["mask"] = "nothing"
    documents[5]["shapes"][0].update(shape_type="polygon", points=[[1, 2], [3, 4]])
    documents[6]["shapes"][0].update(shape_type="circle", points=[[9, 9], [9, 9]], flags=None)
    documents[7]["imagePath"] = "nowhere.jpg"
    documents[8]["shapes"][0]["label"] = "unheard-of"
    for path, document in zip(paths[1:9], documents[1:9], strict=True):
        (folder / path.name).write_text(json.dumps(document))
    (folder / paths[0].name).write_text(texts[0][:500])
    (folder / paths[9].name).write_text(texts[9])
    (folder / "labels.txt").write_text(
        "__ignore__\n_background_\nball\nbox\nstar\ncup\nleaf\nring\n"
    )


# The server.

_MANY_TAGS = """<View><Image name="l" value="$image"/><Image name="r" value="$other"/>
  <BrushLabels name="b" toName="l"><Label value="ball"/><Label value="cup"/></BrushLabels>
  <PolygonLabels name="p" toName="l" model_score_threshold="0.3">
    <Label value="round" predicted_values="ball,ring"/></PolygonLabels>
  <BitmaskLabels name="m" toName="r" model_min_area="500"><Label value="Leaf"/></BitmaskLabels>
  <RectangleLabels name="x" toName="r" model_max_regions="2">
    <Label value="box" model_score_threshold="0.6"/><Label value="star"/></RectangleLabels>
  <KeyPointLabels name="k" toName="l" smart="true"><Label value="ball"/></KeyPointLabels></View>"""


def _serve(side: Side, told: Path) -> None:
    """Ask a server of a tree many questions, and keep its answers and its log."""
    variables = {"ALLOWED_HOSTS": "127.0.0.1", "LOCAL_FILES_ROOT": "in/samples/JPEGImages"}
    _serve_with(side, told, variables, _questions(side.place))


def _serve_unset(side: Side, told: Path) -> None:
    """Ask a server that asks for a password and can fetch no pictures."""
    variables = {"BASIC_AUTH_USER": "anna", "BASIC_AUTH_PASS": "secret"}
    questions = [one for one in _questions(side.place) if one[0] in ("health", "setup", "predict")]
    _serve_with(side, told, variables, questions)
    word = {"Authorization": f"Basic {b64encode(b'anna:secret').decode()}"}
    known = [(f"known-{name}", *question, word) for name, *question in questions]
    _serve_with(side, told, variables, known)


def _serve_with(
    side: Side, told: Path, variables: Mapping[str, str], questions: Iterable[Sequence[Any]]
) -> None:
    command = f"serve --port {side.port} {MODELS}"
    with _running(side, command, told / "log", variables, signal.SIGTERM) as process:
        _wait_for(process, lambda: _is_ready(side.port))
        for name, *question in questions:
            status, answer = _ask(side.port, *question)
            (told / f"{name}.status").write_text(status)
            (told / f"{name}.json").write_bytes(answer)


@contextmanager
def _running(
    side: Side, command: str, log: Path, variables: Mapping[str, str], ending: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until a signal ends it; what it prints is kept beside ``log``."""
    with log.with_suffix(".stdout").open("ab") as out, log.with_suffix(".stderr").open("ab") as err:
        process = subprocess.Popen(
            side.python("-m", "backend", *shlex.split(command)),
            cwd=side.place,
            env={**side.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            yield process
        finally:
            process.send_signal(ending)
            code = process.wait(60)
    log.with_suffix(".code").write_text(f"{code}\n")


def _wait_for(process: subprocess.Popen[bytes], is_done: Callable[[], bool]) -> None:
    """Wait until something is so, while a program runs."""
    end = time.monotonic() + BOOT_S
    while time.monotonic() < end and process.poll() is None:
        if is_done():
            return
        time.sleep(0.5)
    raise SystemExit(f"{shlex.join(process.args)}: ended or hangs; see its log with --keep")


def _is_ready(port: int) -> bool:
    try:
        return _ask(port, "GET", "/readyz", None)[0].startswith("200")
    except OSError:
        return False


def _ask(
    port: int, method: str, path: str, body: bytes | None, more: Mapping[str, str] | None = None
) -> tuple[str, bytes]:
    """Status with reason and some headers, and the body."""
    url = f"http://127.0.0.1:{port}{path}"
    headers = {"Content-Type": "application/json", **(more or {})}
    request = urllib.request.Request(url, body, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=120)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        shown = [f"{answer.status} {answer.reason}"]
        for name in ("Content-Type", "Retry-After", "WWW-Authenticate", "Connection"):
            shown.append(f"{name}: {answer.headers.get(name)}")
        return "\n".join(shown) + "\n", answer.read()


def _config(place: Path) -> str:
    """The labeling config that the tree makes for the embedded models."""
    (path,) = (place / "told" / "make-config").glob("02_*.stdout")
    return path.read_text()


def _questions(place: Path) -> Iterator[tuple[str, str, str, bytes | None]]:
    """Name, method, path and body of each request."""
    pictures = sorted((place / "in" / "samples" / "JPEGImages").glob("*.jpg"))[:2]
    uris = [f"data:image/jpeg;base64,{b64encode(path.read_bytes()).decode()}" for path in pictures]
    config = _config(place)
    tasks = [{"id": k, "data": {"image": uri, "other": uris[0]}} for k, uri in enumerate(uris)]

    def post(path: str, **content: Any) -> tuple[str, str, bytes]:
        return "POST", path, json.dumps(content).encode()

    def predict(tasks: Any, config: str | None = config, context: Any = None) -> Any:
        params = {"login": None, "password": None, "context": context}
        return post("/predict", tasks=tasks, project="1.0", label_config=config, params=params)

    def click(*marks: Mapping[str, Any]) -> Any:
        return predict(tasks[:1], context={"result": marks})

    yield "health", "GET", "/health", None
    yield "root", "GET", "/", None
    yield "live", "GET", "/livez", None
    yield "predict-before-setup", *predict(tasks, None)
    yield "setup", *post("/setup", project="1.0", schema=config, hostname="", access_token="")
    yield "setup-many-tags", *post("/setup", project="2.0", schema=_MANY_TAGS)
    yield "predict", *predict(tasks)
    yield "predict-again", *predict(tasks)
    yield "predict-after-setup", *predict(tasks, None)
    yield "predict-many-tags", *predict(tasks, _MANY_TAGS)
    yield "predict-nothing", *predict([])
    box: dict[str, Any] = {"type": "rectanglelabels", "to_name": "image"}
    corners = {"x": 84.0, "y": 54.0, "width": 13.0, "height": 19.0, "rotation": 0}
    box["value"] = {**corners, "rectanglelabels": ["leaf"]}
    marks = [_mark(90.5, 63.5, True), _mark(97.0, 54.0, False), _mark(20.0, 28.5, True)]
    names = dict(re.findall(r"<(KeyPointLabels|RectangleLabels) name=\"(\w+)\"", config))
    for mark in marks:
        mark["from_name"] = names["KeyPointLabels"]
    box["from_name"] = names["RectangleLabels"]
    yield "click", *click(marks[0])
    yield "click-refined", *click(*marks[:2])
    yield "click-elsewhere", *click(*marks)
    yield "click-box", *click(box)
    yield "click-box-and-point", *click(box, marks[1])
    yield "click-only-negative", *click(marks[1])
    yield "click-without-marks", *click({"type": "choices"})
    yield "versions", "GET", "/versions", None
    yield "webhook", *post("/webhook", action="START_TRAINING")
    yield "wrong-nowhere", "GET", "/nowhere", None
    yield "wrong-method", "GET", "/predict", None
    yield "wrong-body", "POST", "/predict", b"{"
    yield "wrong-list", "POST", "/predict", b"[]"
    yield "wrong-tasks", *post("/predict", tasks={}, label_config=config)
    yield "wrong-task", *predict([{"id": "x", "data": {}}])
    yield "wrong-setup", *post("/setup", project="1.0")
    yield "wrong-config", *post("/setup", project="1.0", schema="<View>")
    other = '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i"/></View>'
    yield "wrong-labels", *post("/setup", project="1.0", schema=other)
    odd = ("/data/upload/1/ä.jpg", "http://127.0.0.1:1/\ud800.jpg", "\ud800")
    for number, address in enumerate(odd, 1):
        yield f"wrong-odd-{number}", *predict([{"id": 9, "data": {"image": address}}])
    addresses = ("http://127.0.0.1:1/a.jpg", "/data/upload/1/a.jpg", "data:image/png;base64,AAAA")
    local = "/data/local-files/?d=3000002.jpg"
    yield "predict-local-file", *predict([{"id": 8, "data": {"image": local}}])
    yield "wrong-pictures", *predict([{"id": 9, "data": {"image": one}} for one in addresses])


def _mark(x: float, y: float, positive: bool) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.3, "keypointlabels": ["leaf"]}
    return {"type": "keypointlabels", "is_positive": positive, "to_name": "image", "value": value}


# Other commands that take part in something.


def _prelabel(side: Side, told: Path) -> None:
    """Pre-label a project of the tests' stand-in for Label Studio."""
    sys.path.insert(0, str(ROOT))
    from tests.support.fake_studio import LEGACY, FakeStudio, serving

    picture = side.place / "in" / "samples" / "JPEGImages" / "3000003.jpg"
    studio = FakeStudio(_config(side.place), picture.read_bytes())
    studio.add(5)
    ways = (
        "--limit 2 --journal out/prelabel/journal",
        "--json out/prelabel/report.json",
        "",
        "--conf 0.4 --replace --ids 2,3",
    )
    with serving(studio) as recorder:
        for number, more in enumerate(ways, 1):
            about = f"--url {recorder.url} --api-key {LEGACY} --project 1 --no-progress"
            command = f"prelabel {about} {more} {MODELS}"
            _carry_out(side, command, told / f"{number:02d}_prelabel")
    (told / "predictions.json").write_text(json.dumps(studio.predictions, indent=1))
    (told / "requests.json").write_text(json.dumps(studio.written, indent=1))


def _watch(side: Side, told: Path) -> None:
    """Label pictures as they land in a folder."""
    folder = side.place / "out" / "watch"
    pictures = sorted((side.place / "in" / "samples" / "JPEGImages").glob("*.jpg"))[:4]
    with _running(
        side, f"annotate --watch out/watch {MODELS}", told / "log", {}, signal.SIGINT
    ) as process:
        for picture in pictures:
            shutil.copyfile(picture, folder / picture.name)
            made = folder / f"{picture.stem}.json"
            _wait_for(process, made.is_file)
        time.sleep(2)


# Running.


def carry_out(side: Side, runs: Sequence[Run]) -> list[str]:
    """Do all runs of one side; returns what ended otherwise than planned."""
    unplanned = []
    for run in runs:
        start = time.monotonic()
        told = side.place / "told" / run.name
        told.mkdir(parents=True)
        (side.place / "out" / run.name).mkdir(parents=True)
        if run.prepare is not None:
            run.prepare(side)
        for number, command in enumerate(run.commands, 1):
            words = command.replace(MODELS, "").replace("--no-progress", "")
            words = re.sub(r"[^\w.,=-]+", "_", words).strip("_")
            code = _carry_out(side, command, told / f"{number:02d}_{words[:150]}")
            if run.code not in (None, code):
                unplanned.append(f"{side.name} {run.name}: {command}: ended with {code}")
        if run.act is not None:
            run.act(side, told)
        sys.stderr.write(f"{side.name}: {run.name} ({time.monotonic() - start:.1f} s)\n")
    return unplanned


def _carry_out(side: Side, command: str, told: Path) -> int:
    """Do one command and keep what it printed beside ``told``."""
    words = shlex.split(command)
    variables = list(itertools.takewhile(lambda word: re.match(r"[A-Z_]+=", word), words))
    arguments = words[len(variables) :]
    done = subprocess.run(
        side.python("-m", "backend", *arguments),
        cwd=side.place,
        env={**side.environment, **dict(word.split("=", 1) for word in variables)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_S,
    )
    for ending, content in (("stdout", done.stdout), ("stderr", done.stderr)):
        told.with_name(f"{told.name}.{ending}").write_bytes(content)
    told.with_name(f"{told.name}.code").write_text(f"{done.returncode}\n")
    return done.returncode


def check_tree(side: Side) -> None:
    """Make sure that a tree runs its own code, not an installed one."""
    code = "import backend; print(backend.__file__)"
    found = subprocess.run(
        side.python("-c", code),
        cwd=side.place,
        env=side.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if not Path(found).is_relative_to(side.tree):
        raise SystemExit(f"{side.name}: would run {found}, not the code in {side.tree}")


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of a commit that is removed with the block."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Comparing.


@dataclass(frozen=True)
class Difference:
    """One file that differs: its run and path, in what way, and some lines that show it."""

    file: str
    kind: str
    lines: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why it may differ; None if it may not."""
        name = f"{self.file}: {self.kind}"
        found = (why for pattern, why in ACCEPTED.items() if fnmatch.fnmatchcase(name, pattern))
        return next(found, None)


def compare_run(old: Path, new: Path, name: str) -> tuple[int, list[Difference]]:
    """How many files a run has on either side, and those that differ."""
    found = []
    sides = [_files(place, name) for place in (old, new)]
    paths = sorted({*sides[0], *sides[1]})
    for path in paths:
        if path not in sides[1]:
            found.append(Difference(path, "only in the old"))
        elif path not in sides[0]:
            found.append(Difference(path, "only in the new"))
        else:
            before = _normalised(path, sides[0][path].read_bytes())
            after = _normalised(path, sides[1][path].read_bytes())
            if before != after:
                found.append(_difference(path, before, after))
    return len(paths), found


def _files(place: Path, name: str) -> dict[str, Path]:
    """All files of a run: those written by what they are called, and what was printed."""
    files = {}
    for folder in (place / "out" / name, place / "told" / name):
        for path in folder.rglob("*"):
            if path.is_file():
                files[f"{name}/{path.relative_to(folder).as_posix()}"] = path
    return files


def _normalised(name: str, content: bytes) -> bytes:
    """The content without what cannot be the same twice."""
    for files, pattern, instead, _ in NORMALISED:
        if fnmatch.fnmatchcase(name, files):
            content = re.sub(pattern.encode(), instead.encode(), content)
    return content


def _difference(name: str, before: bytes, after: bytes) -> Difference:
    """In what way two contents differ."""
    if name.endswith((".png", ".jpg")):
        return _of_pictures(name, before, after)
    try:
        texts = (before.decode(), after.decode())
    except UnicodeDecodeError:
        return Difference(name, "bytes", (f"{len(before)} and {len(after)} bytes",))
    if texts[0].lstrip()[:1] in ("{", "["):
        try:
            values = [json.loads(text, object_pairs_hook=_Pairs) for text in texts]
        except ValueError:
            pass
        else:
            return _of_values(name, texts, values)
    return Difference(name, "text", tuple(_text_lines(*texts)))


class _Pairs(dict):
    """A JSON object that also knows the order of its keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.order = [key for key, _ in pairs]


def _of_pictures(name: str, before: bytes, after: bytes) -> Difference:
    pictures = [PIL.Image.open(io.BytesIO(content)) for content in (before, after)]
    pixels = [np.asarray(picture) for picture in pictures]
    shapes = [(picture.mode, picture.size) for picture in pictures]
    if shapes[0] != shapes[1]:
        return Difference(name, "picture, other shape", (f"{shapes[0]} and {shapes[1]}",))
    if np.array_equal(*pixels):
        return Difference(name, "picture, same pixels")
    count = int((pixels[0] != pixels[1]).sum())
    return Difference(name, "picture, other pixels", (f"{count} values differ",))


def _of_values(name: str, texts: Sequence[str], values: Sequence[Any]) -> Difference:
    found = tuple(itertools.islice(_value_lines(values[0], values[1], ""), 6))
    if found:
        return Difference(name, "JSON, other values", found)
    ordered = tuple(itertools.islice(_order_lines(values[0], values[1], ""), 3))
    if ordered:
        return Difference(name, "JSON, same values in another order", ordered)
    return Difference(name, "JSON, same values written otherwise", tuple(_text_lines(*texts)))


def _children(before: Any, after: Any, path: str) -> Iterator[tuple[Any, Any, str]]:
    """What two values of one shape hold, in pairs."""
    if isinstance(before, dict):
        for key in before:
            yield before[key], after[key], f"{path}.{key}"
    else:
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield one, other, f"{path}[{place}]"


def _value_lines(before: Any, after: Any, path: str) -> Iterator[str]:
    """Where two parsed values differ."""
    if type(before) is not type(after) or not isinstance(before, dict | list):
        if before != after or type(before) is not type(after):
            yield f"{path or 'all'}: {_short(before)} and {_short(after)}"
        return
    if isinstance(before, dict) and before.keys() != after.keys():
        only = [sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())]
        yield f"{path or 'all'}: keys only in the old {only[0]}, only in the new {only[1]}"
        return
    if len(before) != len(after):
        yield f"{path or 'all'}: {len(before)} and {len(after)} entries"
        return
    for one, other, where in _children(before, after, path):
        yield from _value_lines(one, other, where)


def _order_lines(before: Any, after: Any, path: str) -> Iterator[str]:
    """Where equal values have their keys in another order."""
    if isinstance(before, _Pairs) and before.order != after.order:
        yield f"{path or 'all'}: keys {before.order} and {after.order}"
    if isinstance(before, dict | list):
        for one, other, where in _children(before, after, path):
            yield from _order_lines(one, other, where)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _text_lines(before: str, after: str) -> Iterator[str]:
    """Some lines of a diff, or, where lines are long, what is around the first difference."""
    lines = [before.splitlines(), after.splitlines()]
    if max(len(line) for line in [*lines[0], *lines[1], ""]) > 1000:
        same = sum(1 for _ in itertools.takewhile(bool, map(str.__eq__, before, after)))
        for sign, text in (("-", before), ("+", after)):
            yield f"{sign} ...{text[max(0, same - 60) : same + 60]!r}..."
        return
    changes = difflib.unified_diff(*lines, lineterm="", n=0)
    chosen = [line[:160] for line in changes if not line.startswith(("---", "+++", "@@"))]
    yield from chosen[:12]
    if len(chosen) > 12:
        yield f"and {len(chosen) - 12} lines more"


# The program.


def chosen_runs(runs: Sequence[Run], only: str | None) -> list[Run]:
    """The runs that patterns choose, and those whose results they read."""
    patterns = (only or "*").split(",")
    names = {run.name for run in runs if any(fnmatch.fnmatch(run.name, one) for one in patterns)}
    if not names:
        raise SystemExit(f"--only: there are {', '.join(run.name for run in runs)}")
    for run in reversed(runs):
        names |= run.all_needs() if run.name in names else set()
    return [run for run in runs if run.name in names]


def report(old: Path, new: Path, runs: Sequence[Run]) -> bool:
    """Print the table and the differences; returns whether all of them are accepted."""
    all_found = []
    sys.stdout.write("\n")
    for run in runs:
        count, found = compare_run(old, new, run.name)
        all_found += found
        accepted = sum(one.reason is not None for one in found)
        told = f" ({accepted} accepted)" if accepted else ""
        sys.stdout.write(f"{run.name}: {count} files, {len(found)} differ{told}\n")
    for reason in (*dict.fromkeys(ACCEPTED.values()), None):
        shown = [one for one in all_found if one.reason == reason]
        title = "NOT ACCEPTED" if reason is None else f"accepted: {reason}"
        sys.stdout.write(f"\n\n{len(shown)} differences {title}\n" if shown else "")
        for one in shown:
            sys.stdout.write(f"\n{one.file}: {one.kind}\n")
            sys.stdout.write("".join(f"    {line}\n" for line in one.lines))
    return all(one.reason is not None for one in all_found)


def main() -> int:
    """Run both sides and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--old", default=OLD, metavar="COMMIT", help=f"default: {OLD}")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", metavar="DIR")
    parser.add_argument("--only", metavar="NAME,..", help="runs by name, * for any characters")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what both sides wrote here")
    args = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    data = args.data.resolve()
    there = {folder for folder, source in SHARED.items() if (data / source).is_dir()}
    chosen = chosen_runs(all_runs(data / ".." / "cases"), args.only)
    lacking = {run.name: run.inputs() - there for run in chosen}
    runs = [run for run in chosen if not lacking[run.name] and (run.commands or run.act)]
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="compare-") as temporary:
        folder = Path(args.keep or temporary).resolve()
        places = {name: folder / name for name in ("old", "new")}
        if any(place.exists() for place in places.values()):
            parser.error(f"--keep: {folder}: holds results already")
        unplanned = []
        with checked_out(args.old, Path(temporary) / "tree") as old_tree:
            for name, tree in (("old", old_tree), ("new", ROOT)):
                side = Side(name, tree, Path(temporary) / "work", port)
                (side.place / "in").mkdir(parents=True)
                fill_inputs(side.place, data)
                check_tree(side)
                unplanned += carry_out(side, runs)
                shutil.move(side.place, places[name])
        all_accepted = report(places["old"], places["new"], runs)
    for name, folders in lacking.items():
        if folders or all(run.name != name for run in runs):
            sys.stdout.write(
                f"\nskipped {name}: {', '.join(sorted(folders)) or 'its input'} is not there\n"
            )
    sys.stdout.write("\nnot compared:\n")
    for files, pattern, _, why in NORMALISED:
        sys.stdout.write(f"    {files}: {pattern} ({why})\n")
    sys.stdout.write("".join(f"\nnot as planned: {line}\n" for line in unplanned))
    return 0 if all_accepted and not unplanned else 1


if __name__ == "__main__":
    sys.exit(main())
