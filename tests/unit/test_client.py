"""The client with real sockets: obstacles on the way to an endpoint, and requests that it takes in another form."""

import asyncio
import dataclasses
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from amalgam.errors import EndpointError
from amalgam.llm.answering import answer_requests
from amalgam.llm.client import Failure, exchange, open_client
from amalgam.llm.journal import Journal
from amalgam.llm.request import NO_KEY, Endpoint, Limits, Request, shape_body
from amalgam.synthesis.asking import build_response_format
from tests.pipeline.local import JsonHandler, LocalServer
from tests.pipeline.server import Fault, Received, StubServer
from tests.unit.helpers import make_answering
from tests.unit.sending import make_request, send, send_groups

OTHER = "127.0.0.2"  # on this machine too, but treated like any other host
ELSEWHERE = "https://llm.invalid/v1"
SCHEMA = {"type": "object", "properties": {"label": {"type": "string", "enum": ["a", "grün"]}}}
GRADE = {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": SCHEMA}}
WORDS = 'Answer with a JSON object and nothing else. Its keys: "label" (one of "a", "grün").'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def ask(url: str) -> Failure:
    """Ask an endpoint once; this must fail."""

    async def try_it() -> None:
        endpoint = Endpoint(url, "m", NO_KEY)
        async with open_client(endpoint) as client:
            await exchange(client, endpoint, make_request(0), Limits(timeout=10))

    with pytest.raises(Failure) as caught:
        asyncio.run(try_it())
    assert "\n" not in caught.value.sentence
    return caught.value


def write_certificate(path: Path, host: str, days: int) -> None:
    """Write a self-signed certificate that expires that many days from now, and its key."""
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


class _Handler(JsonHandler):
    def do_POST(self) -> None:  # noqa: N802
        self.read()
        page = b"<html><title>Sign in</title></html>"
        leads_on = self.path.startswith("/v1")
        self.send_response(308 if leads_on else 200)
        self.send_header("Location", "/v2/chat/completions")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.fixture
def page() -> Iterator[LocalServer]:
    """A server that redirects to a page."""
    with LocalServer((OTHER, 0), _Handler) as server:
        server.start()
        yield server


@pytest.mark.parametrize(
    ("host", "days", "trusted", "words"),
    [
        (OTHER, 5, False, "(self-signed certificate): set SSL_CERT_FILE in the environment to a file"),
        (OTHER, -1, True, "(certificate has expired): have it renewed"),
        ("127.0.0.9", 5, True, "not valid for '127.0.0.2'.): use the name that it was issued for in `llm.endpoint`"),
        (OTHER, 5, True, ""),
    ],
    ids=["self-signed", "expired", "another name", "trusted"],
)
def test_a_certificate(
    host: str, days: int, trusted: bool, words: str, page: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.parametrize(
    ("url", "words", "can_pass", "may_cost"),
    [
        (
            f"http://{OTHER}:PORT/v1",
            "answers with something other than a chat completion (<html><title>Sign in</title></html>): the endpoint "
            f"redirects to http://{OTHER}:PORT/v2: set `llm.endpoint` to that",
            True,
            True,
        ),
        (f"https://{OTHER}:PORT/v1", "check whether `llm.endpoint` begins with https:// or http://", False, False),
        (ELSEWHERE, "check the name llm.invalid in `llm.endpoint` and the network", True, False),
    ],
    ids=["a page by a redirect", "TLS to a server without", "a name that no one knows"],
)
def test_an_address_that_is_no_endpoint(
    url: str, words: str, can_pass: bool, may_cost: bool, page: LocalServer
) -> None:
    port = str(page.server_address[1])
    failure = ask(url.replace("PORT", port))
    assert failure.sentence.startswith(f"the LLM endpoint {url.replace('PORT', port)} ")
    assert words.replace("PORT", port) in failure.sentence
    assert (failure.can_pass, failure.may_cost) == (can_pass, may_cost)


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
    assert f"check HTTPS_PROXY={address} in the environment, or add llm.invalid to NO_PROXY" in sentence
    assert "hunter2" not in sentence
    monkeypatch.setenv("NO_PROXY", "llm.invalid")
    assert "through the proxy" not in ask(ELSEWHERE).sentence


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "ftp://proxy:21", "HTTPS_PROXY in the environment is unusable (Unknown scheme"),
        ("HTTP_PROXY", "http://proxy:port", "HTTP_PROXY in the environment is unusable (Invalid port: 'port')"),
        ("ALL_PROXY", "http://[::1", "ALL_PROXY in the environment is unusable ("),
        ("SSL_CERT_FILE", "/no/such.pem", "SSL_CERT_FILE names in the environment cannot be read ([Errno 2] No such"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE names in the environment cannot be read ("),
    ],
)
def test_an_environment_that_is_of_no_use(
    name: str, value: str, words: str, page: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EndpointError) as caught:
        open_client(Endpoint(ELSEWHERE, "m", NO_KEY))
    assert words in str(caught.value)
    assert "unset it" in str(caught.value)
    # A local server, such as the embedded one, is not affected.
    open_client(Endpoint("http://127.0.0.1:8000/v1", "m", NO_KEY))


class PlainServer(StubServer):
    """Refuses some forms of JSON."""

    refused: tuple[str, ...] = ()
    message = "This response_format type is unavailable now"

    def take(self, request: Received, *, has_room: bool = True) -> Fault | None:
        if request.body.get("response_format", {}).get("type", "text") in self.refused:
            self.log.failed.append(request)
            return Fault(400, self.message)
        return super().take(request, has_room=has_room)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        return super().complete({name: part for name, part in body.items() if name != "response_format"})


@pytest.fixture
def plain() -> Iterator[PlainServer]:
    with PlainServer() as server:
        yield server


def ask_for_json(number: int) -> Request:
    request = make_request(number)
    return dataclasses.replace(request, body=request.body | {"response_format": GRADE})


@pytest.mark.parametrize(
    ("refused", "left", "notices"),
    [
        (("json_schema",), {"json_object"}, ["a JSON object instead"]),
        (("json_schema", "json_object"), {"text"}, ["a JSON object instead", "JSON only in the prompt"]),
    ],
)
@pytest.mark.parametrize("message", [PlainServer.message, "Unprocessable"])
def test_where_a_schema_is_refused_words_say_what_is_wanted(
    refused: tuple[str, ...],
    left: set[str],
    notices: list[str],
    message: str,
    plain: PlainServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain.refused, plain.message = refused, message
    answering = make_answering(tmp_path, plain.url, concurrency=4)
    requests = [ask_for_json(number) for number in range(20)]
    answer_requests(requests[:12], answering, "test")
    said = [line for line in capsys.readouterr().err.splitlines() if "JSON" in line]
    assert len(said) == len(notices)
    for sentence, words in zip(said, notices, strict=True):
        assert f"does not accept a JSON schema ({message}): it is asked for {words}" in sentence
    assert {one.body.get("response_format", {}).get("type", "text") for one in plain.log.answered} == left
    assert all(one.body["messages"][-1]["content"].endswith(f"\n\n{WORDS}") for one in plain.log.answered)
    # Only those in flight when the refusal was noticed; the next call uses the other form from the start.
    failed = len(plain.log.failed)
    assert failed <= 4 * len(notices)
    answer_requests(requests[12:], answering, "test")
    assert len(plain.log.failed) == failed
    assert "JSON" not in capsys.readouterr().err
    assert len(answer_requests(requests, answering, "test")) == 20  # under the keys of the original requests
    assert len(plain.log.answered) == 20


def test_where_every_form_is_refused_the_run_ends(plain: PlainServer, journal: Journal) -> None:
    plain.refused = ("json_schema", "json_object", "text")
    with pytest.raises(EndpointError, match=r"rejected the request .+ with status 400 \(This response_format"):
        send_groups([[ask_for_json(0)]], Endpoint(plain.url, "served", "k"), journal)


def test_the_words_stand_with_the_task() -> None:
    turns = [{"role": "system", "content": "Rubric"}, {"role": "user", "content": "Text"}]
    body = {"messages": turns, "response_format": build_response_format(2), "seed": 1}
    words = 'Answer with a JSON object and nothing else. Its keys: "response_1" (a text), "response_2" (a text).'
    shaped = {"messages": [{"role": "system", "content": f"Rubric\n\n{words}"}, turns[1]], "seed": 1}
    assert shape_body(body, 0) is body
    assert shape_body(body, 1) == shaped | {"response_format": {"type": "json_object"}}
    assert shape_body(body, 2) == shaped
    assert body["messages"] is turns
    assert turns[0]["content"] == "Rubric"
    assert shape_body({"messages": turns}, 2) == {"messages": turns}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, "wrong key\nsk-secret"), "answered with status 401 (wrong key ***): set OPENAI_API_KEY"),
        (Fault(403, "no"), "answered with status 403 (no): check the permissions of the key in OPENAI_API_KEY"),
        (Fault(404, "no model x"), "answered with status 404 (no model x): check `llm.endpoint` and `llm.model`"),
        (Fault(400, body=b"bad"), "rejected the request complaint-0 with status 400 (bad): use `llm.body` to leave"),
        (Fault(429, "slow"), "answered with status 429 (slow): wait, or lower `llm.concurrency`"),
        (Fault(502, body=b"<html>" + b"x" * 9999), f"answered with status 502 (<html>{'x' * 294}): run again later"),
        (Fault(200, body=b"<html>"), "answers with something other than a chat completion (<html>): check `llm.end"),
        (Fault(0), "does not answer (Server disconnected"),
    ],
)
def test_a_refusal_says_what_the_endpoint_says(fault: Fault, words: str, server: StubServer, journal: Journal) -> None:
    server.fault = fault
    with pytest.raises(EndpointError) as caught:
        send(1, server, journal, retries=0)
    assert str(caught.value).startswith(f"the LLM endpoint {server.url} {words}")
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_does_not_answer_is_told(server: StubServer, journal: Journal) -> None:
    server.delay = 0.5
    with pytest.raises(EndpointError, match=r"does not answer \(no answer within 0.1 s\): .*raise `llm.timeout`"):
        send(1, server, journal, retries=0, timeout=0.1)
    server.server_close()
    with pytest.raises(EndpointError, match=r"does not answer \(All connection attempts failed\): check"):
        send(1, server, journal, retries=0)


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secrét"])
def test_a_key_that_cannot_be_sent_is_told_but_not_shown(key: str, server: StubServer, journal: Journal) -> None:
    with pytest.raises(EndpointError, match="OPENAI_API_KEY contains an invalid character") as caught:
        send_groups([[make_request(0)]], Endpoint(server.url, "served", key), journal)
    assert "secr" not in str(caught.value)
    assert not server.log.arrived
