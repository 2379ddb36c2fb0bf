"""Image bytes for a task: from Label Studio, from allowed hosts, from cloud storage through Label
Studio, or inline.

Whom to contact is decided in ``origins``; time and size limits are held in ``transport``. Redirects
are followed here, by hand, and every hop is judged like the first. The token goes to Label Studio's
origin and nowhere else. Nothing is kept on disk.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin

from backend.config.service import ServiceSettings
from backend.errors import AuthError, InputError, Unavailable
from backend.label_studio.api.local_files import PREFIX, read_local_file, relative_path
from backend.label_studio.api.origins import (
    Policy,
    Resolve,
    SourceRefused,
    Url,
    parse_url,
    resolve_host,
    shown,
)
from backend.label_studio.api.retry import AskedToWait, Pauses, Waits, seconds_asked
from backend.label_studio.api.tokens import Tokens
from backend.label_studio.api.transport import Limits, Reply, TimedOut, request

MAX_HOPS = 3
MAX_TRIES = 4
MAX_WAIT_S = 60.0
MAX_RENEWALS = 3
_WAITS = Waits(
    first_s=0.75, most_s=MAX_WAIT_S, patience_s=float("inf"), tries=MAX_TRIES, jitter=1 / 3
)
_CLOUD = ("s3://", "gs://", "azure-blob://", "azure_blob://", "azure_spi://", "redis://")
# Where Label Studio keeps images. The token must not be spent on other paths because a task says
# so.
_IMAGE_PATHS = ("/data/", "/storage-data/", "/tasks/", "/static/", "/media/")
_DATA_URL = re.compile(r"data:image/[\w.+-]+((?:;[\w.=+-]+)*),", re.ASCII)


def _classify(reply: Reply, url: Url) -> None:
    """Raise what a status other than success means."""
    status = reply.status
    if 200 <= status < 300:
        return
    if status in (401, 403):
        raise AuthError(
            f"{url}: answered {status}; check LABEL_STUDIO_API_KEY and that its user may see the"
            " project"
        )
    if status in (408, 425, 429) or status >= 500:
        asked = seconds_asked(reply.headers.get("retry-after"))
        raise AskedToWait(f"{url}: answered {status}", asked)
    raise InputError(f"{url}: answered {status}")


class Fetcher:
    """Fetches images for tasks; safe for many threads.

    Args:
        settings: addresses, token, limits.
        resolve: host and port to addresses.
        sleep: waits between tries.
        patience_s: longest wait between tries; where a host asks for more, the image is for later.
            A server keeps this short, because the threads that wait are those that fetch for
            everybody.
        limits: of one request; its ``max_bytes`` is taken from the settings.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        resolve: Resolve = resolve_host,
        sleep: Callable[[float], None] = time.sleep,
        limits: Limits | None = None,
        patience_s: float = MAX_WAIT_S,
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._patience_s = patience_s
        self._base = parse_url(settings.label_studio_url) if settings.label_studio_url else None
        self._public = (
            parse_url(settings.label_studio_public_url)
            if settings.label_studio_public_url
            else None
        )
        self._policy = Policy(self._base, settings.allowed_hosts, resolve)
        given = limits or Limits()
        self._limits = Limits(
            given.connect_s, given.read_s, given.total_s, settings.max_image_bytes
        )
        self.tokens = Tokens(settings.label_studio_api_key, self._exchange)

    def setup_fault(self) -> str | None:
        """Why no image of a usual project could be fetched, as advice to the operator.

        None if nothing speaks against it.
        """
        if (
            self._base is None
            and not self._settings.allowed_hosts
            and self._settings.local_files_root is None
        ):
            return (
                "Start the backend with LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY: without them it"
                " cannot fetch images"
            )
        return None

    def fetch(self, uri: str, task_id: int | None, deadline: float) -> bytes:
        """The bytes of one image.

        Args:
            uri: as the task holds it.
            task_id: Label Studio needs it for cloud storage.
            deadline: of ``time.monotonic``; no try is started that could not end before it.

        Raises:
            InputError: this address will never work.
            AuthError: refused.
            Unavailable: it may work later.
        """
        if uri.startswith("data:"):
            return self._inline(uri)
        if self._settings.local_files_root is not None and (target := self._local(uri)) is not None:
            return read_local_file(
                self._settings.local_files_root,
                relative_path(target),
                self._settings.max_image_bytes,
            )
        url = self._url(uri, task_id)
        pauses = Pauses(_WAITS)
        while True:
            try:
                return self._follow(url, deadline)
            except Unavailable as error:
                pause = pauses.after(error)
                # A server has no thread to spare for a silent host.
                hopeless = isinstance(error, TimedOut) and self._patience_s < MAX_WAIT_S
                if pause is None or hopeless or pause > self._patience_s:
                    raise
                if time.monotonic() + pause >= deadline:
                    raise
                self._sleep(pause)

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
        _classify(reply, self._join(path))
        return _json(reply, self._join(path))

    def send(self, method: str, path: str, body: Any = None) -> Reply:
        """One API call whose status the caller judges."""
        data = None if body is None else json.dumps(body).encode()
        return self._authorized(
            self._join(path), time.monotonic() + self._limits.total_s, method, data
        )

    def _inline(self, uri: str) -> bytes:
        head = _DATA_URL.match(uri[:256])
        if head is None:
            raise SourceRefused("data: image: expected data:image/<type>;base64,...")
        if len(uri) * 3 // 4 > self._settings.max_image_bytes:
            raise InputError(
                "data: image: larger than the limit of"
                f" {self._settings.max_image_bytes / (1 << 20):g} MiB"
            )
        payload = uri[head.end() :]
        if not head.group(1).endswith(";base64"):
            return unquote_to_bytes(payload.encode("utf-8", "replace"))
        try:
            return base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError):
            raise InputError("data: image: is not valid base64") from None

    def _local(self, uri: str) -> str | None:
        """Path and query if this is one of Label Studio's local files."""
        if uri.startswith(("http://", "https://")):
            url = parse_url(uri)
            ours = self._policy.is_label_studio(url) or (
                self._public is not None and url.origin == self._public.origin
            )
            uri = url.target if ours else ""
        return uri if uri.startswith(PREFIX) else None

    def _join(self, path: str) -> Url:
        if self._base is None:
            raise Unavailable(
                "LABEL_STUDIO_URL is not set, so images of Label Studio cannot be fetched"
            )
        prefix = self._base.target.rstrip("/")
        root = f"{self._base.scheme}://{self._base.host_header}"
        return parse_url(
            root + (path if prefix and path.startswith(prefix + "/") else prefix + path)
        )

    def _url(self, uri: str, task_id: int | None) -> Url:
        if uri.startswith(_CLOUD):
            if task_id is None:
                raise InputError(
                    f"{shown(uri)}: cloud storage is reached through Label Studio, which needs the"
                    " task's id"
                )
            return self._join(
                f"/tasks/{task_id}/presign/?fileuri="
                + base64.urlsafe_b64encode(uri.encode()).decode("ascii")
            )
        if uri.startswith("/") and not uri.startswith("//") and "\\" not in uri.split("?")[0]:
            return self._checked_path(self._join(uri))
        return self._mapped(parse_url(uri))

    def _mapped(self, url: Url) -> Url:
        """Label Studio's public name as the address it is reached at.

        Its paths checked, other hosts as they are.
        """
        if self._public is not None and url.origin == self._public.origin:
            prefix = self._public.target.rstrip("/")
            return self._checked_path(self._join(url.target.removeprefix(prefix)))
        return self._checked_path(url) if self._policy.is_label_studio(url) else url

    def _checked_path(self, url: Url) -> Url:
        path = url.target.split("?")[0]
        prefix = self._base.target.rstrip("/") if self._base is not None else ""
        inner = path.removeprefix(prefix)
        if (
            not inner.startswith(_IMAGE_PATHS)
            or "/../" in unquote_to_bytes(inner).decode("utf-8", "replace") + "/"
        ):
            raise SourceRefused(
                f"{url}: is not where Label Studio keeps images ({', '.join(_IMAGE_PATHS)})"
            )
        return url

    def _follow(self, url: Url, deadline: float) -> bytes:
        for _ in range(MAX_HOPS + 1):
            reply = (
                self._authorized(url, deadline)
                if self._policy.is_label_studio(url)
                else self._send(url, {}, deadline)
            )
            if reply.status not in (301, 302, 303, 307, 308):
                _classify(reply, url)
                if self._policy.is_label_studio(url) and reply.headers.get(
                    "content-type", ""
                ).startswith("text/html"):
                    raise AuthError(
                        f"{url}: answered with a web page instead of an image, a login page"
                        " perhaps; check LABEL_STUDIO_URL and the key"
                    )
                return reply.body
            location = reply.headers.get("location")
            if not location:
                raise InputError(f"{url}: redirects to nowhere")
            if "/user/login" in location:
                raise AuthError(f"{url}: leads to a login page; check LABEL_STUDIO_API_KEY")
            url = self._hop(url, location)
        raise InputError(f"{url}: more than {MAX_HOPS} redirects")

    def _hop(self, url: Url, location: str) -> Url:
        """Where a redirect leads.

        Where Label Studio really is, is the operator's to correct, not the image's fault.
        """
        try:
            target = parse_url(urljoin(f"{url.scheme}://{url.host_header}{url.target}", location))
        except ValueError:
            raise InputError(f"{url}: redirects to something that is not a URL") from None
        if not self._policy.is_label_studio(url):
            return self._mapped(target)
        if target.host == url.host and target.origin != url.origin and target.target == url.target:
            raise Unavailable(
                f"{url}: Label Studio redirects to {target.scheme}://{target.host_header}; set"
                " LABEL_STUDIO_URL to that"
            )
        try:
            following = self._mapped(target)
        except SourceRefused:
            raise AuthError(
                f"{url}: Label Studio redirects to {target}, a login page perhaps; check"
                " LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
            ) from None
        if following == url:
            raise Unavailable(
                f"{url}: Label Studio redirects to its public address; set LABEL_STUDIO_URL to that"
            )
        return following

    def _authorized(
        self, url: Url, deadline: float, method: str = "GET", body: bytes | None = None
    ) -> Reply:
        """A request to Label Studio; an access token that was refused is renewed."""
        header = self.tokens.header(deadline)
        headers = {"Authorization": header} if header else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        reply = self._send(url, headers, deadline, method, body)
        for _ in range(
            MAX_RENEWALS
            # More than once: with many threads an access token may end between renewal and use.
        ):
            if reply.status != 401 or header is None or self.tokens.kind != "personal":
                break
            header = self.tokens.renew(header, deadline)
            reply = self._send(url, {**headers, "Authorization": header}, deadline, method, body)
        return reply

    def _send(
        self,
        url: Url,
        headers: dict[str, str],
        deadline: float,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Reply:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unavailable(f"{url}: no time left")
        limits = Limits(
            self._limits.connect_s,
            self._limits.read_s,
            min(self._limits.total_s, left),
            self._limits.max_bytes,
        )
        return request(
            url,
            self._policy.addresses(url),
            headers=headers,
            limits=limits,
            method=method,
            body=body,
        )

    def _exchange(self, personal: str, deadline: float) -> str:
        url = self._join("/api/token/refresh/")
        body = json.dumps({"refresh": personal}).encode()
        reply = self._send(url, {"Content-Type": "application/json"}, deadline, "POST", body)
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
