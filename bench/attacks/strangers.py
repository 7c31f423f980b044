"""Attacks of strangers, before any conversation."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import secrets
import socket
import ssl

from bench.attacks.registry import again, attack, hold_open
from bench.attacks.wire import Address, Peer, attacker_name, closed_at_once, init, transcript
from bench.load.frames import upgrade_request
from bench.load.targets import API_KEY
from se_server.auth import AUTHORIZATION_HEADER


@attack("slow heads")
async def slow_heads(address: Address) -> None:
    async def drip() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", address.port, ssl=address.context())
        try:
            for byte in upgrade_request("/", API_KEY):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        finally:
            closed_at_once(writer)

    await again(300, drip)


@attack("silent connections")
async def silent_connections(address: Address) -> None:
    await again(1000, lambda: hold_open(address))


@attack("descriptors")
async def descriptors(address: Address) -> None:
    """More connections than the server has descriptors: `bench.attacks` starts it with 1,200."""
    await again(2500, lambda: hold_open(address, b"GET / HTTP/1.1\r\n"))


@attack("wrong tokens")
async def wrong_tokens(address: Address) -> None:
    async def refused() -> None:
        size = secrets.choice((1500, 6000))
        token = f"eyJhbGciOiJIUzI1NiJ9.{secrets.token_urlsafe(size)}.{secrets.token_urlsafe(32)}"
        head = upgrade_request("/", API_KEY).partition(AUTHORIZATION_HEADER.encode())[0]
        await Peer.open(address, head + f"{AUTHORIZATION_HEADER}: {token}\r\n\r\n".encode())

    await again(64, refused)


@attack("header floods")
async def header_floods(address: Address) -> None:
    base = upgrade_request("/", API_KEY)[:-2]
    heads = [
        base + b"X-Forwarded-For: " + b"127.0.0.1," * 1500 + b"127.0.0.1\r\n\r\n",
        base.replace(b"Connection: Upgrade", b"Connection: Upgrade" + b"," * 15_000) + b"\r\n",
        base + b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(90)) + b"\r\n",
        base + b"Forwarded: " + b"for=127.0.0.1," * 1000 + b"for=127.0.0.1\r\n\r\n",
        b"\x00" * 20_000,
    ]
    turn = itertools.cycle(heads)

    async def flood() -> None:
        peer = await Peer.open(address, next(turn))
        closed_at_once(peer.writer)

    await again(64, flood)


@attack("resets")
async def resets(address: Address) -> None:
    async def reset() -> None:
        peer = await Peer.open(address)
        peer.writer.write(init(attacker_name("reset")) + transcript("wait 1", 1))
        closed_at_once(peer.writer)

    await again(32, reset)


@attack("client hellos", needs_tls=True)
async def client_hellos(address: Address) -> None:
    """On a server without TLS these are requests that are no HTTP."""
    hello = bytes.fromhex("16030100c8010000c40303") + secrets.token_bytes(32) + bytes(168)

    async def greet() -> None:
        if not address.tls:
            await hold_open(address, hello)
            return
        _, writer = await asyncio.open_connection("127.0.0.1", address.port, ssl=address.context())
        closed_at_once(writer)

    await again(64, greet)


def flood_with_keys(port: int, context: ssl.SSLContext) -> None:
    """Ask the peer of TLS 1.3 for new keys until it hangs up, in a thread."""
    library = ctypes.CDLL(ssl._ssl.__file__)  # type: ignore[attr-defined]
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as sock:
        sock.sendall(upgrade_request("/", API_KEY))
        sock.recv(2000)
        # The second field after the head of the object is OpenSSL's `SSL *`.
        connection = ctypes.c_void_p.from_address(id(sock._sslobj) + object.__basicsize__ + 8).value  # type: ignore[attr-defined]
        while library.SSL_key_update(connection, 0) == 1 and library.SSL_do_handshake(connection) == 1:
            pass


@attack("key updates", needs_tls=True)
async def key_updates(address: Address) -> None:
    """Each request for new keys has 27 bytes, and costs either side more than a message."""
    context = address.context()
    assert context is not None
    loop = asyncio.get_running_loop()
    await again(8, lambda: loop.run_in_executor(None, flood_with_keys, address.port, context))
