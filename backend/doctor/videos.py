"""The first video of a project, fetched and opened the way the backend does it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from backend.doctor.checks import FAULT, NOTE, OK, REFUSED, Check
from backend.errors import AuthError, LabelingError
from backend.files.addresses import suffix_of
from backend.files.videos import open_video
from backend.formats.label_studio.label_config import VideoTag
from backend.formats.tracks.video_rectangle import rate_note
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.origins import shown
from backend.label_studio.api.tasks import Task

_FETCH_S = 300.0
_MOST_BYTES = 2 << 30


def check_video(fetcher: Fetcher, task: Task, tag: VideoTag, token_help: str) -> Check:
    """Whether a task's video can be read, and whether its frame rate is that of the tag.

    Args:
        fetcher: of the backend.
        task: the first one.
        tag: that shows its video.
        token_help: what to do where Label Studio refuses.
    """
    try:
        uri = task.image(tag.data_key)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"video{suffix_of(uri)}"
            with path.open("wb") as file:
                deadline = time.monotonic() + _FETCH_S
                fetcher.download(uri, task.id, deadline, file, _MOST_BYTES)
            info = open_video(path, name=shown(uri)).info
    except AuthError as error:
        return Check(REFUSED, "video", f"task {task.id}: {error}", token_help)
    except LabelingError as error:
        fix = "open the address in a browser that is logged in; Label Studio plays H.264 in MP4"
        return Check(FAULT, "video", f"task {task.id}: {error}", fix)
    about = f"task {task.id}: {shown(uri)} has {info.n_frames or '?'} frames"
    note = rate_note(info.rate, tag.frame_rate)
    if note is not None:
        fix = "change frameRate in the labeling config, or boxes are shown in other frames"
        return Check(NOTE, "video", f"{about}; {note}", fix)
    return Check(OK, "video", f"{about}, {info.rate:.4g} a second, as its tag says")
