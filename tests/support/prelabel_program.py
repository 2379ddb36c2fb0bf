"""A pre-labelling run on stub models, as a program that can be killed: ``python -m
tests.support.prelabel_program URL JOURNAL``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from backend.config.secret import Secret
from backend.config.service import ServiceSettings
from backend.errors import LabelingError
from backend.files.images import ImageLimits
from backend.formats.label_studio.binding import Binding, bind, project_version
from backend.formats.label_studio.label_config import parse_label_config
from backend.formats.label_studio.make_config import make_config
from backend.label_studio.api.client import Client
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.prelabel.engine_local import LocalEngine
from backend.label_studio.prelabel.journal import Journal
from backend.label_studio.prelabel.run import Choice, PrelabelRun
from backend.label_studio.prelabel.stages import Labeller, Loader
from backend.labeling.cascade import Cascade
from tests.support.fake_studio import LEGACY
from tests.support.fakes import FakeDetector, FakeSegmenter

CONFIG = make_config(["cat", "dog"])


def stub() -> tuple[Cascade, Binding, str]:
    """Stub models bound to the stand-in's labeling config, and their version."""
    cascade = Cascade(FakeDetector(), FakeSegmenter())
    binding = bind(parse_label_config(CONFIG), lambda path: cascade.names, 0.25)
    return cascade, binding, project_version([cascade.model_version], binding)


VERSION = stub()[2]


def stub_labeller() -> Labeller:
    cascade, binding, version = stub()
    return Labeller(binding, cascade, version)


def stub_loader(url: str, key: str = LEGACY) -> Loader:
    service = ServiceSettings(label_studio_url=url, label_studio_api_key=Secret(key))
    return Loader(stub()[1], Fetcher(service).fetch, ImageLimits())


class _Dies(Labeller):
    """Ends its process in the middle of the third batch, once."""

    def __init__(self, inner: Labeller, marker: Path) -> None:
        self.__dict__.update(inner.__dict__)
        self._marker = marker
        self._calls = 0

    def infer(self, loaded):
        self._calls += 1
        if self._calls == 3 and not self._marker.exists():
            self._marker.write_text("killed")
            os._exit(1)
        return super().infer(loaded)


def dying_labeller(marker: Path) -> Labeller:
    return _Dies(stub_labeller(), marker)


def prepared(
    url: str,
    journal: Path,
    key: str = LEGACY,
    *,
    sleep=lambda seconds: None,
    chunk: int = 10,
    **options: object,
) -> PrelabelRun:
    """A run over project 1 that does not wait."""
    client = Client(url, Secret(key), sleep=sleep)
    return PrelabelRun(
        client,
        1,
        VERSION,
        Journal(journal, f"{url}#1", VERSION),
        sleep=sleep,
        uploader_sleep=sleep,
        chunk_tasks=chunk,
        **options,
    )


def local_engine(url: str, key: str = LEGACY) -> LocalEngine:
    return LocalEngine(stub_loader(url, key), stub_labeller(), batch=4, workers=2)


def main() -> int:
    url = sys.argv[1]
    journal = Path(sys.argv[2])
    run = prepared(
        url, journal, sleep=lambda seconds: time.sleep(min(seconds, 0.05)), chunk=7, settle_s=0.2
    )
    try:
        summary = run.run(local_engine(url), Choice())
    except LabelingError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(summary.as_text() + "\n")
    return 1 if summary.failed or summary.later or summary.error else 0


if __name__ == "__main__":
    sys.exit(main())
