"""Names for model versions, which are long and alike."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backend.errors import ConfigError


def is_meant(asked: str, version: str) -> bool:
    """Whether a name that a person gave means a model version: its beginning, its end, or the
    beginning of one of its digests will do.

    >>> is_meant("demo", "demo+demo-1a2b.3c"), is_meant("1a", "demo+demo-1a2b.3c")
    (True, True)
    >>> is_meant("emo", "demo+demo-1a2b.3c")
    False
    """
    parts = re.split(r"[-+.]", version)
    return version.endswith(asked) or any(one.startswith(asked) for one in (version, *parts[1:]))


class VersionNames:
    """Gives model versions the names that a person chose for them.

    Args:
        names: by version, its beginning or its end.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._called: dict[str, str] = {}  # versions met, and their names

    def __call__(self, version: str) -> str:
        """The name of a version, or the version itself.

        >>> VersionNames({"demo": "before"})("demo+demo-1a2b")
        'before'
        """
        if version not in self._called:
            self._called[version] = self.look_up(version)
        return self._called[version]

    def look_up(self, version: str) -> str:
        """The same, without taking note that there is such a version."""
        if version in self._names:
            return self._names[version]
        fits = [key for key in self._names if is_meant(key, version)]
        return self._names[max(fits, key=len)] if fits else version

    def check(self) -> list[str]:
        """Which names met no version.

        Raises:
            ConfigError: one name was given to two versions.
        """
        for name in self._names.values():
            same = sorted(version for version, given in self._called.items() if given == name)
            if len(same) > 1:
                raise ConfigError(f"--name: {' and '.join(same)} would both be called {name}")
        unused = [key for key in self._names if not any(is_meant(key, one) for one in self._called)]
        told = f"; there are {', '.join(self._called)}" if self._called else ""
        return [f"--name: no model version begins or ends with {key}{told}" for key in unused]
