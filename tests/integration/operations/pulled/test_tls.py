"""What an API says over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from libs.adapters.bus import Bus
from libs.datasets import Dataset
from libs.errors import Permanent
from tests.integration.operations.pulled.api import Answer, Api, a_pull, an_order, records


@pytest.fixture
async def private(api: Api, tmp_path: Path) -> AsyncIterator[tuple[list[str | None], Path]]:
    """The API over TLS with a certificate that nobody else has signed: whom clients said hello to, and the file."""
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    hellos: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: hellos.append(name)
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0, ssl=context)
    api.url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1/orders"
    yield hellos, certificate
    server.close()
    await server.wait_closed()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """The files of a certificate for localhost and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    written = (folder / "certificate.pem", folder / "key.pem")
    written[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    written[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return written


async def test_a_certificate_that_is_not_trusted_is_said_at_once(
    bus: Bus, orders: Dataset, api: Api, private: tuple[list[str | None], Path]
) -> None:
    hellos, _ = private
    with pytest.raises(Permanent) as caught:
        await a_pull(bus, orders, f"{api.url}?token=s3cret").once()
    said = str(caught.value)
    assert said.startswith(f"the certificate of {api.url} is not trusted: self-signed certificate. Try: ")
    assert "s3cret" not in said
    assert (hellos, api.asked) == (["localhost"], [])


async def test_a_certificate_is_trusted_that_ssl_cert_file_names(
    bus: Bus,
    orders: Dataset,
    api: Api,
    private: tuple[list[str | None], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(private[1]))
    api.answers = [Answer(body=records(an_order(1)))]
    assert (await a_pull(bus, orders, api.url).once()).events == 1
