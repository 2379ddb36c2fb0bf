"""The real server, gunicorn included, over a stub predictor.

Run by tests/test_load.py as a program of its own.
"""

from __future__ import annotations

import logging
import os
import time

import numpy as np

from backend.config.process import log_to_stderr
from backend.config.service import load_service_settings
from backend.label_studio.server.serve import Server, _exit_stuck
from backend.label_studio.server.service import Service
from backend.labeling.cascade import Cascade
from tests.support.fakes import FakeDetector, FakeSegmenter

SLEEP_S = float(os.environ.get("STUB_SLEEP", "0"))


class Slow(FakeDetector):
    """Takes its time per call, and for ever on a picture whose first pixel is pure red."""

    def detect(self, images):
        time.sleep(SLEEP_S)
        if any((image[0, 0] == (255, 0, 0)).all() for image in images):
            time.sleep(10_000)
        return super().detect(images)


def load(model_path: str | None) -> Cascade:
    time.sleep(float(os.environ.get("STUB_LOAD", "0")))
    return Cascade(Slow(), FakeSegmenter())


if __name__ == "__main__":
    np.seterr(all="raise")
    settings = load_service_settings({}, os.environ)
    log_to_stderr(logging.INFO, settings.log_format)
    Server(lambda: Service(load, settings, warm=False, on_stuck=_exit_stuck), settings).run()
