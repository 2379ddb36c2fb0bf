"""Write generated scenes as a VOC dataset with a prompt file of true boxes: ``python -m
backend.demo.scenes``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.demo.dataset import write_voc


def main() -> None:
    """Command line: write scenes as a VOC dataset."""
    parser = argparse.ArgumentParser(prog="python -m backend.demo.scenes", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="of the first scene")
    parser.add_argument("--count", type=int, required=True, help="how many scenes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    args = parser.parse_args()
    if args.seed < 0 or args.count < 1:
        parser.error("--seed must be at least 0 and --count at least 1")
    write_voc(args.out, args.seed, args.count)


if __name__ == "__main__":
    main()
