"""Listen sockets and the beginnings of byte streams: TLS and the PROXY protocol."""
