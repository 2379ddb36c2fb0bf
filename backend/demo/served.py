"""The demo's pictures through the real backend app over HTTP, as Label Studio would send them."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from werkzeug.serving import WSGIRequestHandler, make_server

from backend.config.models import Settings
from backend.config.service import ServiceSettings
from backend.core.types import Detections, Image, Prediction
from backend.drawing.overlays import encode_picture
from backend.errors import InputError, Unavailable
from backend.formats.label_studio.from_result import from_result
from backend.formats.label_studio.make_config import make_config
from backend.label_studio.server.app import create_app
from backend.label_studio.server.serve import build_service

_LOADING_S = 120.0


class ServedCascade:
    """Stands where a cascade stands, and asks a running backend instead.

    Args:
        url: of the backend.
        names: class names in order; the label config is made from them.

    Raises:
        Unavailable: the backend refuses the set-up, with its reason.
    """

    def __init__(self, url: str, names: Sequence[str]) -> None:
        self._config = make_config(names)
        self._client = httpx.Client(base_url=url, timeout=_LOADING_S, trust_env=False)
        self.names: Mapping[int, str] = dict(enumerate(names))
        setup = {
            "project": "1.0",
            "schema": self._config,
            "hostname": "",
            "access_token": "",
            "extra_params": None,
        }
        self.model_version = str(self._post("/setup", setup)["model_version"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        reply = self._client.post(path, json=body)
        if reply.status_code != 200:
            raise Unavailable(f"{path}: {reply.status_code} {reply.reason_phrase}")
        return dict(reply.json())

    def infer(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None] | None = None,
        thresholds: Mapping[int, float] | None = None,
    ) -> list[Prediction]:
        """Send one /predict for all images, which travel inside their tasks.

        The backend has its own detector and its own thresholds, so nothing else can be given.

        Raises:
            InputError: boxes or thresholds are given.
            Unavailable: the backend did not answer for all of them.
        """
        if thresholds is not None or any(one is not None for one in given or ()):
            raise InputError("a backend that is asked over HTTP takes no boxes and no thresholds")
        uris = [
            "data:image/png;base64,"
            + base64.b64encode(encode_picture(image, ".png")).decode("ascii")
            for image in images
        ]
        tasks = [
            {"id": k, "data": {"image": uri}, "annotations": [], "predictions": []}
            for k, uri in enumerate(uris)
        ]
        body = {
            "tasks": tasks,
            "project": "1.0",
            "label_config": self._config,
            "params": {"login": None, "password": None, "context": None},
        }
        results = self._post("/predict", body)["results"]
        faults = [item["error"] for item in results if "error" in item]
        if faults:
            raise Unavailable(str(faults[0]))
        order = [self.names[k] for k in sorted(self.names)]
        return [
            self._sized(from_result(item["result"], order, item["model_version"]), image)
            for item, image in zip(results, images, strict=True)
        ]

    @staticmethod
    def _sized(prediction: Prediction, image: Image) -> Prediction:
        """An empty result does not tell the size of its image."""
        return Prediction(
            prediction.instances, (image.shape[0], image.shape[1]), prediction.model_version
        )

    def finish(self, raw: Prediction) -> Prediction:
        """Nothing is left to do; the backend did it."""
        return raw


class _Quiet(WSGIRequestHandler):
    """The app logs by itself."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """The backend on a free port of the loopback address, with its models loaded; gives its URL.

    Raises:
        Unavailable: the models do not load.
    """
    service = build_service(settings, ServiceSettings(allowed_hosts=("127.0.0.1",)))
    server = make_server("127.0.0.1", 0, create_app(service), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, name="demo-server", daemon=True)
    thread.start()
    try:
        service.inference.wait_loaded(_LOADING_S)
        service.inference.check()
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        service.stop(5)
