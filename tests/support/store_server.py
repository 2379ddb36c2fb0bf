"""An S3 of this machine, for tests of stores."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running server with an empty bucket, which this process and its workers use; gives the
    address of the bucket.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    try:
        import fsspec

        store = fsspec.get_filesystem_class("s3")
        store.clear_instance_cache()  # which knows the address of another server
        bucket = f"s3://labelling-{secrets.token_hex(4)}"
        store().mkdir(bucket)
        yield bucket
    finally:
        server.stop()
