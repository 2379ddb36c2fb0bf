"""The journal of a pre-labelling run: who holds it, and what it knows after any end."""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.label_studio.prelabel.journal import VERSION, Journal


def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j", "p", "v")
    with pytest.raises(ConfigError, match=r"another run is using this journal \(process \d+\)"):
        Journal(tmp_path / "j", "p", "v")
    first.close()
    Journal(tmp_path / "j", "p", "v").close()
    with pytest.raises(
        ConfigError, match="is the journal of p with v; name another with --journal"
    ):
        Journal(tmp_path / "j", "p", "v2")


def check_it_goes_on(path: Path) -> None:
    """What is left of a journal is used, and what comes then is kept."""
    again = Journal(path, "p", "v")
    assert again.done <= {1, 2}
    assert set(again.sent) <= {1, 2, 3}
    again.confirmed([7])
    again.close()
    last = Journal(path, "p", "v")
    assert 7 in last.done
    last.close()


def _line(event: dict[str, object]) -> bytes:
    """A line of the journals that were text."""
    text = json.dumps(event, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def test_a_journal_of_an_older_version_is_taken_over_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "j"
    events = [
        {"run": 1, "format": 1, "project": "p", "model_version": "v"},
        {"sending": [1, 2, 3], "at": 12.5},
        {"done": [1, 2]},
        {"failed": 9, "reason": "broken \n picture"},
        {"unclear": [3], "replaced": [1]},
    ]
    whole = b"".join(map(_line, events))
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        check_it_goes_on(path)
    path.write_bytes(whole)
    taken = Journal(path, "p", "v")
    assert (taken.done, taken.sent, taken.failed) == ({1, 2}, {3: 12.5}, {9: "broken \n picture"})
    assert (taken.unclear, taken.replaced) == ({3}, {1})
    assert (taken.has_failed(9), taken.has_failed(1)) == (True, False)
    assert (taken.was_replaced(1), taken.was_replaced(9)) == (True, False)
    taken.close()
    path.write_bytes(whole.replace(b'"done":[1,2]', b'"done":[1,5]'))
    spoiled = Journal(path, "p", "v")
    assert (spoiled.done, set(spoiled.sent), spoiled.failed) == (
        set(),
        {1, 2, 3},
        {9: "broken \n picture"},
    )
    spoiled.close()
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match="is the journal of p with v"):
        Journal(path, "q", "v")


def test_a_journal_survives_being_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, "p", "v")
    journal.sending([1, 2, 3])
    journal.confirmed([1, 2])
    journal.fail(9, "broken \n picture")
    journal.close()
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1, 1009):
        path.write_bytes(whole[:cut])
        check_it_goes_on(path)
    path.write_bytes(whole)
    same = Journal(path, "p", "v")
    assert (same.done, set(same.sent), same.failed) == ({1, 2}, {3}, {9: "broken \n picture"})
    same.close()


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path, "p", "v").close()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"have version {VERSION + 1}, this one knows {VERSION}"):
        Journal(path, "p", "v")
    assert path.read_bytes() == before
