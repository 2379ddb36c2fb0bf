"""The picture or video of a task: from Label Studio, from allowed hosts, from cloud storage through
Label Studio, or inline.

Whom to contact is decided in ``origins``; time and size limits are held in ``transport``. Redirects
are followed here, by hand, and every hop is judged like the first. The token goes to Label Studio's
origin and nowhere else. Nothing is kept on disk but what the caller gives a file for.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urljoin

from backend.config.service import ServiceSettings
from backend.errors import AuthError, InputError, Unavailable
from backend.label_studio.api.local_files import PREFIX, read_local_file, relative_path
from backend.label_studio.api.origins import (
    Resolve,
    SourceRefused,
    Url,
    parse_url,
    resolve_host,
    shown,
)
from backend.label_studio.api.retry import Pauses, Waits
from backend.label_studio.api.studio_http import Download, StudioHttp, raise_for_status
from backend.label_studio.api.transport import Limits, TimedOut

MAX_HOPS = 3
MAX_TRIES = 4
MAX_WAIT_S = 60.0
_WAITS = Waits(
    first_s=0.75, most_s=MAX_WAIT_S, patience_s=float("inf"), tries=MAX_TRIES, jitter=1 / 3
)
_CLOUD = ("s3://", "gs://", "azure-blob://", "azure_blob://", "azure_spi://", "redis://")
# Where Label Studio keeps images. The token must not be spent on other paths because a task says
# so.
_IMAGE_PATHS = ("/data/", "/storage-data/", "/tasks/", "/static/", "/media/")
_DATA_URL = re.compile(r"data:image/[\w.+-]+((?:;[\w.=+-]+)*),", re.ASCII)


class Fetcher:
    """Fetches images and videos for tasks; safe for many threads.

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
        self._public = (
            parse_url(settings.label_studio_public_url)
            if settings.label_studio_public_url
            else None
        )
        self.http = StudioHttp(settings, resolve=resolve, limits=limits)
        self._base = self.http.base
        self._policy = self.http.policy

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
        return self._load(uri, task_id, deadline, None)

    def download(
        self, uri: str, task_id: int | None, deadline: float, file: BinaryIO, max_bytes: int
    ) -> None:
        """Write a video into a file; see ``fetch``.

        Args:
            uri: as the task holds it.
            task_id: Label Studio needs it for cloud storage.
            deadline: of ``time.monotonic``.
            file: opened for writing; what is in it is replaced.
            max_bytes: larger ones are refused.
        """
        file.write(self._load(uri, task_id, deadline, Download(file, max_bytes)))
        file.flush()

    def _load(
        self, uri: str, task_id: int | None, deadline: float, download: Download | None
    ) -> bytes:
        """The bytes; none where they went into a file."""
        if uri.startswith("data:"):
            return self._inline(uri)
        if "://" not in uri and not uri.startswith("/") and f"/{uri}".startswith(_IMAGE_PATHS):
            uri = f"/{uri}"  # as some importers write Label Studio's own paths
        if self._settings.local_files_root is not None and (target := self._local(uri)) is not None:
            return read_local_file(
                self._settings.local_files_root,
                relative_path(target),
                self._settings.max_image_bytes if download is None else download.max_bytes,
                None if download is None else download.file,
            )
        url = self._url(uri, task_id)
        pauses = Pauses(_WAITS)
        while True:
            if download is not None:
                download.file.seek(0)
                download.file.truncate()
            try:
                return self._follow(url, deadline, download)
            except Unavailable as error:
                pause = pauses.after(error)
                # A server has no thread to spare for a silent host.
                hopeless = isinstance(error, TimedOut) and self._patience_s < MAX_WAIT_S
                if pause is None or hopeless or pause > self._patience_s:
                    raise
                if time.monotonic() + pause >= deadline:
                    raise
                self._sleep(pause)

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

    def _url(self, uri: str, task_id: int | None) -> Url:
        if uri.startswith(_CLOUD):
            if task_id is None:
                raise InputError(
                    f"{shown(uri)}: cloud storage is reached through Label Studio, which needs the"
                    " task's id"
                )
            return self.http.join(
                f"/tasks/{task_id}/presign/?fileuri="
                + base64.urlsafe_b64encode(uri.encode()).decode("ascii")
            )
        if uri.startswith("/") and not uri.startswith("//") and "\\" not in uri.split("?")[0]:
            return self._checked_path(self.http.join(uri))
        return self._mapped(parse_url(uri))

    def _mapped(self, url: Url) -> Url:
        """Label Studio's public name as the address it is reached at.

        Its paths checked, other hosts as they are.
        """
        if self._public is not None and url.origin == self._public.origin:
            prefix = self._public.target.rstrip("/")
            return self._checked_path(self.http.join(url.target.removeprefix(prefix)))
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

    def _follow(self, url: Url, deadline: float, download: Download | None) -> bytes:
        for _ in range(MAX_HOPS + 1):
            reply = (
                self.http.authorized(url, deadline, download=download)
                if self._policy.is_label_studio(url)
                else self.http.send_to(url, {}, deadline, download=download)
            )
            if reply.status not in (301, 302, 303, 307, 308):
                raise_for_status(reply, url)
                if self._policy.is_label_studio(url) and reply.headers.get(
                    "content-type", ""
                ).startswith("text/html"):
                    raise AuthError(
                        f"{url}: answered with a web page instead of a file, a login page"
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
