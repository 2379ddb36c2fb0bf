"""Write generated scenes, or videos with ``--frames``, as a VOC dataset with a prompt file of true
boxes, or one video with ``--film`` as an MP4 with its truth: ``python -m backend.demo.scenes``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.demo.dataset import write_clips, write_film, write_voc


def main() -> None:
    """Command line: write scenes as a VOC dataset."""
    parser = argparse.ArgumentParser(prog="python -m backend.demo.scenes", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="of the first scene")
    parser.add_argument("--count", type=int, default=1, help="how many scenes")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="folder of the dataset")
    where.add_argument("--film", type=Path, help="MP4 file, with its truth in a JSON beside it")
    parser.add_argument("--frames", type=int, help="write videos of so many frames, not pictures")
    args = parser.parse_args()
    if args.seed < 0 or args.count < 1:
        parser.error("--seed must be at least 0 and --count at least 1")
    if args.film is not None:
        write_film(args.film, args.seed, args.frames or 60)
    elif args.frames is None:
        write_voc(args.out, args.seed, args.count)
    elif args.frames < 1:
        parser.error("--frames must be at least 1")
    else:
        write_clips(args.out, args.seed, args.count, args.frames)


if __name__ == "__main__":
    main()
