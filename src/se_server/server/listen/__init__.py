"""What a server is bound to, and what a byte stream starts with: sockets, TLS, the PROXY protocol."""
