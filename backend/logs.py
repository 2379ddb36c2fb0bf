"""Log lines that are one line each, whatever was logged."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """Escapes control characters in messages, as names and paths in them come from others; tracebacks are our own and stay."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without what could end it or move the cursor."""
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def log_to_stderr(level: int) -> None:
    """Send all logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
