"""The manifest of what was written into a folder; a text one of older versions is taken over."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.files.manifest import Manifest

TEXT = b"aa11  one.json\nbb22  sub/t w o.json\ncut"


def check_known(root: Path) -> None:
    manifest = Manifest(root, "coco")
    assert manifest.names() == ["one.json", "sub/t w o.json"]
    assert manifest.knows("one.json", "aa11")
    assert not manifest.knows("one.json", "bb22")
    assert manifest.names_file("sub/t w o.json")
    assert not manifest.names_file("cut")
    manifest.close()


def test_a_manifest_that_is_text_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".yolosam2-coco").write_bytes(TEXT)
    check_known(tmp_path)
    assert (tmp_path / ".yolosam2-coco").read_bytes().startswith(b"SQLite format 3")
    assert not (tmp_path / ".yolosam2-coco.old").exists()
    check_known(tmp_path)


def test_a_program_that_was_killed_while_taking_over_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".yolosam2-coco.old").write_bytes(TEXT)  # it was set aside, and nothing came then
    check_known(tmp_path)
    assert not (tmp_path / ".yolosam2-coco.old").exists()


def test_two_runs_cannot_hold_one_folder(tmp_path: Path) -> None:
    first = Manifest(tmp_path, "coco")
    with pytest.raises(ConfigError, match="another run is writing there"):
        Manifest(tmp_path, "coco")
    first.close()
    Manifest(tmp_path, "coco").close()
