"""What a whole process is set to: its log lines, and what it says of itself."""

from __future__ import annotations

import json
import logging
import re

import pytest

from backend.config.process import log_to_stderr


def test_a_server_logs_with_time_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log_to_stderr(logging.INFO, "text")
        logging.getLogger("backend.x").info("one\nline")
        assert re.search(
            r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO backend.x: one\\nline$",
            capsys.readouterr().err,
            re.M,
        )
        log_to_stderr(logging.INFO, "json")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("backend.x").exception("one %s", "line")
        (line,) = capsys.readouterr().err.splitlines()
        made = json.loads(line)
        assert (made["level"], made["logger"], made["message"]) == (
            "ERROR",
            "backend.x",
            "one line",
        )
        assert made["time"].endswith("+00:00")
        assert "ValueError: why" in made["traceback"]
    finally:
        root.handlers[:], level = before
        root.setLevel(level)


def test_versions_are_told(run_cli) -> None:
    code, out, _ = run_cli("--version")
    assert code == 0
    assert re.search(r"^yolo-sam2-labeling \d", out)
    assert re.search(r"^torch \d", out, re.M)
