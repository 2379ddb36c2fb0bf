"""Fetching what tasks point to, by the rows S and P of the fault table."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import PIL.Image
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.config.secret import Secret
from backend.config.service import ServiceSettings
from backend.errors import AuthError, InputError, Unavailable
from backend.label_studio.api.fetch import Fetcher
from backend.label_studio.api.local_files import read_local_file, relative_path
from backend.label_studio.api.origins import Policy, SourceRefused, parse_url, shown
from backend.label_studio.api.tokens import Tokens
from backend.label_studio.api.transport import Limits
from tests.support.servers import http_server, listener

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PNG = b"\x89PNG and so on"


def fetcher(url: str | None = None, key: str = LEGACY, **options) -> Fetcher:
    more = {
        name: options.pop(name)
        for name in ("resolve", "sleep", "limits", "patience_s")
        if name in options
    }
    more.setdefault("sleep", lambda seconds: None)
    return Fetcher(
        ServiceSettings(label_studio_url=url, label_studio_api_key=Secret(key), **options), **more
    )


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


INSIDE = [
    "127.0.0.1",
    "169.254.169.254",
    "[::1]",
    "10.0.0.1",
    "192.168.1.1",
    "localhost",
    "localhost.",
    "0.0.0.0",
    "[fe80::1]",
    "[fd00::1]",
]
DISGUISED = [
    "2130706433",
    "0x7f.1",
    "127.1",
    "[::ffff:127.0.0.1]",
    "0",
    "017700000001",
    "127.0.0.1.",
    "[::ffff:7f00:1]",
    "0177.0.0.1",
    "[64:ff9b::7f00:1]",
]


@pytest.mark.parametrize("host", INSIDE + DISGUISED)
def test_s01_s02_only_label_studio_and_listed_hosts_are_contacted(host: str) -> None:
    with listener() as (port, seen):
        for target in (
            fetcher("http://label-studio.example:8080"),
            fetcher(None, allowed_hosts=("images.example.com", "*.example.org")),
        ):
            for uri in (
                f"http://{host}:{port}/x.png",
                f"http://{host}:{port}/data/upload/1/x.png",
                f"//{host}:{port}/x.png",
            ):
                with pytest.raises(SourceRefused):
                    target.fetch(uri, 1, soon())
        time.sleep(0.05)
        assert seen == []


@pytest.mark.parametrize(
    "authority",
    [
        "127.0.0.1:{}\\@ls.example",
        "ls.example@127.0.0.1:{}",
        "ls.example:80@127.0.0.1:{}",
        "ls.example\\.127.0.0.1:{}",
        "ls%2eexample:{}",
        "user:pw@ls.example",
        "ls.example :80",
    ],
)
def test_s02_tricks_in_the_authority_are_refused(authority: str) -> None:
    with listener() as (port, seen):
        with pytest.raises(SourceRefused):
            fetcher("http://ls.example", allowed_hosts=("ls.example",)).fetch(
                f"http://{authority.format(port)}/data/x.png", 1, soon()
            )
        assert seen == []


def test_s02_a_thousand_generated_authorities_reach_nobody() -> None:
    pick = random.Random(0)
    pieces = [
        "127",
        "0x7f",
        "0",
        "1",
        ".",
        ":",
        "@",
        "\\",
        "[",
        "]",
        "localhost",
        "ls.example",
        "%",
        "/",
        "?",
        "#",
        "::1",
        "ffff",
        "\t",
        " ",
        "\uff10",
        "\u3002",
    ]
    with listener() as (port, seen):
        target = fetcher(
            "http://ls.example:1",
            resolve=lambda host, port: ["127.0.0.1"] if host == "nowhere" else [],
        )
        for _ in range(1000):
            uri = "http://" + "".join(pick.choices(pieces, k=pick.randint(1, 6))) + f":{port}/x.png"
            with pytest.raises((InputError, Unavailable)):
                target.fetch(uri, 1, soon(0.5))
        assert seen == []


def test_s01_an_allowed_name_may_not_lead_inside() -> None:
    with listener() as (port, seen):
        target = fetcher(
            allowed_hosts=("images.example.com",), resolve=lambda host, port: ["127.0.0.1"]
        )
        with pytest.raises(SourceRefused, match="leads to a private address"):
            target.fetch(f"http://images.example.com:{port}/x.png", 1, soon())
        assert seen == []


def test_s01_an_allowed_network_may() -> None:
    with http_server(lambda *_: (200, {}, PNG)) as server:
        lookups = []

        def resolve(host: str, port: int) -> list[str]:
            lookups.append(host)
            return ["127.0.0.1"] if len(lookups) == 1 else ["203.0.113.1"]

        target = fetcher(allowed_hosts=("minio.lan", "127.0.0.0/8"), resolve=resolve)
        assert target.fetch(f"http://minio.lan:{server.port}/a.png", 1, soon()) == PNG
        assert lookups == ["minio.lan"], "S04: looked up once, and that address was connected to"
        assert server.requests[0][2]["Host"] == f"minio.lan:{server.port}"
        assert "Authorization" not in server.requests[0][2]


def test_s04_a_name_that_changes_its_mind_is_asked_once() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    policy = Policy(None, ["images.example.com"], lambda host, port: next(answers))
    assert policy.addresses(parse_url("http://images.example.com/x.png")) == ["93.184.216.34"]
    with pytest.raises(SourceRefused):
        policy.addresses(parse_url("http://images.example.com/x.png"))


def test_wildcards_and_ports_of_allowed_hosts() -> None:
    policy = Policy(
        None,
        ["*.example.org", "a.example.com:8443", "10.1.0.0/16", "10.9.0.5:9000", "[fd00::5]:9000"],
        lambda host, port: ["93.184.216.34"],
    )
    for good in (
        "https://x.example.org/a",
        "https://x.y.example.org/a",
        "https://a.example.com:8443/a",
        "http://10.1.2.3/a",
        "http://10.9.0.5:9000/a",
        "http://[fd00::5]:9000/a",
    ):
        policy.addresses(parse_url(good))
    for bad in (
        "https://example.org/a",
        "https://xexample.org/a",
        "https://a.example.com/a",
        "http://10.2.2.3/a",
        "http://10.9.0.5/a",
    ):
        with pytest.raises(SourceRefused):
            policy.addresses(parse_url(bad))


def test_s03_every_hop_is_judged() -> None:
    with (
        listener() as (port, seen),
        http_server(
            lambda *_: (302, {"Location": f"http://127.0.0.1:{port}/x.png"}, b"")
        ) as server,
    ):
        with pytest.raises(SourceRefused):
            fetcher(server.url).fetch("/data/upload/1/a.png", 1, soon())
        assert seen == []


def test_s03_label_studio_may_redirect_to_an_allowed_store_without_the_token() -> None:
    with http_server(lambda *_: (200, {}, PNG)) as store:
        location = f"http://store.example:{store.port}/bucket/a.png?signature=canary"
        with http_server(lambda *_: (303, {"Location": location}, b"")) as server:
            target = fetcher(
                server.url,
                allowed_hosts=("store.example", "127.0.0.1/32"),
                resolve=lambda host, port: ["127.0.0.1"],
            )
            assert target.fetch("s3://bucket/a.png", 7, soon()) == PNG
            coded = base64.urlsafe_b64encode(b"s3://bucket/a.png").decode()
            assert server.requests[0][1] == f"/tasks/7/presign/?fileuri={coded}"
            assert server.requests[0][2]["Authorization"] == f"Token {LEGACY}"
            assert "Authorization" not in store.requests[0][2]


def test_s03_hops_are_limited() -> None:
    with http_server(
        lambda method, path, *_: (302, {"Location": f"/data/{len(path)}{path[5:]}"}, b"")
    ) as server:
        with pytest.raises(InputError, match="more than 3 redirects"):
            fetcher(server.url).fetch("/data/a.png", 1, soon())
        assert len(server.requests) == 4


def test_s05_the_token_is_bound_to_one_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with (
        http_server(lambda *_: (200, {}, PNG)) as other,
        http_server(lambda *_: (302, {"Location": f"{other.url}/a.png"}, b"")) as server,
    ):
        target = fetcher(server.url, allowed_hosts=("127.0.0.1",))
        target.fetch("/data/upload/a.png", 1, soon())  # redirected to another port
        target.fetch(f"{other.url}/b.png", 1, soon())
        assert server.requests[0][2]["Authorization"] == f"Token {LEGACY}"
        assert all("Authorization" not in headers for _, _, headers, _ in other.requests)
        assert len(other.requests) == 2


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "ftp://ls.example/x",
        "gopher://x/",
        "/etc/passwd",
        "etc/passwd",
        "javascript:1",
        "",
        "data:text/html,x",
        "/api/current-user/token",
        "/data/../api/x",
        "/data/%2e%2e/api/x",
        "\\\\host\\share",
    ],
)
def test_s06_other_schemes_and_paths_are_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener() as (port, seen):
        with pytest.raises(InputError):
            fetcher(f"http://127.0.0.1:{port}").fetch(uri, 1, soon())
        assert seen == []


def test_s06_inline_images_are_decoded_up_to_a_size() -> None:
    target = fetcher(max_image_bytes=1000)
    assert (
        target.fetch("data:image/png;base64," + base64.b64encode(PNG).decode(), None, soon()) == PNG
    )
    assert target.fetch("data:image/svg+xml;charset=utf-8,%41", None, soon()) == b"A"
    for bad in ("data:image/png;base64,###", "data:image/png;base64," + "A" * 2000):
        with pytest.raises(InputError, match="data: image"):
            target.fetch(bad, None, soon())


def drip(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    try:
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


def drip_headers(handler) -> None:
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for k in range(100):
            handler.wfile.write(f"X-{k}: 1\r\n".encode())
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


def silent(handler) -> None:
    time.sleep(3)


@pytest.mark.parametrize("behaviour", [drip, drip_headers, silent])
def test_s07_slow_servers_are_left_in_time(behaviour) -> None:
    limits = Limits(connect_s=1, read_s=0.8, total_s=1.2)
    with http_server(lambda *_: behaviour) as server:
        start = time.monotonic()
        with pytest.raises(Unavailable, match="timed out|not complete after"):
            fetcher(server.url, limits=limits).fetch("/data/a.png", 1, start + 1.3)
        assert time.monotonic() - start < 2.5


def endless(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while True:
            handler.wfile.write(b"\0" * (1 << 16))
    except OSError:
        pass


def liar(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")


@pytest.mark.parametrize("kind", ["endless", "bomb"])
def test_s08_size_is_limited_after_decoding(kind: str) -> None:
    bomb = gzip.compress(b"\0" * (200 << 20), 9)
    answers = {"endless": endless, "bomb": (200, {"Content-Encoding": "gzip"}, bomb)}
    with http_server(lambda *_: answers[kind]) as server:
        before = psutil.Process().memory_info().rss
        with pytest.raises(InputError, match="larger than the limit of 16 MiB"):
            fetcher(server.url, max_image_bytes=16 << 20).fetch("/data/a.png", 1, soon())
        assert psutil.Process().memory_info().rss - before < 100 << 20


def close_and_drip(handler) -> None:
    """With Connection: close, http.client lets go of its socket while the body is still being read.

    The limit must hold all the same.
    """
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    try:
        for _ in range(50):
            handler.wfile.write(b"0")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


def test_s07_a_body_that_never_becomes_a_chunk_is_left_in_time() -> None:
    with http_server(lambda *_: close_and_drip) as server:
        start = time.monotonic()
        with pytest.raises(Unavailable, match="not complete after 1 s"):
            fetcher(server.url, limits=Limits(total_s=1)).fetch("/data/a.png", 1, start + 1.1)
        assert time.monotonic() - start < 2


def test_a_name_with_several_addresses_is_tried_in_order() -> None:
    with http_server(lambda *_: (200, {}, PNG)) as server:
        target = fetcher(
            f"http://localhost:{server.port}", resolve=lambda host, port: ["::1", "127.0.0.1"]
        )
        assert target.fetch("/data/a.png", 1, soon()) == PNG


def test_what_is_the_operators_fault_is_not_the_images() -> None:
    for answer in ((404, {}, b""), (302, {"Location": "/"}, b""), (200, {}, b"<html>maintenance")):
        with (
            http_server(lambda *_, answer=answer: answer) as server,
            pytest.raises(Unavailable, match="without an access token"),
        ):
            fetcher(server.url, key="per.so.nal").fetch("/data/a.png", 1, soon(0.2))
    moved = (301, {"Location": "https://127.0.0.1/data/a.png"}, b"")
    with (
        http_server(lambda *_: moved) as server,
        pytest.raises(Unavailable, match="set LABEL_STUDIO_URL to that"),
    ):
        fetcher(server.url).fetch("/data/a.png", 1, soon(0.2))


def test_login_pages_of_proxies_are_no_images() -> None:
    for location in ("/oauth2/sign_in?next=x", "/accounts/login/", "/login"):
        with (
            http_server(lambda *_, location=location: (302, {"Location": location}, b"")) as server,
            pytest.raises(AuthError, match="login page"),
        ):
            fetcher(server.url).fetch("/data/a.png", 1, soon())
    page = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")
    with http_server(lambda *_: page) as server, pytest.raises(AuthError, match="login page"):
        fetcher(server.url).fetch("/data/a.png", 1, soon())
    moved = (301, {"Location": "https://ls.example/data/a.png"}, b"")
    with (
        http_server(lambda *_: moved) as server,
        pytest.raises(Unavailable, match="its public address"),
    ):
        fetcher(server.url, label_studio_public_url="https://ls.example").fetch(
            "/data/a.png", 1, soon(0.2)
        )


def test_label_studio_may_redirect_to_the_same_path_elsewhere() -> None:
    with http_server(lambda *_: (200, {}, PNG)) as cdn:
        moved = (302, {"Location": f"http://cdn.example:{cdn.port}/data/upload/a.png"}, b"")
        with http_server(lambda *_: moved) as server:
            target = fetcher(
                server.url,
                allowed_hosts=("cdn.example", "127.0.0.1"),
                resolve=lambda host, port: ["127.0.0.1"],
            )
            assert target.fetch("/data/upload/a.png", 1, soon()) == PNG


def test_a_server_does_not_try_a_silent_host_twice() -> None:
    with http_server(lambda *_: silent) as server:
        start = time.monotonic()
        with pytest.raises(Unavailable, match="timed out"):
            fetcher(server.url, patience_s=5.0, limits=Limits(read_s=0.3)).fetch(
                "/data/a.png", 1, soon(60)
            )
        assert time.monotonic() - start < 1


def test_s08_half_a_compressed_body_is_not_the_whole() -> None:
    whole = gzip.compress(bytes(range(256)) * 800)
    with (
        http_server(
            lambda *_: (200, {"Content-Encoding": "gzip"}, whole[: len(whole) // 2])
        ) as server,
        pytest.raises(Unavailable, match="ends early"),
    ):
        fetcher(server.url).fetch("/data/a.png", 1, soon(0.2))


def test_a_token_exchange_keeps_the_deadline_for_all_threads() -> None:
    with http_server(lambda *_: silent) as server:
        target = fetcher(server.url, key="per.so.nal")
        start = time.monotonic()

        def ask() -> None:
            with pytest.raises(Unavailable):
                target.fetch("/data/a.png", 1, start + 0.5)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - start < 1.5


def test_a_redirect_to_the_public_name_is_label_studio() -> None:
    answers = iter(
        [(302, {"Location": "https://label.example.com/data/b.png"}, b""), (200, {}, PNG)]
    )
    with http_server(lambda *_: next(answers)) as server:
        assert (
            fetcher(server.url, label_studio_public_url="https://label.example.com").fetch(
                "/data/a.png", 1, soon()
            )
            == PNG
        )
        assert [path for _, path, _, _ in server.requests] == ["/data/a.png", "/data/b.png"]


@pytest.mark.parametrize(
    "uri", ["/data/upload/\ud800.png", "s3://b/\ud800", "http://[", "http://a:99999/"]
)
def test_addresses_that_are_no_text_or_no_url_are_refused(uri: str) -> None:
    with pytest.raises((InputError, UnicodeEncodeError)):  # tasks are checked for the latter before
        fetcher("http://ls.example").fetch(uri, 1, soon())


def test_a_redirect_to_nonsense_is_an_input_error() -> None:
    with (
        http_server(lambda *_: (302, {"Location": "http://["}, b"")) as server,
        pytest.raises(InputError),
    ):
        fetcher(server.url).fetch("/data/a.png", 1, soon())


def test_s08_a_short_body_is_not_an_image() -> None:
    with http_server(lambda *_: liar) as server, pytest.raises(Unavailable, match="5 bytes early"):
        fetcher(server.url).fetch("/data/a.png", 1, soon(1))


def test_s08_gzip_and_chunks_are_decoded() -> None:
    def chunked(handler) -> None:
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )

    with http_server(
        lambda m, path, *_: (
            chunked if "c" in path[6:] else (200, {"Content-Encoding": "gzip"}, gzip.compress(PNG))
        )
    ) as server:
        assert fetcher(server.url).fetch("/data/c", 1, soon()) == b"abcde"
        assert fetcher(server.url).fetch("/data/z", 1, soon()) == PNG


def test_s09_cloud_storage_needs_the_task() -> None:
    with pytest.raises(InputError, match="task's id"):
        fetcher("http://ls.example").fetch("s3://bucket/key", None, soon())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, InputError),
        (410, InputError),
        (401, AuthError),
        (403, AuthError),
        (429, Unavailable),
        (500, Unavailable),
        (502, Unavailable),
    ],
)
def test_s10_statuses_are_told_apart(status: int, error: type[Exception]) -> None:
    with http_server(lambda *_: (status, {}, b"")) as server:
        with pytest.raises(error, match=str(status)):
            fetcher(server.url).fetch("/data/a.png", 1, soon())
        assert len(server.requests) == (4 if error is Unavailable else 1)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, b"Serving local files can be dangerous, so it's disabled", "does not serve local"),
        (403, b"", "check LABEL_STUDIO_API_KEY"),
        (404, b"", "no local storage of a project"),
    ],
)
def test_why_a_local_file_is_refused(status: int, body: bytes, told: str) -> None:
    with (
        http_server(lambda *_: (status, {}, body)) as server,
        pytest.raises((AuthError, InputError), match=told),
    ):
        fetcher(server.url).fetch("/data/local-files/?d=a.png", 1, soon())


def test_s10_retry_after_is_honoured_and_capped() -> None:
    waits: list[float] = []
    answers = iter(
        [(429, {"Retry-After": "7"}, b""), (503, {"Retry-After": "9999"}, b""), (200, {}, PNG)]
    )
    with http_server(lambda *_: next(answers)) as server:
        assert fetcher(server.url, sleep=waits.append).fetch("/data/a.png", 1, soon(1000)) == PNG
    assert waits == [7.0, 60.0]


def test_s10_a_server_does_not_wait_long_for_one_host() -> None:
    with http_server(lambda *_: (429, {"Retry-After": "30"}, b"")) as server:
        start = time.monotonic()
        with pytest.raises(Unavailable):
            fetcher(server.url, patience_s=5.0, sleep=time.sleep).fetch("/data/a.png", 1, soon(90))
        assert time.monotonic() - start < 1


def test_s10_no_waiting_beyond_the_deadline() -> None:
    with http_server(lambda *_: (503, {"Retry-After": "30"}, b"")) as server:
        with pytest.raises(Unavailable):
            fetcher(server.url).fetch("/data/a.png", 1, soon(5))
        assert len(server.requests) == 1


def test_a_login_page_is_not_followed() -> None:
    with (
        http_server(lambda *_: (302, {"Location": "/user/login/?next=/data/a.png"}, b"")) as server,
        pytest.raises(AuthError, match="login page"),
    ):
        fetcher(server.url).fetch("/data/a.png", 1, soon())


def test_absolute_addresses_of_label_studio_and_its_public_name() -> None:
    with http_server(lambda *_: (200, {}, PNG)) as server:
        target = fetcher(server.url, label_studio_public_url="https://label.example.com")
        target.fetch(f"{server.url}/data/local-files/?d=a/b%20c.png", 1, soon())
        target.fetch("https://label.example.com/data/local-files/?d=x.png", 1, soon())
        assert [path for _, path, _, _ in server.requests] == [
            "/data/local-files/?d=a/b%20c.png",
            "/data/local-files/?d=x.png",
        ]
        assert all(
            headers["Authorization"] == f"Token {LEGACY}" for _, _, headers, _ in server.requests
        )


def test_label_studio_below_a_path() -> None:
    with http_server(lambda *_: (200, {}, PNG)) as server:
        target = fetcher(server.url + "/ls")
        target.fetch("/data/upload/a.png", 1, soon())
        target.fetch("/ls/data/upload/a.png", 1, soon())
        assert {path for _, path, _, _ in server.requests} == {"/ls/data/upload/a.png"}


def test_without_an_address_the_sentence_says_what_to_set() -> None:
    with pytest.raises(Unavailable, match="LABEL_STUDIO_URL"):
        fetcher(None).fetch("/data/a.png", 1, soon(0.1))
    assert "LABEL_STUDIO_URL" in (fetcher(None).setup_fault() or "")
    assert fetcher("http://ls.example").setup_fault() is None


def access_token(number: int, lifetime_s: float = 300) -> str:
    middle = (
        base64.urlsafe_b64encode(
            json.dumps({"exp": time.time() + lifetime_s, "n": number}).encode()
        )
        .decode()
        .rstrip("=")
    )
    return f"head.{middle}.tail"


def test_a06_personal_tokens_are_exchanged_and_renewed_once_for_all_threads() -> None:
    lock = threading.Lock()
    state = {"calls": 0, "issued": 0, "valid": ""}

    def answer(method: str, path: str, headers: dict[str, str], body: bytes):
        with lock:
            if path == "/api/token/refresh/":
                if json.loads(body) != {"refresh": "per.so.nal"}:
                    return 401, {}, b""
                state["issued"] += 1
                state["valid"] = access_token(state["issued"])
                return 200, {}, json.dumps({"access": state["valid"]}).encode()
            if headers.get("Authorization") != f"Bearer {state['valid']}":
                return 401, {}, b""
            state["calls"] += 1
            if state["calls"] % 3 == 0:
                state["valid"] = "expired"
            return 200, {}, PNG

    with http_server(answer) as server:
        target = fetcher(server.url, key="per.so.nal")
        results: list[object] = []

        def ask() -> None:
            for _ in range(6):
                try:
                    results.append(target.fetch("/data/a.png", 1, soon()))
                except (
                    AuthError
                ):  # expired again between renewal and use, which three calls per token make likely
                    results.append(None)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(result == PNG for result in results) >= 40  # of 48
        assert state["issued"] <= state["calls"] / 3 + 2, (
            "threads that were refused together renew once"
        )


def test_a06_a_token_near_its_end_is_renewed_before_it_is_refused() -> None:
    issued = []

    def exchange(personal: str, deadline: float) -> str:
        issued.append(access_token(len(issued), lifetime_s=10 if not issued else 300))
        return issued[-1]

    tokens = Tokens(Secret("a.b.c"), exchange)
    assert tokens.header(soon()) == f"Bearer {issued[0]}"
    assert tokens.header(soon()) == f"Bearer {issued[1]}"
    assert tokens.header(soon()) == f"Bearer {issued[1]}"


def test_a06_a_refused_personal_token_is_an_auth_error() -> None:
    with (
        http_server(lambda *_: (401, {}, b"")) as server,
        pytest.raises(AuthError, match="personal access token") as caught,
    ):
        fetcher(server.url, key="ca.na.ry").fetch("/data/a.png", 1, soon())
    assert "ca.na.ry" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://u:canary@h/x?canary",
        "data:image/png;base64,canary",
        "s3://b/k?canary",
        "x" * 500,
        "http://h/\x1b[31m\n",
        "http://h/图?canary",
    ],
)
def test_a03_addresses_in_messages_hold_no_secrets(uri: str) -> None:
    text = shown(uri)
    assert "canary" not in text
    assert text.isprintable()
    assert len(text) <= 120


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside.png").write_bytes(b"CANARY")
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(PNG)
    return folder.resolve()


TRAVERSALS = [
    "../outside.png",
    "sub/../../outside.png",
    "%2e%2e/outside.png",
    "..%2foutside.png",
    "%252e%252e/outside.png",
    "..\\outside.png",
    "/etc/passwd",
    "//etc/passwd",
    "a%00.png",
    "....//outside.png",
    "sub/../../root/../outside.png",
    "%c0%ae%c0%ae/outside.png",
    ".",
    "",
    "sub",
    "~root/x",
    "/proc/self/environ",
    "sub/a.png/..",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_p01_paths_stay_inside_the_folder(root: Path, path: str) -> None:
    with pytest.raises(InputError) as caught:
        fetcher("http://ls.example", local_files_root=root).fetch(
            f"/data/local-files/?d={path}", 1, soon()
        )
    assert str(root) not in str(caught.value)


def test_p01_the_root_of_the_disk_is_refused() -> None:
    from backend.config.service import load_service_settings
    from backend.errors import ConfigError

    with pytest.raises(ConfigError, match="LOCAL_FILES_ROOT: must not be the root"):
        load_service_settings({}, {"LOCAL_FILES_ROOT": "/"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LABEL_STUDIO_URL", "http://admin:canary@ls"),
        ("LABEL_STUDIO_API_KEY", "canary\ntwo"),
        ("PORT", "x"),
    ],
)
def test_a03_a_setting_that_cannot_be_read_is_not_shown(name: str, value: str) -> None:
    from backend.config.service import load_service_settings
    from backend.errors import ConfigError

    with pytest.raises(ConfigError, match=name) as caught:
        load_service_settings({}, {name: value})
    assert "canary" not in str(caught.value)


def test_p01_off_by_default() -> None:
    with http_server(lambda *_: (200, {}, PNG)) as server:
        fetcher(server.url).fetch("/data/local-files/?d=/etc/passwd", 1, soon())
        assert len(server.requests) == 1, "without a folder, Label Studio is asked"


def test_p02_links_pipes_and_folders(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "outside.png")
    (root / "in").symlink_to(root / "sub" / "a.png")
    (root / "dir").symlink_to(root.parent)
    os.mkfifo(root / "pipe")
    start = time.monotonic()
    for name in ("out", "dir/outside.png", "pipe", "sub"):
        with pytest.raises(InputError):
            read_local_file(root, name, 1000)
    assert time.monotonic() - start < 1, "a pipe must not hang"
    assert read_local_file(root, "in", 1000) == PNG
    with pytest.raises(InputError, match="larger"):
        read_local_file(root, "sub/a.png", 3)


def test_p02_special_files_are_not_read(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "s"))
        with pytest.raises(InputError):
            read_local_file(root, "s", 1000)


@pytest.mark.parametrize(
    "name", ["a b.png", "ä \u0431 图.png", "#?&+.png", "100%.png", "%20.png", "a'b\"c.png"]
)
def test_p03_names_round_trip(root: Path, name: str) -> None:
    (root / name).write_bytes(name.encode())
    uri = f"/data/local-files/?d={quote(name)}"
    assert (
        fetcher("http://ls.example", local_files_root=root).fetch(uri, 1, soon()) == name.encode()
    )
    assert relative_path(uri) == name


@given(st.text(max_size=60))
def test_p01_no_text_reads_outside(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "empty-root"
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError):
        read_local_file(folder.resolve(), text, 1000)


def test_i09_a_web_page_instead_of_an_image_is_said_so() -> None:
    from backend.files.images import decode_image

    with http_server(
        lambda *_: (200, {"Content-Type": "text/html"}, b"<!doctype html><html>login</html>")
    ) as server:
        target = fetcher("http://ls.example", allowed_hosts=("127.0.0.1",))
        data = target.fetch(f"{server.url}/a.png", 1, soon())
    with pytest.raises(InputError, match="login page"):
        decode_image(data)


def test_a_real_picture_arrives_whole() -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    ).save(stream, "PNG")
    with http_server(lambda *_: (200, {}, stream.getvalue())) as server:
        assert fetcher(server.url).fetch("/data/upload/1/a.png", 1, soon()) == stream.getvalue()
