"""Weights that ``yolosam2 finetune`` made: a folder with a JSON file for each kind of model, which
tells the file of weights, its digest, and what it was made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import ConfigError
from backend.files.atomic import file_digest, write_atomic

RUN_LOCK = ".finetune.lock"  # in the folder of a run, held by what trains there
_FORMAT = 1  # of the JSON file
_PACKAGED = "configs/"  # what names inside the sam2 package begin with


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """One model of a run.

    Attributes:
        path: of its weights.
        base: the model it began as, by name or file.
        config: what its module needs beside the weights; None for what the base has.
        about: everything else that the JSON file tells.
    """

    path: Path
    base: str
    config: str | None
    about: Mapping[str, Any]


def describe_tuned(
    folder: Path, kind: str, weights: Path, base: str, config: str | None, about: Mapping[str, Any]
) -> None:
    """Write the JSON file of a model, which makes it the one that the folder offers.

    Args:
        folder: of the run.
        kind: ``detector`` or ``segmenter``.
        weights: a file in it.
        base: see ``Tuned``.
        config: a name inside the sam2 package, or a file, of which the folder gets a copy.
        about: settings, data and figures, for people.

    Raises:
        Unavailable: the disk refuses.
    """
    own = None if config is None or config.startswith(_PACKAGED) else f"{kind}.yaml"
    if own is not None and config is not None:
        write_atomic(folder / own, Path(config).read_bytes())
        config = own
    document = {
        "format": _FORMAT,
        "weights": weights.name,
        "sha256": file_digest(weights),
        "base": base,
        "config": config,
        "config_sha256": None if own is None else file_digest(folder / own),
        **about,
    }
    document["previous"] = _set_aside(folder, kind, weights.name)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    write_atomic(folder / f"{kind}.json", text.encode())


def _set_aside(folder: Path, kind: str, but: str | None = None) -> str | None:
    """Keep what a folder offers under the name of its weights, unless these are ``but``.

    Returns:
        What is there to go back to; None where there is nothing.
    """
    where = folder / f"{kind}.json"
    try:
        data = where.read_bytes()
        document = json.loads(data)
        weights = Path(str(document["weights"]))
        if weights.name == but:
            previous = document.get("previous")
            return None if previous is None else str(previous)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    name = weights.with_suffix(".json").name
    write_atomic(folder / name, data)
    return name


def roll_back(folder: Path, kind: str) -> Tuned | None:
    """Offer what a folder offered before. What it offers now stays in it under the name of its
    weights.

    Args:
        folder: of a run.
        kind: ``detector`` or ``segmenter``.

    Returns:
        What it offers now; None where it offered nothing before, so that the base is to be named.

    Raises:
        ConfigError: it offers nothing, or what it offered before is not there whole.
        Unavailable: the disk refuses.
    """
    now = read_tuned(folder, kind)
    named = now.about.get("previous")
    where = folder / f"{kind}.json"
    if named is None:
        _set_aside(folder, kind)
        where.unlink()
        return None
    earlier = folder / Path(str(named)).name
    found = _tuned(folder, kind, earlier)
    _set_aside(folder, kind)
    write_atomic(where, earlier.read_bytes())
    return found


def margin_of(tuned: Tuned | None) -> float | None:
    """By how much boxes are grown before a tuned segmenter's outlines are cut to them; None where
    they are not cut.
    """
    return _number(tuned, "box_margin", float("inf"))


def conf_of_tuned(tuned: Tuned | None) -> float | None:
    """The lowest score of what a tuned detector finds that is worth keeping; None where that is not
    known.
    """
    return _number(tuned, "conf", 1.0)


def _number(tuned: Tuned | None, name: str, most: float) -> float | None:
    """A number that a JSON file tells, from 0 on; None where it tells none."""
    found = None if tuned is None else tuned.about.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found <= most and found < float("inf") else None


def is_tuned(folder: Path, kind: str) -> bool:
    """Whether a folder holds a tuned model of a kind."""
    return (folder / f"{kind}.json").is_file()


def read_tuned(folder: Path, kind: str) -> Tuned:
    """The model that a folder offers.

    Raises:
        ConfigError: none is there, or its weights are not those that were written.
    """
    return _tuned(folder, kind, folder / f"{kind}.json")


def _tuned(folder: Path, kind: str, where: Path) -> Tuned:
    try:
        document = json.loads(where.read_text(encoding="utf-8"))
        name, digest = document["weights"], document["sha256"]
        base, config = document["base"], document["config"]
    except FileNotFoundError:
        raise ConfigError(f"{folder}: holds no tuned {kind}; there is no {where.name}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{where}: does not describe a tuned {kind}: {error}") from None
    path = folder / Path(str(name)).name
    if not path.is_file():
        raise ConfigError(f"{where}: its weights are missing: {path}")
    if file_digest(path) != digest:
        raise ConfigError(f"{path}: is not the file that was trained; it was cut or changed")
    return Tuned(
        path=path,
        base=str(base),
        config=None if config is None else _config(folder, str(config), document),
        about=document,
    )


def _config(folder: Path, name: str, document: Mapping[str, Any]) -> str:
    """A name inside the sam2 package, or the copy in the folder."""
    if name.startswith(_PACKAGED) and ".." not in name:
        return name
    path = folder / Path(name).name
    if not path.is_file() or file_digest(path) != document.get("config_sha256"):
        raise ConfigError(f"{path}: is not the configuration that the weights were trained with")
    return str(path)
