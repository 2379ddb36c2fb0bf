"""``python -m backend`` is ``yolosam2``."""

from backend.cli.main import program

if __name__ == "__main__":
    program()
