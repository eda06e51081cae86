"""Dissolves the association of a datagram and of a stream socket by connect() to AF_UNSPEC (connect(2)); prints errnos."""

import ctypes
import socket

libc = ctypes.CDLL(None, use_errno=True)
for name, kind in [("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)]:
    server = socket.socket(socket.AF_INET, kind)
    server.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        server.listen()
    client = socket.socket(socket.AF_INET, kind)
    client.connect(server.getsockname())
    done = libc.connect(client.fileno(), bytes(16), 16)
    print(name, ctypes.get_errno() if done < 0 else 0)
