"""Trying again what may work later: the one loop for it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from backend.errors import Unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")


class AskedToWait(Unavailable):
    """Whoever was asked says how long to wait.

    Args:
        message: a sentence for the user.
        after_s: seconds; None where it does not say.
    """

    def __init__(self, message: str, after_s: float | None) -> None:
        super().__init__(message)
        self.after_s = after_s


def seconds_asked(header: str | None) -> float | None:
    """The seconds of a ``Retry-After`` header; None where it has none (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long to wait between tries.

    Attributes:
        first_s: after the first failure; doubled after each.
        most_s: at most so long at once.
        patience_s: at most so long in all.
        tries: at most so many calls; None for any number.
        jitter: the share by which a wait is longer or shorter, so that many do not come at once.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    patience_s: float = 600.0
    tries: int | None = None
    jitter: float = 0.2


class Pauses:
    """The waits of one call, one after the other.

    Args:
        waits: how long they may be.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._next_s = waits.first_s
        self._waited_s = 0.0
        self._failures = 0

    def after(self, error: Exception, patience_s: float | None = None) -> float | None:
        """Seconds to wait after a failure; None where it is the last one.

        Args:
            error: the failure; it may ask for a longer wait.
            patience_s: instead of that of ``waits``.
        """
        waits = self._waits
        self._failures += 1
        if waits.tries is not None and self._failures >= waits.tries:
            return None
        asked = error.after_s if isinstance(error, AskedToWait) else None
        spread = random.uniform(1 - waits.jitter, 1 + waits.jitter)  # noqa: S311 - no secret
        pause = max(self._next_s * spread, min(asked or 0.0, waits.most_s))
        if self._waited_s + pause > (waits.patience_s if patience_s is None else patience_s):
            return None
        self._waited_s += pause
        self._next_s = min(2 * self._next_s, waits.most_s)
        return pause


def patiently(
    call: Callable[[], T],
    waits: Waits,
    sleep: Callable[[float], object],
    stopped: Callable[[], bool] = lambda: False,
) -> T:
    """Call until there is an answer; only for calls that may be repeated.

    Args:
        call: raises ``Unavailable`` where it may work later.
        waits: how long to wait between tries.
        sleep: waits.
        stopped: whether no further try is to be made.

    Raises:
        Unavailable: the last one.
    """
    pauses = Pauses(waits)
    while True:
        try:
            return call()
        except Unavailable as error:
            pause = None if stopped() else pauses.after(error)
            if pause is None:
                raise
            logger.info("%s; trying again in %.1f s", error, pause)
            sleep(pause)
