"""``yolosam2 tracks``: identities repaired after ``yolosam2 video``."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.common import Commands, add_command, print_result
from backend.errors import ConfigError

_EPILOG = """examples:
  yolosam2 tracks list labels/
  yolosam2 tracks merge labels/ street 3 7      what was track 7 is track 3 as well
  yolosam2 tracks split labels/ street 3 120    from frame 120 on, track 3 is another object
  yolosam2 tracks drop labels/ street 5 6
  yolosam2 tracks label labels/ street 3 car

It changes labels/tracks/street.json. Run `yolosam2 video` with the same SRC and --out again to
write the other files anew: no model is needed for that."""
_WORDS = {
    "list": "[VIDEO]",
    "merge": "VIDEO TRACK TRACK ..",
    "split": "VIDEO TRACK FRAME",
    "drop": "VIDEO TRACK ..",
    "label": "VIDEO TRACK CLASS",
}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "tracks",
        help="repair the identities of followed objects",
        about="List, join, part, drop or rename the tracks that yolosam2 video wrote.",
        run=run,
        epilog=_EPILOG,
    )
    parser.add_argument("action", choices=tuple(_WORDS), help="what to do")
    about = "output folder of yolosam2 video"
    parser.add_argument("out", type=Path, metavar="OUT", help=about)
    about = "; ".join(f"{action}: {words}" for action, words in _WORDS.items())
    parser.add_argument("words", nargs="*", metavar="..", help=about)


def run(args: argparse.Namespace) -> int:
    """Repair the tracks."""
    from backend.labeling import track_edits as edits

    if args.action == "list":
        names = args.words or edits.videos_in(args.out)
        if not names:
            raise ConfigError(f"{args.out}: is no output folder of yolosam2 video")
        print_result("\n".join(edits.listing(edits.open_tracks(args.out, one)) for one in names))
        return 0
    least = 3 if args.action in ("merge", "split", "label") else 2
    exact = args.action in ("split", "label")
    if len(args.words) < least or (exact and len(args.words) > least):
        raise ConfigError(f"tracks {args.action} OUT: expected {_WORDS[args.action]}")
    name, *words = args.words
    kept = edits.open_tracks(args.out, name)
    video = kept.video
    if args.action == "merge":
        video = edits.merge(video, _numbers(words))
    elif args.action == "drop":
        video = edits.drop(video, _numbers(words))
    elif args.action == "split":
        number, frame = _numbers(words)
        video, new = edits.split(video, number, edits.place_of(kept, frame))
        print_result(f"the new track is {new}")
    else:
        (number,) = _numbers(words[:1])
        video = edits.rename(video, number, words[1], kept.names)
    path = edits.save(args.out, kept, video)
    print_result(f"wrote {path}; run yolosam2 video again to write the other files anew")
    return 0


def _numbers(words: list[str]) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError:
        raise ConfigError(f"tracks: expected whole numbers, got {' '.join(words)!r}") from None
