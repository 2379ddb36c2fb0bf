"""Which class of a dataset each class of a model is, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from backend.errors import ConfigError
from backend.types import Instance


def class_mapping(names: Mapping[int, str], wanted: Sequence[str], rename: Mapping[str, str]) -> dict[int, int]:
    """Which class of the dataset each class of the model is, by name.

    Args:
        names: of the model.
        wanted: of the dataset, in order.
        rename: model's name to the dataset's, where they differ.

    Raises:
        ConfigError: none of them is; both sides are listed.
    """
    exact = {name: k for k, name in enumerate(wanted)}
    folded = {name.casefold(): k for k, name in enumerate(wanted)}
    unknown = [name for name in rename.values() if name not in exact]
    if unknown:
        raise ConfigError(f"--rename: {unknown[0]!r} is none of the dataset's classes: {', '.join(wanted)}")
    called = {k: rename.get(name, name) for k, name in names.items()}
    mapping = {k: exact.get(name, folded.get(name.casefold(), -1)) for k, name in called.items()}
    mapping = {k: target for k, target in mapping.items() if target >= 0}
    if not mapping:
        ours = ", ".join(list(names.values())[:12]) + (" ..." if len(names) > 12 else "")
        raise ConfigError(
            f"no class of the model is a class of the dataset. Model: {ours}. Dataset: {', '.join(wanted)}. Say which are the same: --rename person=pedestrian"
        )
    return mapping


def map_instances(instances: Iterable[Instance], mapping: Mapping[int, int], names: Sequence[str]) -> list[Instance]:
    """Instances under the classes of a dataset; those of other classes are left out."""
    return [replace(i, class_id=mapping[i.class_id], label=names[mapping[i.class_id]]) for i in instances if i.class_id in mapping]


def parse_rename(text: str | None) -> dict[str, str]:
    """``a=b,c=d`` as a mapping.

    Raises:
        ConfigError: an entry without both sides.
    """
    pairs = [entry.partition("=") for entry in (text or "").split(",") if entry.strip()]
    for left, sign, right in pairs:
        if not sign or not left.strip() or not right.strip():
            raise ConfigError(f"--rename: expected OLD=NEW, got {left + sign + right!r}")
    return {left.strip(): right.strip() for left, _, right in pairs}
