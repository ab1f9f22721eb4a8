"""Who is let in: tokens, certificates, and what a gate that others can reach refuses to start without."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from firewall.cli import app, run
from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.gate.clients import Rates, Tokens, is_loopback, tls_context
from firewall.gate.judge import Judge
from firewall.gate.refusal import Refusal
from tests.gate.asking import MODEL, ask, infer, make_gate, plain, request_of, served
from tests.server.wire import dial, is_closed

TOKEN = "0123456789abcdef0123456789abcdef"


def token_file(folder: Path, text: str = f"{TOKEN}\n", mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_only_who_has_the_token_is_answered(judge: Judge, tmp_path: Path, benign_sign: Pixels) -> None:
    """All but health and the description want it; a wrong, empty, doubled or otherwise written one gets 401."""
    tokens = Tokens(str(token_file(tmp_path, f"camera-1 {TOKEN}\n\n{TOKEN[::-1]}\n")))
    with served(make_gate(judge, tokens=tokens)) as server:
        request = request_of(benign_sign)
        assert infer(server, request, Authorization=f"Bearer {TOKEN}").status == 200
        assert infer(server, request, authorization=f"bearer {TOKEN[::-1]}").status == 200
        for wrong in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN):
            found = infer(server, request, Authorization=wrong)
            assert (found.status, found.json["code"]) == (401, "unauthorized")
            assert found.headers["WWW-Authenticate"] == "Bearer"
        for path in ("/v2", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready"):
            assert ask(server, path=path).status == 401
        for path in ("/v2/health/live", "/v2/health/ready", "/openapi.json"):
            assert ask(server, path=path).status == 200


def test_tokens_name_their_clients(tmp_path: Path) -> None:
    """By the name before them, else by their line."""
    tokens = Tokens(str(token_file(tmp_path, f"camera-1 {TOKEN}\n{TOKEN[::-1]}\n")))
    assert tokens.client(f"Bearer {TOKEN}") == "camera-1"
    assert tokens.client(f"Bearer {TOKEN[::-1]}") == "token 2"
    with pytest.raises(Refusal):
        tokens.client(None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no token"),
        ("\n \n", "holds no token"),
        ("short\n", "line 1 holds no token"),
        (f"a b {TOKEN}\n", "line 1"),
    ],
)
def test_what_is_no_token_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """In one line that holds none of it."""
    with pytest.raises(UsageError, match=said) as error:
        Tokens(str(token_file(tmp_path, text)))
    assert TOKEN not in str(error.value) and "short" not in str(error.value)


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """As with every secret; one in the environment has to be there."""
    with pytest.raises(UsageError, match=r"--token .*chmod 600"):
        Tokens(str(token_file(tmp_path, mode=0o644)))
    with pytest.raises(UsageError, match="no environment variable"):
        Tokens("env:NOT_THERE")


def make_certificates(folder: Path) -> None:
    """ca.pem, server.pem and client.pem that it signed, and other.pem that signed itself; each with its .key."""

    def make(
        name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
    ) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(timezone.utc)
        signer = (subject, key) if issuer is None else issuer
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .sign(signer[1], hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(private)
        return subject, key

    authority = make("ca", None)
    make("server", authority)
    make("client", authority)
    make("other", None)


def test_mutual_tls_lets_in_whose_certificate_is_signed(judge: Judge, tmp_path: Path, benign_sign: Pixels) -> None:
    """With a real handshake: a signed certificate gets a label, none or another is turned away before a request."""
    make_certificates(tmp_path)
    tls = tls_context(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    with served(make_gate(judge), tls=tls) as server:
        assert server.url.startswith("https://")
        port = urlsplit(server.url).port

        def asked(name: str | None) -> int:
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            context.check_hostname = False
            if name is not None:
                context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
            with contextlib.closing(connection):
                for _ in range(3):  # a connection that stays open is answered again and again
                    connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(request_of(benign_sign)))
                    answer = connection.getresponse()
                    answer.read()
                return answer.status

        assert asked("client") == 200
        for name in (None, "other"):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                asked(name)


def test_certificates_that_cant_be_used_are_refused(tmp_path: Path) -> None:
    """Missing, of another key, no PEM, and halves of the pair."""
    make_certificates(tmp_path)
    (tmp_path / "junk").write_text("junk")
    server, key, ca = tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem"
    for given in (
        (server, None, None),
        (None, key, None),
        (None, None, ca),
        (server, tmp_path / "client.key", None),
        (server, tmp_path / "none", None),
        (tmp_path / "junk", key, None),
        (server, key, tmp_path / "junk"),
        (server, key, tmp_path / "none"),
    ):
        with pytest.raises(UsageError) as error:
            tls_context(*given)
        assert "\n" not in str(error.value)


def test_loopback_is_what_no_other_machine_reaches() -> None:
    """Names that could be resolved otherwise are none."""
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.0.2.1", "fe80::1", "myhost", "localhost.lan"))


def test_rates_forget_clients_that_came_long_ago() -> None:
    """So that many addresses take no memory."""
    rates = Rates(5.0)
    for number in range(10_000):
        rates.take(f"client {number}", 1)
    assert len(rates._buckets) <= 4096


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--http", "0.0.0.0:0"], "give --token FILE, or --client-ca"),
        (["--http", "[::]:0"], "give --token FILE, or --client-ca"),
        (["--http", "off"], "no address for --http"),
        (["--http", "127.0.0.1:0", "--upstream", "http://localhost:1"], "--upstream needs --model"),
        (["--upstream", "ftp://x", "--model", "m"], "names no upstream"),
        (["--upstream", "http://u:p@x", "--model", "m"], "user name or password"),
        (["--upstream-output", "logits"], "is for a gate with --upstream"),
        (["--floats", "2"], "give 255, 1, network"),
        (["--tls-cert", "x.pem"], "go together"),
        (["--token", "/nowhere/token"], "can't read --token"),
        (["--withhold-probing", "--probing-after", "0"], "needs --probing-after"),
        (["--model", ""], "is no name of a model"),
        (["--model", "a/b"], "is no name of a model"),
        (["--metrics", "x"], "no address for --metrics"),
        (["--bundle", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cant_be_served_is_refused_at_the_start(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2 for wrong use, and no port is opened."""
    assert run(app, ["gate", *arguments], "firewall") in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("firewall: error: ") and said in line


def test_the_command_answers_until_it_is_stopped(tmp_path: Path, benign_sign: Pixels) -> None:
    """A process with a token from the environment: it says where it listens, answers, and ends with code 0."""
    line = [sys.executable, "-m", "firewall", "gate", "--http", "127.0.0.1:0", "--threads", "1", "--token", "env:GATE"]
    environment = {**os.environ, "GATE": TOKEN}
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("gate: http"))
        port = urlsplit(said.split()[1].rstrip(",")).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 422)):
            connection.request("POST", "/v2/models/traffic-signs/infer", json.dumps(request_of(plain())), headers)
            answer = connection.getresponse()
            assert answer.status == status and answer.read()
            connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_who_agrees_on_no_tls_is_let_go(judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a handshake is none that the other limits count, so it has a limit of its own."""
    make_certificates(tmp_path)
    monkeypatch.setattr("firewall.server.http._HANDSHAKE", 0.3)
    tls = tls_context(tmp_path / "server.pem", tmp_path / "server.key", None)
    with served(make_gate(judge), tls=tls) as server, dial(server) as client:
        assert is_closed(client)
