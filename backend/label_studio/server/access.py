"""HTTP Basic authentication for every route but the health checks."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress

from backend.config.service import ServiceSettings

OPEN_PATHS = ("/health", "/livez", "/readyz")


def foreign_host(settings: ServiceSettings, host: str) -> bool:
    """Whether a request was made for another server's name.

    A page in a browser on this machine can have its own name lead here (DNS rebinding). Only a
    server that listens on this machine alone, and asks for no password, needs to look.

    Args:
        settings: where it listens, and under which other names.
        host: the header.
    """
    if settings.basic_auth_user or not is_loopback(settings.host):
        return False
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.strip("[]").lower().rstrip(".")
    return name not in ("", "localhost", *settings.server_names) and not is_loopback(name)


def is_loopback(address: str) -> bool:
    """True for an address of this machine itself, and for ``localhost``."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


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
