"""Accepts on PORT with every kind of buffer, one connection each, and prints who came."""

import ctypes
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", int(sys.argv[1])))
server.listen()


def inet(address, port):
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(address) + bytes(8)


# What is in the buffer before the call, and how long the caller says it is.
ways = {
    "null": (None, 0),
    "zeroed": (bytes(16), 16),
    "denied address": (inet("10.7.0.2", 20000), 16),
    "denied port": (inet("0.0.0.0", 10000), 16),
    "short": (bytes(16), 4),
    "none": (bytes(16), 0),
}
for way, (content, length) in ways.items():
    print("waiting", way, flush=True)
    if content is None:
        fd = libc.accept(server.fileno(), None, None)
    else:
        buffer = ctypes.create_string_buffer(content, 16)
        size = ctypes.c_uint(length)
        fd = libc.accept(server.fileno(), buffer, ctypes.byref(size))
        if size.value != 16:
            sys.exit(f"{way}: the length is {size.value}")
    if fd < 0:
        sys.exit(f"{way}: errno {ctypes.get_errno()}")
    peer = socket.socket(fileno=fd)
    print("accepted", way, "from", peer.getpeername()[0], flush=True)
    peer.close()
