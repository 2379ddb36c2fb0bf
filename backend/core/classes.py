"""The class names of a model and of a dataset, and which names of both mean the same class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from backend.core.types import Instance
from backend.errors import ConfigError, InputError


def class_mapping(
    names: Mapping[int, str], wanted: Sequence[str], rename: Mapping[str, str]
) -> dict[int, int]:
    """Match the classes of a model with those of a dataset, by name.

    Args:
        names: of the model.
        wanted: of the dataset, in order.
        rename: model's name to the dataset's, where they differ.

    Raises:
        ConfigError: no class matches; the message lists both sides.

    >>> class_mapping({0: "person", 2: "car"}, ["Car", "pedestrian"], {"person": "pedestrian"})
    {0: 1, 2: 0}
    """
    exact = {name: k for k, name in enumerate(wanted)}
    folded = {name.casefold(): k for k, name in enumerate(wanted)}
    unknown = [name for name in rename.values() if name not in exact]
    if unknown:
        raise ConfigError(
            f"--rename: {unknown[0]!r} is none of the dataset's classes: {', '.join(wanted)}"
        )
    called = {k: rename.get(name, name) for k, name in names.items()}
    mapping = {k: exact.get(name, folded.get(name.casefold(), -1)) for k, name in called.items()}
    mapping = {k: target for k, target in mapping.items() if target >= 0}
    if not mapping:
        ours = ", ".join(list(names.values())[:12]) + (" ..." if len(names) > 12 else "")
        raise ConfigError(
            f"no class of the model is a class of the dataset. Model: {ours}. Dataset:"
            f" {', '.join(wanted)}. Say which are the same: --rename person=pedestrian"
        )
    return mapping


def class_names(detected: Mapping[int, str], named: Sequence[str]) -> dict[int, str]:
    """The classes of a detector, then those of a namer.

    A class that both know keeps its number and its case.

    >>> class_names({0: "Car"}, ["car", "bus"])
    {0: 'Car', 1: 'bus'}
    """
    every = dict(detected)
    known = {name.casefold() for name in every.values()}
    for name in named:
        if name.casefold() not in known:
            known.add(name.casefold())
            every[max(every, default=-1) + 1] = name
    return every


def map_instances(
    instances: Iterable[Instance], mapping: Mapping[int, int], names: Sequence[str]
) -> list[Instance]:
    """Instances under the classes of a dataset; those of other classes are left out.

    >>> import numpy as np
    >>> found = [Instance(name, k, 0.9, np.zeros(4, np.float32)) for k, name in enumerate("ab")]
    >>> [(one.class_id, one.label) for one in map_instances(found, {1: 0}, ["B"])]
    [(0, 'B')]
    """
    return [
        replace(i, class_id=mapping[i.class_id], label=names[mapping[i.class_id]])
        for i in instances
        if i.class_id in mapping
    ]


IGNORE = 255  # label map value of pixels that count neither for nor against, as in PASCAL VOC


# labelme2voc's names for the values 0 and 255
BACKGROUND_LABEL = "_background_"
IGNORE_LABEL = "__ignore__"
NOT_CLASSES = (BACKGROUND_LABEL, IGNORE_LABEL)


class ClassNames:
    """The classes of a conversion, in order.

    Args:
        names: known before.
        fixed: whether other labels are left out; else they are added in the order they come in.
    """

    def __init__(self, names: Sequence[str] = (), fixed: bool = False) -> None:
        self._ids = {name: k for k, name in enumerate(names)}
        self._fixed = fixed
        self.given = tuple(names) if fixed else ()  # by the user

    @property
    def names(self) -> list[str]:
        """All, in order."""
        return list(self._ids)

    def add(self, names: Sequence[str]) -> None:
        """Names that a source lists; without effect where they are fixed."""
        if not self._fixed:
            for name in names:
                self.index(name)

    def cut(self, length: int) -> None:
        """Forget the names after the first ``length``: they came with an image that failed."""
        for name in self.names[length:] if not self._fixed else ():
            del self._ids[name]

    def index(self, label: str) -> int | None:
        """The index of a label; None if it is left out, or names no class."""
        if label not in self._ids and not self._fixed and label not in NOT_CLASSES:
            self._ids[label] = len(self._ids)
        return self._ids.get(label)


def number_of(names: ClassNames, label: str) -> int:
    """The index of a label that must be one of the classes.

    Raises:
        InputError: it is none of them.

    >>> number_of(ClassNames(["car", "bus"]), "bus")
    1
    """
    index = names.index(label)
    if index is None:
        raise InputError(f"{label!r} is none of the classes")
    return index


MOST_CLASSES = 254  # a label map keeps 0 for background and 255 for ignored pixels


class ClassIndex:
    """Class names and their indices; new names get the next index, unless the list was given.

    Args:
        names: in order; with names, others are refused.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self._fixed = names is not None
        self._ids: dict[str, int] = {name: k for k, name in enumerate(names or ())}
        given = list(names or ())
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise ConfigError(f"classes named twice: {', '.join(twice)}")
        if len(self._ids) > MOST_CLASSES:
            raise ConfigError(
                f"{len(self._ids)} classes; at most {MOST_CLASSES} can be scored at once"
            )

    @property
    def names(self) -> list[str]:
        """In the order of their indices."""
        return list(self._ids)

    @property
    def is_fixed(self) -> bool:
        """Whether the list was given, so that other names are refused."""
        return self._fixed

    @property
    def order(self) -> list[int]:
        """Indices in the order to show classes in: as given, else sorted by name."""
        return (
            list(range(len(self._ids)))
            if self._fixed
            else sorted(range(len(self._ids)), key=lambda k: self.names[k])
        )

    def __len__(self) -> int:
        return len(self._ids)

    def keep(self, count: int) -> None:
        """Forget the names after the first ``count``: they came with a task that failed."""
        self._ids = dict(list(self._ids.items())[:count])

    def index(self, name: str) -> int:
        """The index of a name.

        Raises:
            InputError: an unknown name where the list was given, or one too many.
        """
        if name not in self._ids:
            if self._fixed:
                known = ", ".join(list(self._ids)[:12])
                raise InputError(f"label {name[:80]!r} is none of the classes {known}")
            if len(self._ids) >= MOST_CLASSES:
                raise InputError(
                    f"label {name[:80]!r} would be class {MOST_CLASSES + 1}; choose some with"
                    " --classes"
                )
            self._ids[name] = len(self._ids)
        return self._ids[name]


def renamed(name: str, names: Mapping[str, str]) -> str:
    """The name that a class has elsewhere, or its own name where ``names`` has no other.

    >>> renamed("person", {"person": "pedestrian"}), renamed("car", {})
    ('pedestrian', 'car')
    """
    return names.get(name, name)
