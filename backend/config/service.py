"""The settings of the Label Studio backend; environment names are those the ecosystem uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backend.config.fields import flag, number, path, read_fields, text
from backend.config.secret import Secret
from backend.errors import ConfigError


@dataclass(frozen=True)
class ServiceSettings:
    """How the server listens, whom it talks to, and what it may spend."""

    host: str = "127.0.0.1"
    port: int = 9090
    threads: int = 16  # HTTP threads; more than wait in the queue, so that /health always has one
    insecure: bool = False  # listen on an open address without a password
    basic_auth_user: str | None = None
    basic_auth_pass: Secret = field(default_factory=lambda: Secret(""))
    label_studio_url: str | None = None  # the only origin that ever gets the token
    label_studio_public_url: str | None = None  # what browsers call it, where that differs
    label_studio_api_key: Secret = field(default_factory=lambda: Secret(""))
    allowed_hosts: tuple[str, ...] = ()  # names, *.names and networks that images may come from beside Label Studio
    local_files_root: Path | None = None  # serves /data/local-files/ from disk instead of over HTTP
    allow_custom_model_path: bool = False
    queue_size: int = 4
    deadline_s: float = 90.0  # Label Studio gives up after 100
    stuck_after_s: float = 120.0
    fetch_workers: int = 8
    max_image_bytes: int = 64 << 20
    max_body_bytes: int = 256 << 20
    result_cache_bytes: int = 256 << 20
    embed_cache_bytes: int = 1024 << 20


def _url(value: Any) -> str:
    url = text(value).rstrip("/")
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("expected http(s)://host[:port][/path] without user name and query")  # the value may hold a password
    return url


def _hosts(value: Any) -> tuple[str, ...]:
    entries = tuple(entry.strip().lower() for entry in (value.split(",") if isinstance(value, str) else value) if entry.strip())
    for entry in entries:
        if "/" in entry:
            ip_network(entry, strict=False)
        elif "://" in entry or "@" in entry or entry == "*":
            raise ValueError(f"expected host names, *.names, addresses or networks without a scheme, got {entry!r}")
    return entries


def _token(value: Any) -> Secret:
    token = text(value)
    if not all("!" <= c <= "~" for c in token):
        raise ValueError("expected a token of printable ASCII without spaces")
    return Secret(token)


def _root(value: Any) -> Path:
    folder = path(value).resolve()
    if folder == Path(folder.anchor):
        raise ValueError("must not be the root of the file system")
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    return folder


def _mebibytes(value: Any) -> int:
    return int(number(0.001, 1 << 20, float)(value) * (1 << 20))


_READ: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "host": (("LISTEN_HOST",), text),
    "port": (("PORT",), number(0, 65535, int)),
    "threads": (("THREADS",), number(1, 256, int)),
    "insecure": ((), flag),
    "basic_auth_user": (("BASIC_AUTH_USER",), text),
    "basic_auth_pass": (("BASIC_AUTH_PASS",), lambda value: Secret(text(value))),
    "label_studio_url": (("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"), _url),
    "label_studio_public_url": (("LABEL_STUDIO_PUBLIC_URL",), _url),
    "label_studio_api_key": (("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"), _token),
    "allowed_hosts": (("ALLOWED_HOSTS",), _hosts),
    "local_files_root": (("LOCAL_FILES_ROOT", "LOCAL_FILES_DOCUMENT_ROOT"), _root),
    "allow_custom_model_path": (("ALLOW_CUSTOM_MODEL_PATH",), flag),
    "queue_size": (("QUEUE_SIZE",), number(0, 1000, int)),
    "deadline_s": (("PREDICT_DEADLINE",), number(0.1, 3600, float)),
    "stuck_after_s": (("STUCK_AFTER",), number(1, 86400, float)),
    "fetch_workers": (("FETCH_WORKERS",), number(1, 64, int)),
    "max_image_bytes": (("MAX_IMAGE_MB",), _mebibytes),
    "max_body_bytes": (("MAX_BODY_MB",), _mebibytes),
    "result_cache_bytes": (("RESULT_CACHE_MB",), _mebibytes),
    "embed_cache_bytes": (("EMBED_CACHE_MB",), _mebibytes),
}


def load_service_settings(flags: Mapping[str, Any], environ: Mapping[str, str]) -> ServiceSettings:
    """Merge flags over environment and check every value.

    Args:
        flags: field name to value; None means not given.
        environ: the process environment.

    Raises:
        ConfigError: listing every fault; never showing a secret.
    """
    values, faults = read_fields(_READ, flags, environ)
    settings = ServiceSettings(**values)
    if bool(settings.basic_auth_user) != bool(settings.basic_auth_pass):
        faults.append("BASIC_AUTH_USER and BASIC_AUTH_PASS: give both or neither")
    if settings.threads < settings.queue_size + 4:
        faults.append(f"THREADS: {settings.threads} would leave none for /health; expected at least QUEUE_SIZE + 4 = {settings.queue_size + 4}")
    if faults:
        raise ConfigError("; ".join(faults))
    return settings


def check_listening(settings: ServiceSettings) -> None:
    """Refuse to listen where others can reach us without a password.

    Raises:
        ConfigError: an open address, no BASIC_AUTH_USER and BASIC_AUTH_PASS, and not ``--insecure``.
    """
    loopback = settings.host in ("localhost", "::1") or settings.host.startswith("127.")
    if not loopback and not settings.basic_auth_user and not settings.insecure:
        raise ConfigError(
            f"--host {settings.host} can be reached by others: set BASIC_AUTH_USER and BASIC_AUTH_PASS and give them to Label Studio, "
            "or say --insecure where the network itself keeps others out"
        )
