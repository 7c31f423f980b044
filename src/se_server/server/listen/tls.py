"""The TLS context of the listen sockets, from the files that the options name."""

from __future__ import annotations

import ssl

from se_server.errors import ConfigError
from se_server.options import shown_file

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"


class _EncryptedKey(Exception):
    """The key is encrypted; OpenSSL would ask the terminal for its password."""


def make_context(certfile: str | None, keyfile: str | None, ca_certs: str | None) -> ssl.SSLContext | None:
    """Make the context of a server that speaks TLS 1.2 and later.

    Args:
        certfile: a PEM file with the certificate and its chain; None for no TLS.
        keyfile: a PEM file with the certificate's key; None if the key is in `certfile`.
        ca_certs: a PEM file with the authorities that sign the clients' certificates; with it, every
            client needs a certificate.

    Raises:
        ConfigError: a file cannot be used; the text names the file.
    """
    if certfile is None:
        for option, name in (("keyfile", keyfile), ("ca-certs", ca_certs)):
            if name is not None:
                raise ConfigError(
                    f"--{option} {shown_file(name)} has no effect without a certificate: give --certfile FILE, too"
                )
        return None
    _check_file("certfile", certfile, _CERTIFICATE, "certificate")
    _check_file(*(("keyfile", keyfile) if keyfile else ("certfile", certfile)), _KEY, "private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation lets a client repeat the handshake, the costly part, at will.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile, password=_refuse_password)
    except _EncryptedKey:
        raise ConfigError(f"the key in {keyfile or certfile} is encrypted: decrypt it, as nobody is asked") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"the key in {keyfile or certfile} is not that of the certificate {certfile}") from None
        names = f"{certfile} and {keyfile}" if keyfile else certfile
        raise ConfigError(f"cannot use the certificate and key in {names}: {_reason(error)}") from None
    if ca_certs is not None:
        _check_file("ca-certs", ca_certs, _CERTIFICATE, "certificate")
        try:
            context.load_verify_locations(ca_certs)
        except ssl.SSLError as error:
            raise ConfigError(f"cannot use the certificates in {ca_certs}: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_file(option: str, name: str, marker: bytes, wanted: str) -> None:
    # OpenSSL does not report which of two files it could not read.
    try:
        with open(name, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ConfigError(f"--{option}: cannot read {shown_file(name)}: {error.strerror}") from None
    if marker not in content:
        raise ConfigError(f"--{option}: {name} holds no {wanted} in PEM form")


def _refuse_password() -> str:
    raise _EncryptedKey


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "no valid PEM").replace("_", " ").lower()
