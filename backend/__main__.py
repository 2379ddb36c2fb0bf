"""``python -m backend`` is ``yolosam2``."""

import sys

from backend.cli import main

if __name__ == "__main__":
    sys.exit(main())
