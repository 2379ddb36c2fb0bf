"""Runs over videos: each is followed through, its tracks are kept, and files are made of them."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tqdm import tqdm

from backend.core.protocols import VideoSegmenter
from backend.core.types import Detections, Image, Instance
from backend.errors import (
    ConfigError,
    InputError,
    LabelingError,
    counted,
    is_disk_full,
)
from backend.files.atomic import ensure_writable, file_digest, set_aside, sweep_stale
from backend.files.images import DEFAULT_LIMITS, ImageLimits
from backend.files.videos import Frame, FrameChoice, Video, open_video
from backend.formats.prompt_file import PromptFile
from backend.labeling.accepted import GapFollower, accepted_frames
from backend.labeling.cascade import Cascade
from backend.labeling.checkpoint import EVERY, Checkpoint
from backend.labeling.follow import Follower, FollowOptions
from backend.labeling.followed import Followed
from backend.labeling.given_masks import AtPlaces, digest_of, given_masks, masks_folder
from backend.labeling.track_files import (
    KeptTracks,
    partial_path,
    read_tracks,
    rewrite_tracks,
    summary_of,
    tracks_path,
    write_tracks,
)
from backend.labeling.track_outputs import needs_frames, write_frame_files, write_whole_files
from backend.labeling.video_summary import VideoSummary


@dataclass(frozen=True, kw_only=True)
class VideoRunOptions:
    """How ``label_videos`` runs.

    Attributes:
        formats: of ``track_outputs.FORMATS``.
        choice: which frames.
        follow: how objects are followed.
        limits: of a frame.
        prompts: boxes by ``<video>/<frame>``, in the place of a detector.
        masks: folder of outlined objects, in the place of a detector; see ``given_masks``.
        url_prefix: put before the name of a video to make its address in Label Studio.
        between_accepted: whether only the gaps between frames that a person corrected are followed
            anew.
        checkpoint: frames after which the work on a video is kept.
        overwrite: whether videos are done again that are done.
        progress: whether to show bars.
    """

    formats: tuple[str, ...] = ("labelme", "mp4", "page")
    choice: FrameChoice = field(default_factory=FrameChoice)
    follow: FollowOptions = field(default_factory=FollowOptions)
    limits: ImageLimits = DEFAULT_LIMITS
    prompts: PromptFile | None = None
    masks: Path | None = None
    url_prefix: str = ""
    between_accepted: bool = False
    checkpoint: int = EVERY
    overwrite: bool = False
    progress: bool = True


class _Stopped(Exception):
    """The user wants to end."""


class VideoRun:
    """One run over videos.

    Args:
        cascade: detects and outlines.
        segmenter: follows.
        out: output folder, made if missing.
        options: see ``VideoRunOptions``.
        stop: set it to end early.

    Raises:
        ConfigError: nowhere to write.
    """

    def __init__(
        self,
        cascade: Cascade,
        segmenter: VideoSegmenter,
        out: Path,
        options: VideoRunOptions,
        stop: threading.Event | None = None,
    ) -> None:
        ensure_writable(out)
        sweep_stale(out)
        self._cascade = cascade
        self._segmenter = segmenter
        self._out = out
        self._options = options
        self._stop = stop or threading.Event()
        self._names = [cascade.names[k] for k in sorted(cascade.names)]
        self.summary = VideoSummary()

    def run(self, sources: Sequence[Path]) -> VideoSummary:
        """Go through the videos; one that fails does not stop the others.

        Args:
            sources: video files and folders of pictures.

        Raises:
            ConfigError: two videos of one name, or one that would be replaced.
        """
        names = Counter(map(name_of, sources))
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ConfigError(f"two of the videos are called {twice[0]!r}; run one at a time")
        for source in sources:
            drawn = self._out / f"{name_of(source)}.mp4"
            if "mp4" in self._options.formats and drawn.resolve() == source.resolve():
                raise ConfigError(
                    f"{source}: would be replaced by the drawn video; name another --out"
                )
        for source in sources:
            try:
                self._one(source)
            except _Stopped:
                self.summary.stopped = "interrupted"
            except (LabelingError, OSError) as error:
                self.summary.failed.append((str(source), str(error)))
                if is_disk_full(error):
                    self.summary.stopped = str(error)
            if self.summary.stopped:
                break
        return self.summary

    def _one(self, source: Path) -> None:
        options = self._options
        video = open_video(source, options.limits)
        made = self._made_with(source)
        path = tracks_path(self._out, name_of(source))
        kept = read_tracks(path)
        if options.between_accepted:
            kept = self._between(source, video, kept)
        elif kept is not None and kept.made == made and not options.overwrite:
            self.summary.done += 1
        else:
            if path.exists() and (kept is None or kept.repaired):
                copy = set_aside(path)  # somebody's work, or nothing that is known here
                self.summary.notes.append(f"{path}: kept what was there as {copy.name}")
            kept = self._follow(source, video, made)
        self.summary.videos += 1
        self.summary.frames += kept.video.n_frames
        self.summary.per_class.update(track.label for track in kept.video.tracks)
        self.summary.tracks[kept.video.name] = summary_of(kept.video)
        self._write(source, kept)

    def _between(self, source: Path, video: Video, kept: KeptTracks | None) -> KeptTracks:
        """The tracks with the gaps between accepted frames followed anew.

        Raises:
            InputError: nothing was followed before, or fewer than two frames are accepted.
        """
        name = name_of(source)
        if kept is None:
            raise InputError(f"{source}: was not followed before; run without --between-accepted")
        fixed, faults = accepted_frames(self._out / "labelme" / name, kept.frames, kept.video)
        self.summary.failed += [(str(source), sentence) for sentence in faults]
        if len(fixed) < 2:
            raise InputError(
                f"{source}: --between-accepted needs two frames or more whose labelme files in"
                f" {self._out / 'labelme' / name} were corrected, there are {len(fixed)}"
            )
        numbers: list[int] = []
        follower = GapFollower(self._cascade, self._segmenter)
        found = follower.run(kept.video, self._images(source, video, numbers), fixed)
        if tuple(numbers) != kept.frames[: len(numbers)]:
            raise InputError(
                f"{source}: these are other frames than those that were followed; give the same"
                " --every, --start, --end and --max-side as before"
            )
        names = dict.fromkeys([*kept.names, *(track.label for track in found.tracks)])
        path = rewrite_tracks(self._out, replace(kept, video=found, names=tuple(names)))
        kept = read_tracks(path) or kept
        self.summary.notes.append(
            f"{name}: followed anew between {counted(len(fixed), 'accepted frame')}"
        )
        return kept

    def _made_with(self, source: Path) -> str:
        """Identifies what decides the tracks of a video."""
        options = self._options
        stat = source.stat()
        size = stat.st_size if source.is_file() else len(list(source.iterdir()))
        prompts = None if options.prompts is None else file_digest(options.prompts.path)
        if options.masks is not None:
            prompts = digest_of(masks_folder(options.masks, name_of(source)))
        recipe = [
            self._cascade.model_version,
            self._segmenter.version,
            asdict(options.follow),
            asdict(options.choice),
            prompts,
            size,
            source.name,
        ]
        return sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]

    def _follow(self, source: Path, video: Video, made: str) -> KeptTracks:
        numbers: list[int] = []
        given = self._given(name_of(source), numbers)
        follower = Follower(self._cascade, self._segmenter, self._options.follow)
        path = partial_path(self._out, name_of(source))
        checkpoint = Checkpoint(path, made, self._options.checkpoint)
        found = follower.run(self._images(source, video, numbers), given, checkpoint)
        if follower.began_at:
            self.summary.notes.append(f"{name_of(source)}: went on at frame {follower.began_at}")
        self.summary.notes += video.info.notes
        self.summary.failed += [(str(source), sentence) for sentence in video.info.faults]
        if not numbers:
            raise InputError(f"{source}: has no frame that can be read")
        tracked = found.as_video(
            name_of(source),
            video.info.rate / self._options.choice.every,
            self._cascade.model_version,
        )
        self._note(name_of(source), found)
        write_tracks(self._out, tracked, self._names, numbers, made)
        checkpoint.clear()
        kept = read_tracks(tracks_path(self._out, tracked.name))
        # Files are made of what is on the disk, so that they are the same whenever they are made.
        return kept or KeptTracks(tracked, tuple(numbers), made)

    def _images(self, source: Path, video: Video, numbers: list[int]) -> Iterator[Image]:
        """The frames, with a bar; what was read stays where the rest cannot be."""
        frames = self._with_bar(video, f"follow {name_of(source)}")
        try:
            for frame in frames:
                numbers.append(frame.number)
                yield frame.image
        except InputError as error:
            if not numbers:
                raise
            self.summary.failed.append((str(source), f"{error}; what was before it is kept"))

    def _with_bar(self, video: Video, about: str) -> Iterator[Frame]:
        total = video.info.n_frames
        with tqdm(
            total=None if total is None else -(-total // self._options.choice.every),
            unit="frame",
            desc=about[:40],
            disable=not self._options.progress,
            file=sys.stderr,
            dynamic_ncols=True,
        ) as bar:
            for frame in video.frames(self._options.choice):
                if self._stop.is_set():
                    raise _Stopped
                yield frame
                bar.update()

    def _given(
        self, name: str, numbers: Sequence[int]
    ) -> Mapping[int, Detections | Sequence[Instance]] | None:
        """Boxes of a prompt file, or outlined objects, by the place of their frame.

        Args:
            name: of the video.
            numbers: of the frames, which grow while they are read.
        """
        if self._options.masks is not None:
            folder = masks_folder(self._options.masks, name)
            return AtPlaces(given_masks(folder, self._names[0]), numbers)
        prompts = self._options.prompts
        if prompts is None:
            return None
        found = _given_to(prompts, name)
        if not found:
            theirs = next(iter(prompts.by_image), "nothing")
            raise InputError(
                f"{prompts.path}: has no boxes for {name}; it names for example"
                f" {theirs!r}, the frames are called {name}/00000 and so on"
            )
        return AtPlaces(found, numbers)

    def _note(self, name: str, found: Followed) -> None:
        notes = self.summary.notes
        if found.n_refused:
            notes.append(
                f"{name}: {counted(found.n_refused, 'detection')} left out, as"
                f" {self._options.follow.identities.most} objects were followed already"
                " (--max-objects)"
            )
        flips = {track: count for track, count in found.flips.items() if count}
        if flips:
            listed = ", ".join(f"{track} ({count} times)" for track, count in flips.items())
            notes.append(
                f"{name}: the detector changed its mind about the class of track {listed}; each has"
                " the class of most votes"
            )

    def _write(self, source: Path, kept: KeptTracks) -> None:
        formats = self._options.formats
        names = kept.names or tuple(self._names)
        address = self._options.url_prefix + quote(source.name, errors="surrogateescape")
        paths, losses = write_whole_files(kept, formats, self._out, names, address)
        if "label-studio" in formats and (source.is_dir() or self._options.choice.every > 1):
            self.summary.notes.append(
                f"{kept.video.name}: Label Studio plays files, and all their frames; tasks of a"
                " folder, or of each N-th frame, show boxes where they do not belong"
            )
        self.summary.notes += [f"{kept.video.name}: {n} {what}" for what, n in losses.items()]
        self.summary.outputs.append(tracks_path(self._out, kept.video.name))
        self.summary.outputs += paths
        if not needs_frames(formats):
            return
        video = open_video(source, self._options.limits)
        frames = self._with_bar(video, f"write {kept.video.name}")
        written = write_frame_files(
            kept,
            frames,
            self._options.formats,
            self._out,
            names,
            self._options.url_prefix,
            overwrite=self._options.overwrite,
        )
        self.summary.outputs += written.outputs
        if written.n_kept:
            self.summary.notes.append(
                f"{kept.video.name}: kept the files of {counted(written.n_kept, 'frame')} that a"
                " person made or changed (--overwrite replaces them, with a .bak copy)"
            )


def name_of(source: Path) -> str:
    """What a video is called in all outputs: its file without suffix, or its folder.

    >>> name_of(Path("clips/street.mp4"))
    'street'
    """
    return source.name if source.is_dir() else source.stem


def _given_to(prompts: PromptFile, name: str) -> dict[int, Detections]:
    """Boxes by the number of their frame."""
    found = {}
    for key, detections in prompts.by_image.items():
        path = PurePosixPath(key)
        number = path.with_suffix("").name
        if path.parent.as_posix() == name and number.isdecimal():
            found[int(number)] = detections
    return found
