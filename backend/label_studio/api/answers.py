"""What an answer of Label Studio's API means."""

from __future__ import annotations

import json
from typing import Any

from backend.errors import AuthError, ConfigError, InputError, Unavailable
from backend.label_studio.api.retry import AskedToWait, seconds_asked


class Ambiguous(Unavailable):
    """A request may have been carried out or not; look before it is repeated."""


def _said(reply: Any) -> str:
    """What Label Studio says in an answer: the sentence in its JSON, if there is one."""
    text = str(reply.text)
    try:
        found = json.loads(text)
    except ValueError:
        return text[:300]
    detail = found.get("detail") if isinstance(found, dict) else None
    told = found.get("validation_errors") if isinstance(found, dict) else None
    return f"{detail}{f' {told}' if told else ''}"[:300] if detail else text[:300]


def judge(reply: Any, what: str) -> None:
    """Raise what a status of Label Studio's means; nothing for one of success.

    Args:
        reply: an answer of httpx, with its body.
        what: method and path, for the sentence.

    Raises:
        ConfigError: it leads elsewhere.
        AuthError: refused.
        AskedToWait: later.
        Ambiguous: perhaps carried out.
        InputError: anything else.
    """
    status = int(reply.status_code)
    if status < 300:
        return
    if status < 400:
        where = str(reply.headers.get("location", ""))
        raise ConfigError(
            f"Label Studio redirects {what} to {where[:200]}; give the address that this leads"
            " to as --url"
        )
    text = _said(reply)
    if status in (401, 403):
        raise AuthError(
            f"Label Studio answered {status} to {what}: {text}; check the token (Account &"
            " Settings, Personal Access Token, makes a new one) and that its user may see the"
            " project"
        )
    if status == 429:
        asked = seconds_asked(reply.headers.get("retry-after"))
        raise AskedToWait(f"Label Studio asks to slow down ({what})", asked)
    if status >= 500 or status in (408, 425):
        raise Ambiguous(f"Label Studio answered {status} to {what}")
    raise InputError(f"Label Studio answered {status} to {what}: {text}")
