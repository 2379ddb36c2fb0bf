"""Where the results of an evaluation or a scoring go: JSON, the page, the exit code."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import ConfigError, Stopped
from backend.evaluation.gallery import LoadPicture, render
from backend.evaluation.page import render_report, write_report
from backend.evaluation.scoring import Scoring
from backend.files.atomic import ensure_writable, write_atomic


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where the results go besides the terminal."""

    json: Path | None = None  # "-" is standard output
    report: Path | None = None
    images: Path | None = None  # folder of the pictures, for the report
    resamples: int = 1000
    progress: bool = True
    project_url: str | None = None  # what the pictures of the page link to

    def check(self, inputs: Sequence[Path] = ()) -> None:
        """Refuse what could not be written, or would overwrite an input, before hours of work.

        Raises:
            ConfigError: naming file or folder.
        """
        if self.images is not None and not self.images.is_dir():
            raise ConfigError(f"--images {self.images}: no such folder")
        if str(self.report) == "-":
            raise ConfigError("--report: a page needs a file of its own")
        taken = {path.resolve() for path in inputs}
        for path in (self.json, self.report):
            if path is None or str(path) == "-":
                continue
            if path.is_dir():
                raise ConfigError(f"{path}: is a folder; name a file")
            if path.resolve() in taken:
                raise ConfigError(f"{path}: would be overwritten by the results; name another file")
            taken.add(path.resolve())
            ensure_writable(path.parent)


def finish(
    run: Scoring,
    outputs: Outputs,
    settings: Mapping[str, Any],
    title: str,
    captions: tuple[str, str],
    load: LoadPicture,
    why: Sequence[str] = (),
) -> dict[str, Any]:
    """Compute the document and write JSON and page.

    ``why`` explains where there is nothing to compute it from.

    Raises:
        ConfigError: nothing could be scored; what was wrong with the first is told.
    """
    if not run.tally.n_images and settings.get("stopped"):
        raise Stopped("interrupted")
    if not run.tally.n_images:
        reasons = [*why, *(fault.sentence for fault in run.faults[:1])]
        told = "; ".join(reasons) or "there is nothing in it"
        raise ConfigError(f"nothing could be scored: {told}")
    document = run.document(settings, outputs.resamples)
    if outputs.json is not None and str(outputs.json) != "-":
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_atomic(outputs.json, text.encode("utf-8", "backslashreplace"))
    if outputs.report is not None:
        facts = [
            (name.replace("_", " "), _fact(value))
            for name, value in settings.items()
            if name not in ("remarks", "stopped") and value not in (None, "", [], {}, False, 0)
        ]
        whole = document["views"][0]
        facts += [("images", str(whole["images"])), ("made", time.strftime("%Y-%m-%d %H:%M"))]
        shown = render(run.gallery.worst(), run.classes.names, load, captions)
        page = render_report(document, shown, title, facts, captions, outputs.project_url)
        write_report(outputs.report, page)
    return document


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{old} is {new}" for old, new in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def exit_code(document: Mapping[str, Any]) -> int:
    """1 where something could not be scored as it should be."""
    return 1 if document["failed"] else 0
