"""What is done with one picture of a run, the same for every engine: look what is there, load,
encode and write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backend.core.boxes import no_detections
from backend.core.protocols import Labeler
from backend.core.types import Detections, Image
from backend.errors import LabelingError, Unavailable, as_sentence, disk_error
from backend.files.find import is_newer
from backend.files.images import DEFAULT_LIMITS, ImageLimits, read_image
from backend.files.ownership import state_of, write_together
from backend.formats.prompt_file import PromptFile
from backend.labeling.run_output import RunOutput
from backend.labeling.sources import ImageItem


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run: sizes, what to overwrite, where given boxes come from."""

    batch: int = 8
    workers: int | None = None
    overwrite: bool = False
    refresh: bool = False  # do again what is done, but keep what a person made or changed
    limits: ImageLimits = DEFAULT_LIMITS
    prompts: PromptFile | None = None
    progress: bool = True
    stage: Callable[[Image], Image] | None = None  # see ``models.devices.staging``


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What is there of a picture already, and which outputs still want it, by their numbers."""

    item: ImageItem
    wanted: tuple[int, ...] = ()
    n_hand_made: int = 0  # files that a person made or changed
    is_behind: bool = False  # corrected in one format, and not in another
    is_done: bool = False
    is_outdated: bool = False  # done, and the picture changed since
    is_otherwise: bool = False  # done by other models or settings


@dataclass(frozen=True, eq=False)
class LoadedPicture:
    """A picture, and its boxes where they are given."""

    image: Image  # (H, W, 3) uint8 RGB
    given: Detections | None


@dataclass(frozen=True, eq=False)
class Done:
    """What was written of a picture: whether each output's files were, and what is in them."""

    written: tuple[bool, ...]
    per_class: Counter[str]
    left_out: Counter[str]


class PictureWork:
    """The steps of one picture; they change nothing here and run on any thread.

    Args:
        outputs: what is written.
        options: of the run.
        version: of the models.
    """

    def __init__(self, outputs: Sequence[RunOutput], options: RunOptions, version: str) -> None:
        self._outputs = outputs
        self._options = options
        self._version = version

    def look(self, item: ImageItem) -> Looked:
        """See what is there.

        Raises:
            Unavailable: the system cannot even look, or a store refuses.
        """
        try:
            states = [self._state(output, item) for output in self._outputs]
            wanted = tuple(k for k, state in enumerate(states) if state is None)
            is_done = not wanted and "done" in states
            paths = [(one, path) for one in self._outputs for path in one.paths(item)]
            made_by = {one.version_of(path) for one, path in paths} if is_done else set()
            return Looked(
                item=item,
                wanted=wanted,
                n_hand_made=states.count("hand-made"),
                is_behind="hand-made" in states and "done" in states,
                is_done=is_done,
                is_outdated=is_done and any(is_newer(item.path, path) for _, path in paths),
                is_otherwise=bool(made_by - {None, self._version}),
            )
        except LabelingError:
            raise
        except OSError as error:
            raise disk_error(error, item.path) from error
        except Exception as error:  # each store has errors of its own
            raise Unavailable(
                f"{item.path}: cannot look at its files: {as_sentence(error)}"
            ) from error

    def _state(self, output: RunOutput, item: ImageItem) -> str | None:
        if self._options.overwrite:
            return None
        state = state_of(output.paths(item), output.is_ours)
        return None if self._options.refresh and state == "done" else state

    def load(self, item: ImageItem) -> LoadedPicture:
        """Read and decode.

        Raises:
            InputError: the picture is unusable.
        """
        options = self._options
        image = read_image(item.path, options.limits)
        if options.stage is not None:
            image = options.stage(image)
        given = (
            None
            if options.prompts is None
            else options.prompts.lookup(item.relative) or no_detections()
        )
        return LoadedPicture(image, given)

    def infer(self, labeler: Labeler, loaded: Sequence[LoadedPicture]) -> list[Any]:
        """What the models say, in the form that ``finish`` takes."""
        given = None if self._options.prompts is None else [one.given for one in loaded]
        return list(labeler.infer([one.image for one in loaded], given))

    def finish(self, labeler: Labeler, looked: Looked, loaded: LoadedPicture, raw: Any) -> Done:
        """Make masks and write files.

        Raises:
            InputError: the picture cannot be written in a format.
            Unavailable: the disk refuses.
        """
        prediction = labeler.finish(raw)
        outputs = [self._outputs[k] for k in looked.wanted]
        encoded = [(one, one.encode(looked.item, loaded.image, prediction)) for one in outputs]
        # A disk takes many files at once, while each waits until it is safely there.
        written = tuple(
            write_together(files, output.is_ours, overwrite=self._options.overwrite)
            for output, files in encoded
        )
        labels = Counter(instance.label for instance in prediction.instances)
        return Done(written, labels, Counter(prediction.left_out))
