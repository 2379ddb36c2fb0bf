"""The settings of the Label Studio backend; environment names are those the ecosystem uses."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backend.config.fields import (
    flag,
    from_environment,
    from_flags,
    number,
    path,
    read_given,
    setting,
    share,
    text,
)
from backend.config.secret import Secret
from backend.errors import ConfigError


def _url(value: Any) -> str:
    url = text(value).rstrip("/")
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "expected http(s)://host[:port][/path] without user name and query"
        )  # the value may hold a password
    return url


def _names(value: Any) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in str(value).split(",") if name.strip())


def _hosts(value: Any) -> tuple[str, ...]:
    entries = tuple(
        entry.strip().lower()
        for entry in (value.split(",") if isinstance(value, str) else value)
        if entry.strip()
    )
    for entry in entries:
        if "/" in entry:
            ip_network(entry, strict=False)
        elif "://" in entry or "@" in entry or entry == "*":
            raise ValueError(
                "expected host names, *.names, addresses or networks without a scheme, got"
                f" {entry!r}"
            )
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


def _log_format(value: Any) -> str:
    if value not in ("text", "json"):
        raise ValueError(f"expected text or json, got {value!r}")
    return str(value)


def _options(value: Any) -> str:
    options = str(value)
    shlex.split(options)
    return options


@dataclass(frozen=True)
class ServiceSettings:
    """How the server listens, whom it talks to, and what it may spend."""

    host: str = setting(
        "127.0.0.1",
        read=text,
        flags=("--host",),
        environment=("LISTEN_HOST",),
        metavar="ADDRESS",
        help="where to listen; others than 127.0.0.1 need a password or --insecure",
    )
    port: int = setting(
        9090,
        read=number(0, 65535, int),
        flags=("--port",),
        environment=("PORT",),
        metavar="N",
        help="where to listen",
    )
    threads: int = setting(
        16,
        read=number(1, 256, int),
        flags=("--threads",),
        environment=("THREADS",),
        metavar="N",
        help="HTTP threads; the models have one of their own",
    )
    log_format: str = setting(
        "text",
        read=_log_format,
        flags=("--log-format",),
        environment=("LOG_FORMAT",),
        metavar="text|json",
        help="log lines for people, or a JSON object each",
    )
    server_names: tuple[str, ...] = setting(
        (),
        read=_names,
        environment=("SERVER_NAMES",),
        help="other names a proxy calls this server by; without a password, a server on 127.0.0.1"
        " answers no others",
    )
    insecure: bool = setting(
        False,
        read=flag,
        flags=("--insecure",),
        help="listen on an open address without a password",
    )
    basic_auth_user: str | None = setting(
        None,
        read=text,
        environment=("BASIC_AUTH_USER",),
        help="asked for on every route but the health checks",
    )
    basic_auth_pass: Secret = setting(
        Secret(""),
        read=lambda value: Secret(text(value)),
        environment=("BASIC_AUTH_PASS",),
        help="asked for on every route but the health checks",
        shown_default="",
    )
    label_studio_url: str | None = setting(
        None,
        read=_url,
        flags=("--label-studio-url", "--url"),
        environment=("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"),
        metavar="URL",
        help="Label Studio, as this machine reaches it; the only origin that ever gets the token",
    )
    label_studio_public_url: str | None = setting(
        None,
        read=_url,
        environment=("LABEL_STUDIO_PUBLIC_URL",),
        help="what browsers call Label Studio, where that differs",
    )
    label_studio_api_key: Secret = setting(
        Secret(""),
        read=_token,
        environment=("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"),
        help="legacy or personal access token",
        shown_default="",
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        read=_hosts,
        environment=("ALLOWED_HOSTS",),
        help="names, *.names and networks that images may come from beside Label Studio",
    )
    local_files_root: Path | None = setting(
        None,
        read=_root,
        environment=("LOCAL_FILES_ROOT", "LOCAL_FILES_DOCUMENT_ROOT"),
        help="folder that serves /data/local-files/ from disk instead of over HTTP",
    )
    allow_custom_model_path: bool = setting(
        False,
        read=flag,
        environment=("ALLOW_CUSTOM_MODEL_PATH",),
        help="labeling configs may name detectors inside MODEL_ROOT with model_path",
        shown_default="0",
    )
    holdout: float = setting(
        0.0,
        read=share,
        flags=("--holdout",),
        environment=("HOLDOUT",),
        metavar="SHARE",
        help="the control group of prelabel --holdout: its tasks get no masks when they are opened",
        shown_default="",
    )
    training: Path | None = setting(
        None,
        read=path,
        flags=("--training",),
        environment=("TRAINING_DIR",),
        metavar="DIR",
        help="where Start Training trains: a folder for each project, whose weights are used for it"
        " when they are better",
    )
    train_options: str = setting(
        "--minutes 60",
        read=_options,
        flags=("--train-options",),
        environment=("TRAIN_OPTIONS",),
        metavar="OPTIONS",
        help="of yolosam2 finetune, for these trainings",
    )
    auto_train_after: int = setting(
        0,
        read=number(0, 10**9, int),
        environment=("AUTO_TRAIN_AFTER",),
        help="annotations after which a training begins by itself; 0 for never",
        shown_default="0",
    )
    queue_size: int = setting(
        4,
        read=number(0, 1000, int),
        environment=("QUEUE_SIZE",),
        help="requests that may wait for the models; more are answered 503",
    )
    deadline_s: float = setting(
        90.0,
        read=number(0.1, 3600, float),
        environment=("PREDICT_DEADLINE",),
        help="seconds for one request; Label Studio gives up after 100",
    )
    stuck_after_s: float = setting(
        120.0,
        read=number(1, 86400, float),
        environment=("STUCK_AFTER",),
        help="seconds after which a model call that does not end restarts the worker",
    )
    fetch_workers: int = setting(
        8,
        read=number(1, 64, int),
        environment=("FETCH_WORKERS",),
        help="images fetched and decoded at once",
    )
    max_image_bytes: int = setting(
        64 << 20,
        read=_mebibytes,
        environment=("MAX_IMAGE_MB",),
        help="MiB of one image file",
        shown_default="64",
    )
    max_video_bytes: int = setting(
        2048 << 20,
        read=_mebibytes,
        environment=("MAX_VIDEO_MB",),
        help="MiB of one video file",
        shown_default="2048",
    )
    max_body_bytes: int = setting(
        256 << 20,
        read=_mebibytes,
        environment=("MAX_BODY_MB",),
        help="MiB of one request body",
        shown_default="256",
    )
    result_cache_bytes: int = setting(
        256 << 20,
        read=_mebibytes,
        environment=("RESULT_CACHE_MB",),
        help="MiB for results that are remembered",
        shown_default="256",
    )
    embed_cache_bytes: int = setting(
        1024 << 20,
        read=_mebibytes,
        environment=("EMBED_CACHE_MB",),
        help="MiB for encoded images that clicks go on with",
        shown_default="1024",
    )


def load_service_settings(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    called: Mapping[str, str] | None = None,
) -> ServiceSettings:
    """Merge flags over environment and check every value.

    Args:
        flags: field name to value; None means not given.
        environ: the process environment.
        called: field name to flag, where a command calls it otherwise.

    Raises:
        ConfigError: listing every fault; never showing a secret.
    """
    given = from_environment(ServiceSettings, environ)
    given.update(from_flags(ServiceSettings, flags, called))
    values, faults = read_given(ServiceSettings, given)
    settings = ServiceSettings(**values)
    if bool(settings.basic_auth_user) != bool(settings.basic_auth_pass):
        faults.append("BASIC_AUTH_USER and BASIC_AUTH_PASS: give both or neither")
    if settings.threads < settings.queue_size + 4:
        faults.append(
            f"THREADS: {settings.threads} would leave none for /health; expected at least"
            f" QUEUE_SIZE + 4 = {settings.queue_size + 4}"
        )
    if settings.auto_train_after and settings.training is None:
        faults.append("AUTO_TRAIN_AFTER: also give --training DIR, where the trainings go")
    if faults:
        raise ConfigError("; ".join(faults))
    return settings


NO_STUDIO = "give --url and --api-key, or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
_NOT_LET_IN = (
    "give --api-key, or set LABEL_STUDIO_API_KEY; Account & Settings of Label Studio, Personal"
    " Access Token, makes one"
)


def studio_of(settings: ServiceSettings, *, with_token: bool = False) -> str:
    """The address of Label Studio, for a command that asks it.

    Args:
        settings: all of them.
        with_token: whether the command can do nothing without one.

    Raises:
        ConfigError: the address is not known, or the token is missing.
    """
    if settings.label_studio_url is None:
        raise ConfigError(NO_STUDIO)
    if with_token and not settings.label_studio_api_key:
        raise ConfigError(_NOT_LET_IN)
    return settings.label_studio_url


def check_listening(settings: ServiceSettings) -> None:
    """Refuse to listen where others can reach us without a password.

    Raises:
        ConfigError: an open address, no BASIC_AUTH_USER and BASIC_AUTH_PASS, and not
            ``--insecure``.
    """
    loopback = settings.host in ("localhost", "::1") or settings.host.startswith("127.")
    if not loopback and not settings.basic_auth_user and not settings.insecure:
        raise ConfigError(
            f"--host {settings.host} can be reached by others: set BASIC_AUTH_USER and"
            " BASIC_AUTH_PASS and give them to Label Studio, or say --insecure where the network"
            " itself keeps others out"
        )
