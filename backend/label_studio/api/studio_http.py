"""Requests to Label Studio with its token, which goes to Label Studio's origin and nowhere else,
and to other hosts within the same limits.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

from backend.config.service import ServiceSettings
from backend.errors import AuthError, InputError, Unavailable
from backend.label_studio.api.origins import Policy, Resolve, Url, parse_url, resolve_host
from backend.label_studio.api.retry import AskedToWait, seconds_asked
from backend.label_studio.api.tokens import Tokens
from backend.label_studio.api.transport import Limits, Reply, request

MAX_RENEWALS = 3
_LOCAL_FILES = "/data/local-files/"


def raise_for_status(reply: Reply, url: Url) -> None:
    """Raise what a status other than success means."""
    status = reply.status
    if 200 <= status < 300:
        return
    is_local = url.target.startswith(_LOCAL_FILES)
    if status == 403 and is_local and b"disabled" in reply.body:
        raise AuthError(
            f"{url}: Label Studio does not serve local files; start it with"
            " LOCAL_FILES_SERVING_ENABLED=true"
        )
    if status in (401, 403):
        raise AuthError(
            f"{url}: answered {status}; check LABEL_STUDIO_API_KEY and that its user may see the"
            " project"
        )
    if status in (408, 425, 429) or status >= 500:
        asked = seconds_asked(reply.headers.get("retry-after"))
        raise AskedToWait(f"{url}: answered {status}", asked)
    why = ""
    if status == 404 and is_local:
        why = (
            "; the file is not there, or no local storage of a project that the token's user may"
            " see covers it"
        )
    raise InputError(f"{url}: answered {status}{why}")


@dataclass(frozen=True, eq=False)
class Download:
    """Where a large body goes.

    Attributes:
        file: opened for writing.
        max_bytes: larger bodies are refused.
    """

    file: BinaryIO
    max_bytes: int


class StudioHttp:
    """Sends requests; safe for many threads.

    Args:
        settings: addresses, token, limits.
        resolve: host and port to addresses.
        limits: of one request; its ``max_bytes`` is taken from the settings.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        resolve: Resolve = resolve_host,
        limits: Limits | None = None,
    ) -> None:
        self.base = parse_url(settings.label_studio_url) if settings.label_studio_url else None
        self.policy = Policy(self.base, settings.allowed_hosts, resolve)
        given = limits or Limits()
        self._limits = Limits(
            given.connect_s, given.read_s, given.total_s, settings.max_image_bytes
        )
        self.tokens = Tokens(settings.label_studio_api_key, self._exchange)

    def get_json(self, path: str) -> Any:
        """What Label Studio's API says at ``path``.

        Raises:
            InputError: no such path, or not JSON.
            AuthError: refused.
            Unavailable: not reachable.
        """
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One API call with JSON in and out; see ``get_json``."""
        reply = self.send(method, path, body)
        raise_for_status(reply, self.join(path))
        return _json(reply, self.join(path))

    def send(self, method: str, path: str, body: Any = None) -> Reply:
        """One API call whose status the caller judges."""
        data = None if body is None else json.dumps(body).encode()
        return self.authorized(
            self.join(path), time.monotonic() + self._limits.total_s, method, data
        )

    def join(self, path: str) -> Url:
        """A path of Label Studio as its address.

        Raises:
            Unavailable: ``LABEL_STUDIO_URL`` is not set.
        """
        if self.base is None:
            raise Unavailable(
                "LABEL_STUDIO_URL is not set, so images of Label Studio cannot be fetched"
            )
        prefix = self.base.target.rstrip("/")
        root = f"{self.base.scheme}://{self.base.host_header}"
        return parse_url(
            root + (path if prefix and path.startswith(prefix + "/") else prefix + path)
        )

    def authorized(
        self,
        url: Url,
        deadline: float,
        method: str = "GET",
        body: bytes | None = None,
        download: Download | None = None,
    ) -> Reply:
        """A request to Label Studio; an access token that was refused is renewed."""
        header = self.tokens.header(deadline)
        headers = {"Authorization": header} if header else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        reply = self.send_to(url, headers, deadline, method, body, download)
        # More than once: with many threads an access token may end between renewal and use.
        for _ in range(MAX_RENEWALS):
            if reply.status != 401 or header is None or self.tokens.kind != "personal":
                break
            header = self.tokens.renew(header, deadline)
            headers["Authorization"] = header
            reply = self.send_to(url, headers, deadline, method, body, download)
        return reply

    def send_to(
        self,
        url: Url,
        headers: dict[str, str],
        deadline: float,
        method: str = "GET",
        body: bytes | None = None,
        download: Download | None = None,
    ) -> Reply:
        """A request to any host that the policy allows, without the token unless it is given.

        A download has until ``deadline``, all else the usual time.

        Raises:
            Unavailable: no time is left before ``deadline``, or the host does not answer.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unavailable(f"{url}: no time left")
        limits = Limits(
            self._limits.connect_s,
            self._limits.read_s,
            min(self._limits.total_s, left) if download is None else left,
            self._limits.max_bytes if download is None else download.max_bytes,
        )
        return request(
            url,
            self.policy.addresses(url),
            headers=headers,
            limits=limits,
            method=method,
            body=body,
            into=None if download is None else download.file,
        )

    def _exchange(self, personal: str, deadline: float) -> str:
        url = self.join("/api/token/refresh/")
        body = json.dumps({"refresh": personal}).encode()
        reply = self.send_to(url, {"Content-Type": "application/json"}, deadline, "POST", body)
        if reply.status in (400, 401, 403):
            raise AuthError(
                "Label Studio refused the personal access token in LABEL_STUDIO_API_KEY"
            )
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if reply.status == 200:
                return str(json.loads(reply.body)["access"])
        # Whatever is wrong here is no fault of the image that was asked for, so it must not count
        # as one.
        raise Unavailable(
            f"{url}: answered {reply.status} without an access token; is LABEL_STUDIO_URL right?"
        )


def _json(reply: Reply, url: Url) -> Any:
    try:
        return json.loads(reply.body)
    except ValueError:
        raise InputError(
            f"{url}: answered with something other than JSON; is this Label Studio?"
        ) from None
