"""Parts of a model that OpenVINO runs on a CPU, in two thirds of the time or less.

A part is converted when it is first needed, from what torch does with it, and kept on disk under
the model's digest.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backend.errors import ConfigError

Function = Callable[..., tuple[Tensor, ...]]
logger = logging.getLogger(__name__)
_REVISION = 1  # of the functions that are converted; another where they give something else
_MOST_KEPT = 16  # models on disk
_CONVERTING = threading.Lock()  # of all models: two that are traced at once disturb each other


def has_openvino() -> bool:
    """Whether the extra ``openvino`` is installed."""
    return find_spec("openvino") is not None


def quiet_openvino() -> Any:
    """The package, kept from sending what it is used for.

    It asks nobody, and forks a process for each message, which takes seconds without a network.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def is_wanted(runtime: str, device: str) -> bool:
    """Whether parts run through OpenVINO.

    Args:
        runtime: ``torch``, ``openvino``, or ``auto`` for OpenVINO where it is installed.
        device: of torch; OpenVINO is for the CPU alone.

    Raises:
        ConfigError: it is asked for by name, and is not installed.
    """
    if device == "cpu" and runtime == "openvino" and not has_openvino():
        raise ConfigError("--runtime openvino: OpenVINO is not installed; pip install openvino")
    return device == "cpu" and (runtime == "openvino" or (runtime == "auto" and has_openvino()))


def is_bf16(precision: str) -> bool:
    """Whether OpenVINO is to compute in bfloat16.

    Args:
        precision: ``float32``, ``bf16``, or ``auto`` for bf16 where the processor has it.

    Raises:
        ConfigError: it is asked for, and this processor has none.
    """
    if precision == "float32":
        return False
    has = processor_has_bf16()
    if precision == "bf16" and not has:
        raise ConfigError(
            "--precision bf16: this processor has none, and would take longer; --precision auto"
            " takes it where there is"
        )
    return has


def processor_has_bf16() -> bool:
    """Whether the processor computes in bfloat16 by itself, as OpenVINO says."""
    if not has_openvino():
        return False
    return "BF16" in quiet_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def default_folder() -> Path:
    """Where converted parts are kept: below ``XDG_CACHE_HOME``, or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home).absolute() / "yolosam2" / "openvino"


def _forget_old(folder: Path) -> None:
    """Keep the models that were used last: each takes as much as its weights, and training makes a
    new one each time.
    """
    models = sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    for one in models[_MOST_KEPT:]:
        shutil.rmtree(one, ignore_errors=True)


class _Part(nn.Module):
    """A function of a model's as a module, so that the model's weights belong to it."""

    def __init__(self, model: nn.Module, function: Function) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._function(*inputs)


class OpenVinoParts:
    """The parts of one model.

    Args:
        model: whose functions are converted.
        digest: tells its weights and configuration from others'.
        bf16: whether it computes in bfloat16, where the processor can; else in float32.
        folder: for what is converted.
    """

    def __init__(
        self, model: nn.Module, digest: str, *, bf16: bool = False, folder: Path | None = None
    ) -> None:
        self._model = model
        made_by = f"{version('openvino')}-{version('torch')}-{_REVISION}"
        self._folder = (folder or default_folder()) / f"{digest}-{made_by}"
        self._core = quiet_openvino().Core()
        self._precision = "bf16" if bf16 else "f32"
        self._requests: dict[str, Any] = {}
        self._lock = threading.Lock()

    def run(self, part: str, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The answer of a function of the model.

        Args:
            part: names the function and the shapes of its inputs.
            function: of the inputs, with nothing that depends on their values in Python.
            inputs: on the CPU.
        """
        with self._lock:
            if part not in self._requests:
                self._requests[part] = self._made(part, function, inputs)
            request = self._requests[part]
            if request is None:
                return function(*inputs)
            answer = request.infer([np.ascontiguousarray(one.numpy()) for one in inputs])
            return tuple(torch.from_numpy(np.array(one)) for one in answer.values())

    def is_kept(self, part: str) -> bool:
        """Whether a part was converted before, on this machine."""
        return self._path(part).is_file()

    def _path(self, part: str) -> Path:
        return self._folder / f"{part}.xml"

    def _made(self, part: str, function: Function, inputs: Sequence[Tensor]) -> Any:
        """A part that is ready to run; None for one that OpenVINO refuses, which torch runs."""
        try:
            with _CONVERTING:
                return self._compiled(part, function, inputs)
        except Exception as error:  # its messages are whole programs
            told = (str(error).strip().splitlines() or [""])[0][:200]
            logger.warning(
                "OpenVINO refuses a part of the model, torch runs it: %s: %s", part, told
            )
            return None

    def _compiled(self, part: str, function: Function, inputs: Sequence[Tensor]) -> Any:
        path = self._path(part)
        made = self._kept(path)
        if made is None:
            logger.warning("converting a part of the model for OpenVINO, once: %s", part)
            made = self._converted(function, inputs)
            self._keep(made, path)
            made = self._kept(path) or made  # one from a disk rounds otherwise
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": self._precision,
        }
        if path.is_file():  # what this processor makes of it takes four times as long to make
            options["CACHE_DIR"] = str(path.parent / "compiled")
        return self._core.compile_model(made, "CPU", options).create_infer_request()

    def _kept(self, path: Path) -> Any:
        if not path.is_file():
            return None
        with suppress(OSError):
            os.utime(path.parent)  # it is in use
        try:
            return self._core.read_model(path)
        except RuntimeError as error:
            logger.warning("%s: is damaged, and made again: %s", path, str(error).splitlines()[0])
            return None

    def _converted(self, function: Function, inputs: Sequence[Tensor]) -> Any:
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is traced depends on shapes, which are fixed
            example = tuple(torch.zeros(one.shape, dtype=one.dtype) for one in inputs)
            function(*example)  # what a model keeps for a shape is there before it is traced
            return quiet_openvino().convert_model(
                _Part(self._model, function),
                example_input=example,
                input=[one.shape for one in example],
            )

    def _keep(self, made: Any, path: Path) -> None:
        """Put a converted part on disk, whole or not at all; without a disk it works as well."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _forget_old(path.parent.parent)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                whole = Path(folder) / path.name
                quiet_openvino().save_model(made, whole, compress_to_fp16=False)
                # The weights first: a part is there when its other file is.
                for one in (whole.with_suffix(".bin"), whole):
                    shutil.move(one, path.parent / one.name)
        except (OSError, RuntimeError) as error:
            logger.warning("%s: a converted part is not kept: %s", path, error)
