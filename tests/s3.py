"""An S3 server on loopback that can be told to refuse, and the environment that leads to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class S3Server:
    """Moto behind a door that lets so many PUT requests through.

    Attributes:
        url: Of the endpoint.
        puts: Names of the objects written so far, in order.
        allowed: PUT requests that are still let through; None: all.
        refusal: (status, code) of the others.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                pass

        self._inner: Application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.puts: list[str] = []
        self.allowed: int | None = None
        self.refusal = ("403 Forbidden", "AccessDenied")
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            with self._lock:
                if self.allowed == 0:
                    status, code = self.refusal
                    start(status, [("Content-Type", "application/xml")])
                    return [f"<Error><Code>{code}</Code><Message>{code} it was</Message></Error>".encode()]
                self.allowed = None if self.allowed is None else self.allowed - 1
                self.puts.append(environ["PATH_INFO"])
        return self._inner(environ, start)

    def environment(self) -> dict[str, str]:
        """Variables under which s3://… is this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> None:
        import boto3

        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1",
                              aws_access_key_id="test", aws_secret_access_key="test")  # fmt: skip
        client.create_bucket(Bucket=name)
        self.puts.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
