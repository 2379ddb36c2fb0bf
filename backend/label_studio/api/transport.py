"""One HTTP request with limits that hold: to a given address, within a total time, up to a number
of decoded bytes.

Built on ``http.client`` because the usual clients look names up themselves, follow redirects, read
``.netrc`` and proxies, and have no limit on time or size as a whole.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import BinaryIO

import certifi

from backend.errors import InputError, Unavailable
from backend.label_studio.api.origins import Url

_CHUNK = 1 << 16
_REFUSAL_BYTES = 1 << 20  # of an answer that is not the file that was asked for


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes; ``total_s`` covers everything from connecting to the last byte."""

    connect_s: float = 3.0
    read_s: float = 10.0
    total_s: float = 30.0
    max_bytes: int = 64 << 20


@dataclass(frozen=True)
class Reply:
    """Status, lower-case headers, and the decoded body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@cache
def _tls() -> ssl.SSLContext:
    # SSL_CERT_FILE and SSL_CERT_DIR name a company's own authority.
    own = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(cafile=None if own else certifi.where())


def _dial(addresses: Sequence[str], url: Url, limits: Limits, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; all of them were judged before."""
    for k, address in enumerate(addresses):
        try:
            left = max(0.001, deadline - time.monotonic())
            return socket.create_connection((address, url.port), min(limits.connect_s, left))
        except OSError:
            if k == len(addresses) - 1:
                raise
    raise OSError("no address")


def _secure(
    sock: socket.socket, url: Url, limits: Limits, live: list[socket.socket]
) -> socket.socket:
    """TLS over a connected socket; ``live`` always ends with the one to cut when time is over."""
    live.append(sock)
    sock.settimeout(limits.read_s)
    if url.scheme == "https":
        sock = _tls().wrap_socket(sock, server_hostname=url.host, do_handshake_on_connect=False)
        live.append(sock)
        sock.do_handshake()
    return sock


class TimedOut(Unavailable):
    """No answer, or not all of it, in time."""


def _body(
    response: http.client.HTTPResponse,
    url: Url,
    limits: Limits,
    deadline: float,
    into: BinaryIO | None,
) -> bytes:
    coding = (response.getheader("Content-Encoding") or "identity").lower()
    if coding not in ("identity", "gzip", "deflate"):
        raise InputError(f"{url}: content encoding {coding[:20]} is not supported")
    inflate = (
        None if coding == "identity" else zlib.decompressobj(wbits=47 if coding == "gzip" else 15)
    )
    parts: list[bytes] = []
    size = 0
    while True:
        raw = response.read1(_CHUNK)
        if time.monotonic() > deadline:
            raise TimedOut(f"{url}: not complete after {limits.total_s:g} s")
        piece = raw if inflate is None else inflate.decompress(raw, limits.max_bytes - size + 1)
        size += len(piece)
        if size > limits.max_bytes:
            raise InputError(
                f"{url}: larger than the limit of {limits.max_bytes / (1 << 20):g} MiB"
            )
        if into is None:
            parts.append(piece)
        else:
            into.write(piece)
        if not raw:
            break
    if inflate is not None and size and not inflate.eof:
        raise Unavailable(f"{url}: the compressed body ends early")
    expected = response.length
    if expected:  # what Content-Length promised and the server did not send
        raise Unavailable(f"{url}: the connection ended {expected} bytes early")
    return b"".join(parts)


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    url: Url,
    headers: Mapping[str, str],
    body: bytes | None,
) -> None:
    connection.putrequest(method, url.target, skip_host=True, skip_accept_encoding=True)
    sent = {
        "Host": url.host_header,
        "Accept-Encoding": "identity",
        "Connection": "close",
        "User-Agent": "yolosam2",
        **headers,
    }
    if body is not None:
        sent["Content-Length"] = str(len(body))
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders(body)


def request(
    url: Url,
    addresses: Sequence[str],
    *,
    headers: Mapping[str, str],
    limits: Limits,
    method: str = "GET",
    body: bytes | None = None,
    into: BinaryIO | None = None,
) -> Reply:
    """Send one request and read the whole answer; redirects are not followed.

    Args:
        url: what to ask for; its host goes into Host and SNI.
        addresses: what to connect to, in order.
        headers: sent as they are.
        limits: of time and size.
        method: of HTTP.
        body: or None.
        into: takes the body of a good answer (status 200) in the place of memory.

    Raises:
        InputError: larger than allowed, or an encoding nobody asked for.
        Unavailable: no connection, too slow, cut off, or not HTTP.
    """
    deadline = time.monotonic() + limits.total_s
    late = threading.Event()
    connection = http.client.HTTPConnection(url.host, url.port)

    live: list[socket.socket] = []

    def cut() -> None:
        late.set()
        # Not of the connection: http.client lets go of its socket while the body is still being
        # read from it.
        for sock in live[-1:]:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    try:
        sock = _dial(addresses, url, limits, deadline)
        timer.start()
        try:
            connection.sock = _secure(sock, url, limits, live)
            _send(connection, method, url, headers, body)
            response = connection.getresponse()
            good = into if response.status == http.HTTPStatus.OK else None
            if into is not None and good is None:
                limits = replace(limits, max_bytes=_REFUSAL_BYTES)
            return Reply(
                response.status,
                {k.lower(): v for k, v in response.getheaders()},
                _body(response, url, limits, deadline, good),
            )
        finally:
            timer.cancel()
    except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
        if late.is_set():
            raise TimedOut(f"{url}: not complete after {limits.total_s:g} s") from None
        if isinstance(error, TimeoutError):
            raise TimedOut(f"{url}: timed out") from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unavailable(f"{url}: {reason}") from None
    finally:
        connection.close()
