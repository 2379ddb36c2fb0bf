"""Which address may be contacted at all.

The decision is made on the resolved address, and that very address is then connected to.

Task data is written by anyone who can import a task, so a URL is a request to be judged, not an
order.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import quote, urlsplit

from backend.errors import InputError, Unavailable

_PORTS = {"http": 80, "https": 443}
_MAX_URL = 8192
_PLAIN = "/%:@!$&'()*+,;=~-._"  # stays as it is in paths and queries
# Ways to write an IPv4 address inside an IPv6 one; what they lead to is not what they look like.
_EMBEDDING = tuple(
    ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)

Ip = IPv4Address | IPv6Address


class SourceRefused(InputError):
    """An image address that must not be contacted, or cannot be."""


class HostRefused(SourceRefused):
    """A host that is not allowed now; unlike a bad image, the operator may change that."""


@dataclass(frozen=True)
class Url:
    """An http(s) URL, parsed once; nothing downstream parses it again."""

    scheme: str
    host: str  # lower case, ASCII, without brackets and final dot
    port: int
    target: str  # path and query, percent-encoded

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are bound to."""
        return self.scheme, self.host, self.port

    @property
    def host_header(self) -> str:
        """Host as it is sent, with the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.target.split('?')[0]}"


def shown(uri: str) -> str:
    """An address as it may appear in logs and messages: without query, user and inline data, and
    not longer than a line.
    """
    if uri.startswith("data:"):
        return "data: image"
    head = uri.split("?")[0].split("#")[0]
    scheme, found, rest = head.partition("://")
    if found:
        authority, slash, path = rest.partition("/")
        head = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    head = head.encode("ascii", "backslashreplace").decode("ascii")
    head = "".join(c if c.isprintable() else "?" for c in head)
    return head if len(head) <= 120 else head[:100] + "..." + head[-17:]


def parse_url(text: str) -> Url:
    """Read an absolute http(s) URL.

    Raises:
        SourceRefused: another scheme, a backslash, a user name, control characters, or no usable
            host and port.
    """
    name = shown(text)
    if len(text) > _MAX_URL or any(
        ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text
    ):
        raise SourceRefused(f"{name}: is too long for a URL or holds control characters")
    try:
        parts = urlsplit(text)
        host = parts.hostname
        port = parts.port
        user = parts.username
    except ValueError:
        raise SourceRefused(f"{name}: is not a URL that can be read") from None
    if parts.scheme not in _PORTS:
        raise SourceRefused(
            f"{name}: only http, https, paths of Label Studio, cloud storage of Label Studio and"
            " data: images are fetched"
        )
    if (
        not host
        or user is not None
        or "@" in parts.netloc
        or "\\" in text.split("?")[0]
        or "%" in parts.netloc
        or " " in parts.netloc
    ):
        raise SourceRefused(f"{name}: the part before the path must be a plain host and port")
    try:
        host = (
            host.rstrip(".").encode("idna").decode("ascii").lower()
            if not host.isascii()
            else host.rstrip(".").lower()
        )
    except UnicodeError:
        raise SourceRefused(f"{name}: the host name cannot be encoded") from None
    if not host or port == 0:
        raise SourceRefused(f"{name}: the part before the path must be a plain host and port")
    query = f"?{quote(parts.query, safe=_PLAIN + '?')}" if parts.query else ""
    return Url(
        parts.scheme,
        host,
        port or _PORTS[parts.scheme],
        quote(parts.path or "/", safe=_PLAIN) + query,
    )


def _unwrapped(ip: Ip) -> Ip:
    return ip.ipv4_mapped if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None else ip


def _is_public(ip: Ip) -> bool:
    return (
        ip.is_global
        and not ip.is_multicast
        and not any(ip in network for network in _EMBEDDING if network.version == ip.version)
    )


Resolve = Callable[[str, int], Sequence[str]]


_LOOKUP_S = 10.0


def _lookup(host: str, port: int) -> list[Any]:
    """``getaddrinfo``, for which the system has no limit of time.

    It has a thread of its own, which does not keep the program from ending.

    Raises:
        TimeoutError: there was no answer in time.
    """
    found: Future[list[Any]] = Future()

    def look() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # handed to the thread that waits
            found.set_exception(error)

    threading.Thread(target=look, name="lookup", daemon=True).start()
    return found.result(_LOOKUP_S)


def resolve_host(host: str, port: int) -> list[str]:
    """Addresses of a host, in the system's order.

    Raises:
        Unavailable: there is none now, or the system looks for it too long.
    """
    try:
        return list(dict.fromkeys(str(found[4][0]) for found in _lookup(host, port)))
    except TimeoutError:
        raise Unavailable(f"{host}: its name was not resolved in {_LOOKUP_S:.0f} s") from None
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            f"{host}: the name cannot be resolved: {getattr(error, 'strerror', None) or error}"
        ) from None


class Policy:
    """Label Studio itself and what the operator listed; nothing else.

    Args:
        label_studio: its origin, which may be on any address because the operator named it.
        allowed_hosts: ``name``, ``name:port``, ``*.name``, an address or a network. A name must
            lead to public addresses, unless they lie in one of the networks.
        resolve: host and port to addresses.
    """

    def __init__(
        self,
        label_studio: Url | None,
        allowed_hosts: Sequence[str],
        resolve: Resolve = resolve_host,
    ) -> None:
        self._label_studio = label_studio
        self._resolve = resolve
        self._names: list[str] = []
        self._networks: list[tuple[IPv4Network | IPv6Network, int | None]] = []
        for entry in allowed_hosts:
            host, _, port = (
                entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
            )
            try:
                self._networks.append(
                    (ip_network(host.strip("[]"), strict=False), int(port) if port else None)
                )
            except ValueError:
                self._names.append(entry)

    def is_label_studio(self, url: Url) -> bool:
        """Whether scheme, host and port are Label Studio's own."""
        return self._label_studio is not None and url.origin == self._label_studio.origin

    def _listed(self, url: Url) -> bool:
        for entry in self._names:
            name, _, port = entry.partition(":")
            if port and port != str(url.port):
                continue
            if url.host == name or (name.startswith("*.") and url.host.endswith(name[1:])):
                return True
        return False

    def _in_networks(self, ip: Ip, port: int) -> bool:
        return any(
            ip in network
            for network, only in self._networks
            if network.version == ip.version and only in (None, port)
        )

    def _lookup(self, url: Url) -> Sequence[str]:
        found = self._resolve(url.host, url.port)
        if not found:
            raise Unavailable(f"{url.host}: the name has no address")
        return found

    def addresses(self, url: Url) -> list[str]:
        """The addresses that may be connected to; the name is looked up once.

        Raises:
            SourceRefused: neither Label Studio nor allowed, with what the operator would have to
                set.
            Unavailable: the name cannot be resolved now.
        """
        if self.is_label_studio(url):
            return list(self._lookup(url))
        try:
            literal = _unwrapped(ip_address(url.host))
        except ValueError:
            literal = None
        if literal is not None and self._in_networks(literal, url.port):
            return [str(literal)]
        if literal is not None or not self._listed(url):
            raise HostRefused(
                f"{url}: host {url.host} is neither Label Studio nor in ALLOWED_HOSTS; to allow it,"
                f" start the backend with ALLOWED_HOSTS={url.host}"
            )
        found = [_unwrapped(ip_address(text.split("%")[0])) for text in self._lookup(url)]
        allowed = [str(ip) for ip in found if _is_public(ip) or self._in_networks(ip, url.port)]
        if allowed:
            return allowed
        raise HostRefused(
            f"{url}: host {url.host} leads to a private address; if that is meant, add its network"
            " to ALLOWED_HOSTS"
        )
