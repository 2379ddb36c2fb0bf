"""SAM 2 behind the ``Segmenter`` protocol: one encoder batch, boxes of all images decoded together,
small logits out.

The arithmetic is that of ``sam2.sam2_image_predictor.SAM2ImagePredictor``; its state (one current
image) is not used, and full-size masks are never made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

import numpy as np
import torch
from torch import Tensor, nn

from backend.config.models import Settings
from backend.core.types import Boxes, Embedding, Image, Masks, Prompts
from backend.errors import ConfigError, InputError
from backend.files.atomic import file_digest
from backend.models.chunks import in_chunks
from backend.models.devices import devices_in
from backend.models.lanes import Lanes
from backend.models.openvino import is_bf16, is_wanted
from backend.models.sam2.preprocess import (
    Features,
    beside_model,
    decoded,
    load_model,
    prepared,
    resize_model,
)
from backend.models.sam2.running import InBf16, InParts, Layers, Replayed, small_logits
from backend.models.weights import fetch_from_hub

if TYPE_CHECKING:
    from backend.core.protocols import Frames
    from backend.models.sam2.video import Sam2Session
    from backend.models.table import Model

_CHUNK = 128
_CPU_CHUNK = 4  # on a CPU a few boxes at a time stay in its caches


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _keep_place_code(model: Any) -> None:
    """The encoder interpolates its code of place for each image anew, and always to the same."""
    trunk = getattr(model.image_encoder, "trunk", None)
    if trunk is None or not hasattr(trunk, "_get_pos_embed"):
        return
    make = WeakMethod(trunk._get_pos_embed)  # or the model would hold itself
    kept: dict[tuple[int, int], Tensor] = {}

    def place_code(hw: tuple[int, int]) -> Tensor:
        if hw not in kept:
            kept[hw] = make()(hw)  # type: ignore[misc]
        return kept[hw]

    trunk._get_pos_embed = place_code


def _as_autocast(model: Any) -> None:
    """Hold the weights of encoder and decoder as autocast wants them, which would else convert them
    for every picture; and those of convolutions in the order that tensor cores read.
    """
    for part in (model.image_encoder, model.sam_mask_decoder):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                module.to(torch.bfloat16)
    model.image_encoder.to(memory_format=torch.channels_last)


class Sam2Segmenter:
    """A SAM 2 model with its device.

    Args:
        checkpoint: weights file.
        config: see ``load_model``.
        device: torch device; CUDA runs in bf16 autocast, CPU and MPS in float32.
        box_chunk: most boxes per decoder call; None for what suits the device.
        runtime: ``torch``, or ``openvino`` or ``auto``, see ``openvino.is_wanted``.
        bf16: whether OpenVINO computes in bfloat16.
        size: side of the model's input in pixels, a multiple of 32; None for its own.
    """

    def __init__(
        self,
        checkpoint: Path,
        config: str,
        *,
        device: str,
        box_chunk: int | None = None,
        runtime: str = "torch",
        bf16: bool = False,
        size: int | None = None,
    ) -> None:
        self.model = load_model(config, checkpoint).to(device)
        is_resized = size is not None and size != self.model.image_size
        if size is not None and is_resized:
            resize_model(self.model, size)
        _keep_place_code(self.model)
        own = beside_model(config)
        self.corrects_with_memory = bool(own.get("corrects_with_memory", True))
        self.automatic: Mapping[str, Any] = own.get("automatic", {})  # see AutomaticOptions
        self.device = torch.device(device)
        self._is_held = self.device.type != "cuda"
        self.chunk = box_chunk or _CHUNK
        if self.device.type == "cpu":
            self.chunk = min(self.chunk, _CPU_CHUNK)
        recipe = file_digest(Path(config)) if Path(config).is_file() else config
        recipe += f" {size}" if is_resized else ""
        digest = sha256((file_digest(checkpoint) + recipe).encode()).hexdigest()[:8]
        self._version = f"{checkpoint.stem}-{digest}"
        self._running = Layers(self.model, self.device)
        if self.device.type == "cuda":
            self._running = Replayed(self.model, self.device, self.chunk)
        elif is_wanted(runtime, self.device.type):
            self._running = (InBf16 if bf16 else InParts)(self.model, digest)
            if bf16:  # other masks
                digest = sha256(f"{digest} bf16".encode()).hexdigest()[:8]
                self._version = f"{checkpoint.stem}-{digest}"

    @property
    def version(self) -> str:
        """Name, weights and configuration in one short string."""
        return self._version

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Inference mode and, on CUDA, bf16 autocast; both end with the block."""
        if not self._is_held:  # not before: who trains the model never comes here
            _as_autocast(self.model)
            self._is_held = True
        with (
            torch.inference_mode(),
            # Without its cache, which a recording would read after it is gone.
            torch.autocast(
                self.device.type,
                torch.bfloat16,
                enabled=self.device.type == "cuda",
                cache_enabled=False,
            ),
        ):
            yield

    def _encode(self, images: Sequence[Image]) -> Features:
        return self._running.encode(prepared(images, self.model.image_size, self.device))

    def encode_all(self, images: Sequence[Image]) -> Features:
        """Encode images in one batch; fewer at once where memory does not hold them.

        Args:
            images: RGB uint8 (H, W, 3), at least one, any sizes.

        Raises:
            Unavailable: out of memory even with a single image.
        """
        parts = in_chunks(
            self.device, len(images), len(images), "images", lambda a, b: self._encode(images[a:b])
        )
        if len(parts) == 1:
            return parts[0]
        return Features(
            torch.cat([p.image for p in parts]),
            tuple(torch.cat(level) for level in zip(*(p.fine for p in parts), strict=True)),
        )

    def _decode_boxes(
        self, features: Features, owner: Tensor, corners: Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, h, w) float16 and quality (N,) float32 on the host, for N boxes of any of the
        images; ``owner``, on the host, says of which.
        """

        on_cuda = self.device.type == "cuda"

        def run(start: int, stop: int) -> tuple[Tensor, Tensor]:
            part = self._running.boxes(features, owner[start:stop], corners[start:stop])
            # The next chunk is decoded while these are on their way; nobody waits for other devices
            # below.
            logits, quality = (one.to("cpu", non_blocking=on_cuda) for one in part)
            return logits, quality

        parts = in_chunks(self.device, len(corners), self.chunk, "boxes", run)
        if on_cuda:
            torch.cuda.current_stream(self.device).synchronize()
        logits, quality = ([part[k].numpy() for part in parts] for k in (0, 1))
        return np.concatenate(logits), np.concatenate(quality)

    def segment(self, images: Sequence[Image], boxes: Sequence[Boxes]) -> list[Masks]:
        """Outline the object in each box.

        Images without boxes never reach the encoder; the others share one encoder batch, and their
        boxes are decoded in chunks that may span images.

        Args:
            images: RGB uint8 (H, W, 3), any sizes.
            boxes: (N, 4) float32 xyxy in pixels per image; N may be 0.

        Returns:
            Per image one mask per box, in the same order, on the model's grid.

        Raises:
            Unavailable: out of memory even with a single image or box.
        """
        active = [k for k, of_image in enumerate(boxes) if len(of_image)]
        answers = [self._empty(image) for image in images]
        if not active:
            return answers
        counts = [len(boxes[k]) for k in active]
        with self.scope():
            features = self.encode_all([images[k] for k in active])
            owner = torch.repeat_interleave(torch.arange(len(active)), torch.tensor(counts))
            scaled = np.concatenate(
                [boxes[k] / self._scale(images[k].shape[:2]) for k in active]
            ).astype(np.float32)
            corners = torch.from_numpy(scaled).to(self.device).view(-1, 2, 2)
            logits, quality = self._decode_boxes(features, owner, corners)
        ends = np.cumsum(counts)
        for k, start, end in zip(active, ends - counts, ends, strict=True):
            answers[k] = Masks(
                logits[start:end], np.clip(quality[start:end], 0, 1), _size(images[k])
            )
        return answers

    def _scale(self, size_hw: tuple[int, ...]) -> np.ndarray:
        """What to divide x, y, x, y in pixels of the image by to get pixels of the model's square
        input.
        """
        side = self.model.image_size
        return np.array([size_hw[1] / side, size_hw[0] / side] * 2, np.float32)

    def _empty(self, image: Image) -> Masks:
        side = self.model.image_size // 4
        return Masks(np.zeros((0, side, side), np.float16), np.zeros(0, np.float32), _size(image))

    def embed(self, image: Image) -> Embedding:
        """Encode an image once for many calls of ``refine``."""
        with self.scope():
            features = self._encode([image])
        size = sum(t.element_size() * t.nelement() for t in (features.image, *features.fine))
        return Embedding(features, _size(image), size)

    def start(self, frames: Frames, saved: bytes | None = None) -> Sam2Session:
        """Begin with a video, or go on with it; see ``Sam2Session``."""
        from backend.models.sam2.video import Sam2Session

        return Sam2Session(self, frames, saved)

    def refine(self, embedding: Embedding, prompts: Sequence[Prompts]) -> Masks:
        """Outline the object that each prompt describes.

        A single point without box or previous mask is ambiguous: the model then answers with three
        masks, and the one it thinks best is kept.

        Args:
            embedding: of this segmenter.
            prompts: one per object; coordinates in pixels of the image, ``logits`` from an earlier
                answer for the object.

        Returns:
            One mask per prompt.

        Raises:
            InputError: a prompt with neither box, point nor previous mask.
        """
        if not isinstance(embedding.features, Features):
            raise InputError("embedding: was made by another segmenter")
        logits = []
        quality = []
        with self.scope():
            for prompt in prompts:
                one, sure = self._refine_one(embedding, prompt)
                logits.append(one)
                quality.append(sure)
        if not logits:
            side = self.model.image_size // 4
            return Masks(
                np.zeros((0, side, side), np.float16), np.zeros(0, np.float32), embedding.size_hw
            )
        return Masks(
            np.stack(logits), np.clip(np.array(quality, np.float32), 0, 1), embedding.size_hw
        )

    def _refine_one(self, embedding: Embedding, prompt: Prompts) -> tuple[np.ndarray, float]:
        scale = self._scale(embedding.size_hw)
        points = [prompt.points_xy / scale[:2]]
        labels = [prompt.positive.astype(np.int32)]
        if prompt.xyxy is not None:
            points.insert(0, (prompt.xyxy / scale).reshape(2, 2))
            labels.insert(0, np.array([2, 3], np.int32))
        coordinates = np.concatenate(points).astype(np.float32)
        if not len(coordinates) and prompt.logits is None:
            raise InputError("prompt: expected a box, a point or a previous mask")
        mask = None
        if prompt.logits is not None:
            mask = torch.from_numpy(np.clip(prompt.logits, -32, 32).astype(np.float32)).to(
                self.device
            )[None, None]
        multimask = len(coordinates) == 1 and prompt.xyxy is None and mask is None
        where = torch.from_numpy(coordinates)[None].to(self.device)
        kinds = torch.from_numpy(np.concatenate(labels))[None].to(self.device)
        answer = decoded(self.model, embedding.features, where, kinds, mask, multimask=multimask)
        best = int(answer.quality[0].argmax())
        logits = small_logits(answer.logits[0, best])
        return logits.cpu().numpy(), float(answer.quality[0, best])


def download(model: Model, path: Path) -> None:
    """Fetch published weights, because a person named the model."""
    fetch_from_hub(model.repository, path)


class Sam2Lanes(Sam2Segmenter):
    """A SAM 2 on several devices, which share the pictures of a call; what is asked of one picture
    alone is the first's.

    Args:
        checkpoint: weights file.
        config: see ``load_model``.
        devices: of torch, at least one.
        options: of ``Sam2Segmenter``.
    """

    def __init__(
        self, checkpoint: Path, config: str, *, devices: Sequence[str], **options: Any
    ) -> None:
        super().__init__(checkpoint, config, device=devices[0], **options)
        others = [Sam2Segmenter(checkpoint, config, device=one, **options) for one in devices[1:]]
        self._lanes = Lanes([self, *others], devices)

    def segment(self, images: Sequence[Image], boxes: Sequence[Boxes]) -> list[Masks]:
        """See ``Sam2Segmenter``."""
        return self._lanes.run(
            len(images),
            lambda model, part: Sam2Segmenter.segment(model, images[part], boxes[part]),
        )


def load(path: Path, config: str | None, settings: Settings, device: str) -> Sam2Segmenter:
    """The segmenter in a checkpoint; see ``Sam2Segmenter``.

    Args:
        path: weights.
        config: a name inside the sam2 package, or a yaml file.
        settings: boxes per decoder call, and what runs the model.
        device: of torch, or several with commas.

    Raises:
        ConfigError: no configuration, or one that does not fit.
    """
    if config is None:
        raise ConfigError(
            f"--segmenter: {path} needs --segmenter-config, a yaml file or a name inside the sam2"
            " package"
        )
    devices = devices_in(device)
    options: dict[str, Any] = {
        "box_chunk": settings.sam_batch,
        "runtime": settings.runtime,
        "bf16": is_wanted(settings.runtime, devices[0]) and is_bf16(settings.precision),
        "size": settings.segmenter_size,
    }
    if len(devices) > 1:
        return Sam2Lanes(path, config, devices=devices, **options)
    return Sam2Segmenter(path, config, device=device, **options)
