"""A page about the tracks of a video: a timeline, and the frames to look at first."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files

from backend.core.colours import hex_colour
from backend.core.tracks import TrackedVideo
from backend.labeling.review import Look, stretches

_TICKS = 10


def render_tracks(
    video: TrackedVideo,
    looks: Sequence[Look],
    pictures: Mapping[int, bytes],
    numbers: Sequence[int],
) -> str:
    """The page as HTML, with everything in it and nothing from the network.

    Args:
        video: with its tracks.
        looks: frames to look at, the worst first.
        pictures: JPEG of each of them, by its place.
        numbers: of the frames in the whole video.

    Returns:
        HTML. Names from the input are escaped.
    """
    from jinja2 import Environment

    text = files("backend.labeling").joinpath("pages", "tracks.html").read_text(encoding="utf-8")
    rows = [
        {
            "id": track.id,
            "label": track.label,
            "colour": hex_colour(f"{track.label} {track.id}"),
            "stretches": stretches(track),
            "looks": [look for look in looks if look.track == track.id and look.frame in pictures],
        }
        for track in video.tracks
    ]
    figures = [
        {
            "frame": frame,
            "number": numbers[frame],
            "src": "data:image/jpeg;base64," + base64.b64encode(pictures[frame]).decode("ascii"),
            "looks": [look for look in looks if look.frame == frame],
        }
        for frame in dict.fromkeys(look.frame for look in looks)
        if frame in pictures
    ]
    step = max(1, video.n_frames // _TICKS)
    ticks = [
        (round(1000 * place / max(1, video.n_frames), 1), numbers[place])
        for place in range(0, video.n_frames, step)
    ]
    template = Environment(autoescape=True).from_string(text)
    return template.render(
        video=video,
        numbers=list(numbers),
        rows=rows,
        figures=figures,
        ticks=ticks,
        mark=max(0.5, video.n_frames / 400),
    )
