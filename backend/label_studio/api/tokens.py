"""Label Studio's two kinds of token as an Authorization header.

A legacy token is 40 hexadecimal digits and is sent as it is. A personal access token is a JWT that
is good for nothing but fetching an access token at ``/api/token/refresh/``, which lives five
minutes.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable

from backend.config.secret import Secret
from backend.errors import AuthError, Unavailable

_EARLY_S = 20.0  # renewed this long before it ends


def is_personal(key: str) -> bool:
    """Whether a token is a personal access token, by its shape: three parts of base64 with dots
    between.
    """
    return key.count(".") == 2


def _expiry(access: str) -> float:
    """When an access token ends, in seconds since 1970.

    One that cannot be read is taken to last five minutes.
    """
    try:
        middle = access.split(".")[1]
        ends = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["exp"]
        return float(ends)
    except (ValueError, KeyError, IndexError, TypeError):
        return time.time() + 300


class Tokens:
    """The header for one token; safe for many threads, of which one renews.

    Args:
        key: the token as the operator gave it.
        exchange: personal access token and deadline to access token; raises ``AuthError`` when
            refused.
    """

    def __init__(self, key: Secret, exchange: Callable[[str, float], str]) -> None:
        self._key = key
        self._exchange = exchange
        self._lock = threading.Lock()
        self._access: Secret | None = None
        self._ends = 0.0

    @property
    def kind(self) -> str:
        """none, legacy or personal."""
        return (
            "none" if not self._key else "personal" if is_personal(self._key.reveal()) else "legacy"
        )

    def header(self, deadline: float) -> str | None:
        """The value of Authorization, or None without a token.

        Args:
            deadline: of ``time.monotonic``.

        Raises:
            AuthError: the personal access token was refused.
            Unavailable: Label Studio could not be asked.
        """
        if self.kind != "personal":
            return f"Token {self._key.reveal()}" if self._key else None
        if not self._lock.acquire(
            timeout=min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        ):
            raise Unavailable("Label Studio did not hand out an access token in time")
        try:
            if self._access is None or time.time() > self._ends - _EARLY_S:
                access = self._exchange(self._key.reveal(), deadline)
                self._access = Secret(access)
                self._ends = _expiry(access)
            return f"Bearer {self._access.reveal()}"
        finally:
            self._lock.release()

    def renew(self, refused: str, deadline: float) -> str:
        """Another header after this one was refused; threads that were refused together renew once.

        Raises:
            AuthError: a legacy token, which no asking again will change.
        """
        if self.kind != "personal":
            raise AuthError("Label Studio refused LABEL_STUDIO_API_KEY")
        access = self._access
        if access is not None and refused == f"Bearer {access.reveal()}":
            self._ends = 0.0
        return self.header(deadline) or ""
