"""HTTP Basic authentication for every route but the health checks."""

from __future__ import annotations

import base64
import binascii
import hmac

from backend.config.service import ServiceSettings

OPEN_PATHS = ("/health", "/livez", "/readyz")


def is_allowed(settings: ServiceSettings, path: str, authorization: str | None) -> bool:
    """Whether a request may pass.

    Args:
        settings: user and password; without them everyone may.
        path: of the request.
        authorization: the header, which may hold anything.

    Returns:
        The comparison takes the same time wherever the first difference is.
    """
    if not settings.basic_auth_user or path in OPEN_PATHS:
        return True
    kind, _, payload = (authorization or "").partition(" ")
    try:
        given = base64.b64decode(payload.strip().encode("latin-1"), validate=True)
    except (binascii.Error, ValueError):
        given = b""
    expected = f"{settings.basic_auth_user}:{settings.basic_auth_pass.reveal()}"
    # Label Studio's client writes latin-1, others UTF-8; both are compared, whichever fits.
    matches = [
        hmac.compare_digest(given, expected.encode(encoding, "backslashreplace"))
        for encoding in ("utf-8", "latin-1")
    ]
    return any(matches) and kind.lower() == "basic"
