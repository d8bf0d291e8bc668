"""The client with real sockets: obstacles on the way to an endpoint, and requests that it takes in another form."""

import asyncio
import dataclasses
import datetime
import ipaddress
import re
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
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


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


def write_certificate(path: Path) -> None:
    """Write a self-signed certificate of a day, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "toy")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(OTHER))]), False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + private)


class _Handler(JsonHandler):
    def do_GET(self) -> None:  # noqa: N802 - a redirect with 301 makes one of a POST
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:  # noqa: N802
        self.read()
        page = b"<html><title>Sign in</title></html>"
        self.send_response({"old": 308, "plain": 301}.get(self.path.split("/")[1], 200))
        self.send_header("Location", "/v2/chat/completions")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.fixture
def page() -> Iterator[LocalServer]:
    """A server that answers with a page, from some addresses by a redirect."""
    with LocalServer((OTHER, 0), _Handler) as server:
        server.start()
        yield server


def test_a_certificate_must_be_trusted(page: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, url = tmp_path / "toy.pem", f"https://{OTHER}:{page.server_address[1]}/v1"
    write_certificate(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    page.socket = context.wrap_socket(page.socket, server_side=True)
    failure = ask(url)
    assert "self-signed certificate" in failure.sentence
    assert "set SSL_CERT_FILE in the environment" in failure.sentence
    assert not failure.can_pass
    assert not failure.may_cost
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert "something other than a chat completion" in ask(url).sentence


def test_an_address_that_is_no_endpoint(page: LocalServer) -> None:
    host = f"{OTHER}:{page.server_address[1]}"
    failure = ask(f"http://{host}/v1")
    assert "something other than a chat completion (<html><title>Sign in</title></html>): check" in failure.sentence
    assert (failure.can_pass, failure.may_cost) == (True, True)
    assert f"set `llm.endpoint` to http://{host}/v2, to which it redirects" in ask(f"http://{host}/old").sentence
    assert f"status 405 (no message): set `llm.endpoint` to http://{host}/v2" in ask(f"http://{host}/plain").sentence
    failure = ask(f"https://{host}/v1")
    assert "check whether `llm.endpoint` begins with https:// or http://" in failure.sentence
    assert (failure.can_pass, failure.may_cost) == (False, False)
    failure = ask(ELSEWHERE)
    assert "https://llm.invalid/v1 does not answer (" in failure.sentence
    assert (failure.can_pass, failure.may_cost) == (True, False)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (None, "does not answer (All connection attempts failed): check"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "(407 Proxy Authentication Required): check"),
    ],
)
def test_a_proxy(reply: bytes | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(9999)
            connection.sendall(reply or b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{listener.getsockname()[1]}")
        if reply is None:
            listener.close()
        else:
            threading.Thread(target=answer, args=[listener], daemon=True).start()
        failure = ask(ELSEWHERE)
    assert words in failure.sentence
    assert "HTTPS_PROXY and NO_PROXY in the environment" in failure.sentence
    assert "hunter2" not in failure.sentence
    assert failure.can_pass == (reply is None)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "ftp://me:hunter2@proxy:21", "Unknown scheme"),
        ("HTTP_PROXY", "http://proxy:port", "Invalid port: 'port'"),
        ("SSL_CERT_FILE", "/no/such.pem", "[Errno 2] No such"),
        ("SSL_CERT_FILE", __file__, ""),
    ],
)
def test_an_environment_that_is_of_no_use(name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EndpointError, match=rf"can be opened \({re.escape(words)}.*unset SSL_CERT_FILE") as caught:
        open_client(Endpoint(ELSEWHERE, "m", NO_KEY))
    assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)
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


@pytest.mark.parametrize("refused", [("json_schema",), ("json_schema", "json_object")])
def test_where_a_schema_is_refused_words_say_what_is_wanted(
    refused: tuple[str, ...], plain: PlainServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain.refused = refused
    answering = make_answering(tmp_path, plain.url, concurrency=4)
    requests = [ask_for_json(number) for number in range(20)]
    answer_requests(requests[:12], answering, "test")
    said = [line for line in capsys.readouterr().err.splitlines() if "JSON" in line]
    assert len(said) == len(refused)
    for sentence, words in zip(said, ("a JSON object instead", "JSON only in the prompt"), strict=False):
        assert f"does not accept a JSON schema ({plain.message}): it is asked for {words}" in sentence
    left = "text" if "json_object" in refused else "json_object"
    assert {one.body.get("response_format", {}).get("type", "text") for one in plain.log.answered} == {left}
    assert all(one.body["messages"][-1]["content"].endswith(f"\n\n{WORDS}") for one in plain.log.answered)
    # Only those in flight when the refusal was noticed; the next call uses the other form from the start.
    failed = len(plain.log.failed)
    assert failed <= 4 * len(refused)
    answer_requests(requests[12:], answering, "test")
    assert len(plain.log.failed) == failed
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
    assert turns[0]["content"] == "Rubric"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, "wrong key\nsk-secret"), "answered with status 401 (wrong key ***): set OPENAI_API_KEY"),
        (Fault(404, "no model x"), "answered with status 404 (no model x): check `llm.endpoint` and `llm.model`"),
        (Fault(424, "CUDA error"), "answered with status 424 (CUDA error): run again later"),
        (Fault(400, body=b"bad"), "rejected the request complaint-0 with status 400 (bad): use `llm.body` to leave"),
        (Fault(502, body=b"<html>" + b"x" * 9999), f"answered with status 502 (<html>{'x' * 294}): run again later"),
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


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secrét"])
def test_a_key_that_cannot_be_sent_is_told_but_not_shown(key: str) -> None:
    with pytest.raises(EndpointError, match="OPENAI_API_KEY contains an invalid character") as caught:
        open_client(Endpoint(ELSEWHERE, "served", key))
    assert "secr" not in str(caught.value)
