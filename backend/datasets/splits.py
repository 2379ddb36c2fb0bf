"""Dividing a dataset: always the same way for the same names, so that more pictures later move none
from one split to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from backend.errors import ConfigError


class Division:
    """Shares of a dataset.

    Args:
        shares: names of splits and their shares, which add up to 1.
    """

    def __init__(self, shares: Sequence[tuple[str, float]]) -> None:
        self._shares = shares

    @property
    def names(self) -> list[str]:
        """Of the splits."""
        return [name for name, _ in self._shares]

    def split_of(self, name: str) -> str:
        """The split of an image, by a hash of its name."""
        at = (
            int.from_bytes(
                blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
            )
            / 2**64
        )
        for split, share in self._shares:
            at -= share
            if at < 0:
                return split
        return self._shares[-1][0]


def _is_name(text: str) -> bool:
    """True for what can be the name of a list and of a folder, and is no number."""
    return (
        bool(text.strip())
        and not text.replace(".", "", 1).isdigit()
        and not {"/", "\\"} & set(text)
        and not text.startswith(".")
    )


def parse_split(text: str | None) -> tuple[str | None, Division | None]:
    """``val`` as a name, ``train=0.8,val=0.2`` as a division.

    Raises:
        ConfigError: shares that are no numbers above 0, or a name that cannot be meant as one.
    """
    if text is None or "=" not in text:
        if text is not None and (not _is_name(text) or "," in text):
            raise ConfigError(
                "--split: expected a name such as val, or shares such as train=0.8,val=0.2, got"
                f" {text[:60]!r}"
            )
        return text, None
    shares = []
    for entry in text.split(","):
        name, _, share = (part.strip() for part in entry.partition("="))
        try:
            number = float(share)
        except ValueError:
            number = 0.0
        if not _is_name(name) or not 0 < number < 1e9:
            raise ConfigError(
                f"--split: expected shares such as train=0.8,val=0.2, got {entry[:60]!r}"
            )
        shares.append((name, number))
    total = sum(share for _, share in shares)
    return None, Division([(name, share / total) for name, share in shares])
