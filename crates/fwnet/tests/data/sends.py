"""Sends to ADDRESS PORT by sendmmsg(), and by sendto() with an address of the family AF_UNSPEC (which the kernel takes for
AF_INET, udp(7)); prints the errno of each."""

import ctypes
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)


class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.POINTER(iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class mmsghdr(ctypes.Structure):
    _fields_ = [("header", msghdr), ("length", ctypes.c_uint)]


def address(family):
    return struct.pack("=H", family) + struct.pack("!H", int(sys.argv[2])) + socket.inet_aton(sys.argv[1]) + bytes(8)


sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
part = iovec(b"x", 1)
name = address(socket.AF_INET)
message = mmsghdr(msghdr(name, 16, ctypes.pointer(part), 1, None, 0, 0), 0)
sent = libc.sendmmsg(sender.fileno(), ctypes.byref(message), 1, 0)
print("sendmmsg", ctypes.get_errno() if sent < 0 else 0)
sent = libc.sendto(sender.fileno(), b"x", 1, 0, address(socket.AF_UNSPEC), 16)
print("unspec", ctypes.get_errno() if sent < 0 else 0)
