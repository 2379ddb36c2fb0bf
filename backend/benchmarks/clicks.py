"""What a second click costs against the first: the whole way of a request, on a stock SAM 2 with
random weights.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from backend.config.service import ServiceSettings
from backend.drawing.overlays import encode_picture
from backend.formats.label_studio.make_config import make_config
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.tasks import Task
from backend.label_studio.server.requests import PredictRequest
from backend.label_studio.server.service import Service
from backend.labeling.cascade import Cascade

CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"


class _Pictures(Fetcher):
    """A new 1080p picture for every address."""

    def fetch(self, uri: str, task_id: int | None, deadline: float) -> bytes:
        seed = int(uri)
        rows, columns = np.mgrid[0:1080, 0:1920]
        return encode_picture(
            np.stack([(rows + seed) % 256, columns % 256, (rows + columns) % 256], -1).astype(
                np.uint8
            )
        )


def _click(service: Service, uri: str, points: list[tuple[float, float]]) -> float:
    """CPU seconds of one request."""
    marks = [
        {
            "type": "keypointlabels",
            "from_name": "point",
            "is_positive": True,
            "value": {"x": x, "y": y, "width": 1, "keypointlabels": ["cat"]},
        }
        for x, y in points
    ]
    request = PredictRequest(
        (Task(1, {"image": uri}),), "1", make_config(["cat"]), {"result": marks}
    )
    start = time.process_time()
    service.predict(request)
    return time.process_time() - start


def second_click(repeats: int = 3) -> tuple[float, str]:
    """Median ratio of the second prompt's CPU time to the first's on the same image, and both in
    words.
    """
    from backend.models.sam2.image import Sam2Segmenter
    from backend.models.sam2.stock import untrained_sam2

    with tempfile.TemporaryDirectory() as folder:
        segmenter = Sam2Segmenter(untrained_sam2(Path(folder)), CONFIG, device="cpu")
    service = Service(
        lambda path: Cascade(None, segmenter, names={0: "cat"}),
        ServiceSettings(),
        fetcher=_Pictures(ServiceSettings()),
        warm=False,
    )
    service.start()
    _click(service, "999", [(50, 50)])
    pairs = []
    for k in range(repeats):
        first = _click(service, str(k), [(50, 50)])
        pairs.append((first, _click(service, str(k), [(50, 50), (60, 40)])))
    service.stop(5)
    ratio = statistics.median(second / first for first, second in pairs)
    first, second = (1000 * statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return ratio, f"sam2.1 tiny, 1080p, {first:.0f} ms against {second:.0f} ms of CPU time"
