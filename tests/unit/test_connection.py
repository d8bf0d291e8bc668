"""What can be in the way to an endpoint, with real sockets."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from amalgam.errors import EndpointError
from amalgam.llm.connection import open_client
from amalgam.llm.endpoint import NO_KEY, Endpoint, Limits
from amalgam.llm.sending.exchange import Failure, exchange
from tests.unit.sending import make_request

OTHER = "127.0.0.2"  # on this machine too, but asked as any other host is
ELSEWHERE = "https://llm.invalid/v1"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def ask(url: str) -> Failure:
    """Ask an endpoint once, which must fail."""

    async def try_it() -> None:
        endpoint = Endpoint(url, "m", NO_KEY)
        async with open_client(endpoint) as client:
            await exchange(client, endpoint, make_request(0), Limits(timeout=10))

    with pytest.raises(Failure) as caught:
        asyncio.run(try_it())
    assert "\n" not in caught.value.sentence
    return caught.value


def write_certificate(path: Path, host: str, days: int) -> None:
    """Write a self-signed certificate that ends so many days from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "toy")])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, end - datetime.timedelta(days=9), end)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + private)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        page = b"<html><title>Sign in</title></html>"
        leads_on = self.path.startswith("/v1")
        self.send_response(308 if leads_on else 200)
        self.send_header("Location", "/v2/chat/completions")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output clean."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing where the client goes away."""


@pytest.fixture
def page() -> Iterator[_Server]:
    """A server that leads on to a page."""
    server = _Server((OTHER, 0), _Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("host", "days", "trusted", "words"),
    [
        (OTHER, 5, False, "(self-signed certificate): set SSL_CERT_FILE in the environment to a file"),
        (OTHER, -1, True, "(certificate has expired): have it renewed"),
        ("127.0.0.9", 5, True, "not valid for '127.0.0.2'.): put the name that it is for into `llm.endpoint`"),
        (OTHER, 5, True, ""),
    ],
    ids=["self-signed", "expired", "another name", "trusted"],
)
def test_a_certificate(
    host: str, days: int, trusted: bool, words: str, page: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toy.pem"
    write_certificate(path, host, days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    page.socket = context.wrap_socket(page.socket, server_side=True)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    failure = ask(f"https://{OTHER}:{page.server_address[1]}/v1")
    if words:
        assert failure.sentence.startswith(f"the certificate of {OTHER} is not trusted (")
        assert words in failure.sentence
        assert not failure.can_pass
        assert not failure.may_cost
    else:
        assert "something other than a chat completion" in failure.sentence


def test_a_page_that_a_redirect_leads_to(page: _Server) -> None:
    url = f"http://{OTHER}:{page.server_address[1]}"
    sentence = ask(f"{url}/v1").sentence
    assert sentence.startswith(f"the LLM endpoint {url}/v1 answers with something other than a chat completion (<html>")
    assert sentence.endswith(f"the endpoint redirects to {url}/v2: set `llm.endpoint` to that")


def test_tls_to_a_server_without(page: _Server) -> None:
    failure = ask(f"https://{OTHER}:{page.server_address[1]}/v1")
    assert "check whether `llm.endpoint` begins with https:// or http://" in failure.sentence
    assert not failure.can_pass


def test_a_name_that_no_one_knows() -> None:
    failure = ask(ELSEWHERE)
    assert failure.sentence.startswith(f"the LLM endpoint {ELSEWHERE} does not answer (")
    assert "check the name llm.invalid in `llm.endpoint` and the network" in failure.sentence
    assert (failure.can_pass, failure.may_cost) == (True, False)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (None, "does not answer (All connection attempts failed) through the proxy"),
        (b"", "disconnected without sending a response.) through the proxy"),
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "(407 Proxy Authentication Required) through the proxy",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "does not answer (403 Forbidden) through the proxy"),
    ],
    ids=["not there", "hangs up", "407", "403"],
)
def test_a_proxy(reply: bytes | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(9999)
            connection.sendall(reply or b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        if reply is None:
            listener.close()
        else:
            threading.Thread(target=answer, args=[listener], daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@{address}")
        sentence = ask(ELSEWHERE).sentence
    assert words in sentence
    assert f"check HTTPS_PROXY={address} in the environment, or put llm.invalid into NO_PROXY" in sentence
    assert "hunter2" not in sentence
    monkeypatch.setenv("NO_PROXY", "llm.invalid")
    assert "through the proxy" not in ask(ELSEWHERE).sentence


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "ftp://proxy:21", "HTTPS_PROXY in the environment is of no use (Unknown scheme"),
        ("HTTP_PROXY", "http://proxy:port", "HTTP_PROXY in the environment is of no use (Invalid port: 'port')"),
        ("ALL_PROXY", "http://[::1", "ALL_PROXY in the environment is of no use ("),
        ("SSL_CERT_FILE", "/no/such.pem", "SSL_CERT_FILE names in the environment cannot be read ([Errno 2] No such"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE names in the environment cannot be read ("),
    ],
)
def test_an_environment_that_is_of_no_use(
    name: str, value: str, words: str, page: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EndpointError) as caught:
        open_client(Endpoint(ELSEWHERE, "m", NO_KEY))
    assert words in str(caught.value)
    assert "unset it" in str(caught.value)
    # A server of one's own, such as the embedded one, has nothing to do with it.
    open_client(Endpoint("http://127.0.0.1:8000/v1", "m", NO_KEY))
