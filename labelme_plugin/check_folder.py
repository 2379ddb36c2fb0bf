"""Checking a whole folder of labelme files."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.core.classes import BACKGROUND_LABEL, IGNORE_LABEL
from backend.errors import ConfigError, counted
from backend.files.find import PassedOver, find_files
from backend.files.pictures import Pictures
from backend.formats.voc.class_names import read_class_names
from labelme_plugin.check import Problem, check_file

_PLACE = re.compile(r"\[\d+\]")  # of a shape
_QUOTED = re.compile(r"'[^']*'")  # names, in which equal problems differ
_ALIKE = 3  # problems with the same sentence that get a line each


@dataclass(frozen=True)
class CheckSummary:
    """What a check found."""

    n_files: int
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...] = ()  # on the folder

    @property
    def n_faulty(self) -> int:
        """Files with a fault."""
        return len({one.file for one in self.problems if not one.is_remark})

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "files": self.n_files,
            "faulty": self.n_faulty,
            "problems": [one.as_dict() for one in self.problems],
            "remarks": list(self.remarks),
        }

    def as_text(self) -> str:
        """For people: one line a problem, the count last."""
        n_remarks = sum(one.is_remark for one in self.problems)
        remarks = (
            f"; {n_remarks} remarks on what no current labelme minds, or what was not looked at"
            if n_remarks
            else ""
        )
        files = counted(self.n_files, "file")
        checked = f"checked {files}: {self.n_faulty or 'none'} with faults{remarks}"
        cure = (
            "yolosam2 convert SRC OUT --to labelme writes what can be read anew, as every labelme"
            " opens it"
        )
        return "\n".join([*self._grouped(), *self.remarks, checked, *[cure] * bool(self.n_faulty)])

    def _grouped(self) -> list[str]:
        """The problems, one line each; those that are alike share one when there are many."""
        alike: defaultdict[tuple[str, str, bool], list[Problem]] = defaultdict(list)
        for one in self.problems:
            kind = _QUOTED.sub("*", one.sentence)
            alike[_PLACE.sub("", one.field), kind, one.is_remark].append(one)
        lines = []
        for (field, _, is_remark), group in alike.items():
            if len(group) <= _ALIKE:
                lines += [one.as_text() for one in group]
                continue
            files = list(dict.fromkeys(one.file for one in group))
            told = ": ".join(
                part for part in (field, "remark" if is_remark else "", group[0].sentence) if part
            )
            such = ", ".join(files[:_ALIKE])
            lines.append(
                f"{len(group)} times in {counted(len(files), 'file')}: {told} (such as {such})"
            )
        return lines


def check(source: Path, images: Path | None = None, progress: bool = True) -> CheckSummary:
    """Check labelme files.

    Args:
        source: a file, or a folder, searched recursively; its ``labels.txt`` says which labels
            there are.
        images: where pictures lie that are not in it.
        progress: whether to show a bar.

    Raises:
        ConfigError: nothing there.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    folder = source if source.is_dir() else source.parent
    passed = PassedOver()
    files = (
        list(find_files(source, (".json",), passed_over=passed)) if source.is_dir() else [source]
    )
    if not files:
        raise ConfigError("; ".join([f"{source}: no JSON files there", *passed.remarks()]))
    listed = folder / "labels.txt"
    labels = (
        [IGNORE_LABEL, BACKGROUND_LABEL, *read_class_names(listed)] if listed.is_file() else None
    )
    pictures = Pictures([folder], images)
    problems = [Problem(where, "", sentence) for where, sentence in passed.refused]
    for path in tqdm(files, unit="file", disable=not progress, file=sys.stderr, dynamic_ncols=True):
        problems += check_file(path, pictures, labels)
    return CheckSummary(len(files), tuple(problems), tuple(passed.remarks()))
