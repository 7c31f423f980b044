"""TLS of a client: the certificates that it trusts, and the one that it shows."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from se_server.errors import ConfigError
from se_server.options import shown_file


@dataclass(frozen=True)
class ClientTls:
    """The way in which a client speaks TLS.

    Attributes:
        cafile: certificates to trust, instead of the system's.
        insecure: whether any certificate is trusted, of whatever name.
        cert: the client's own certificate, for servers that require one.
        key: the private key of `cert`; None if it is in the same file.
    """

    cafile: str | None = None
    insecure: bool = False
    cert: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        """Make the context for one connection or for many.

        Raises:
            ConfigError: a file cannot be read or has something else in it.
        """
        try:
            context = ssl.create_default_context(cafile=self.cafile)
        except (OSError, ssl.SSLError) as error:
            fault = _fault(error, "certificates in PEM form")
            raise ConfigError(f"--cafile: {shown_file(self.cafile)} {fault}") from None
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert is None:
            if self.key is not None:
                raise ConfigError("--key needs --cert, the certificate that it belongs to")
            return context
        try:
            # Without a password, the interpreter would ask for one on the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except (OSError, ssl.SSLError, ValueError) as error:
            files = " and ".join(shown_file(name) for name in (self.cert, self.key) if name is not None)
            fault = _fault(error, "a certificate and its private key in PEM form, without a password")
            raise ConfigError(f"--cert: {files} {fault}") from None
        return context


SYSTEM_TLS = ClientTls()
"""Trusts the system's certificates, and shows none."""


def _fault(error: Exception, expected: str) -> str:
    # An SSLError is an OSError, and its text is that of OpenSSL.
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"cannot be read: {error.strerror or error}"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "do not belong together: expected a certificate and its own private key"
    return f"cannot be used: expected {expected}"
