"""Prints the errno of accept() where it fails for reasons of its own."""

import ctypes
import errno
import os
import signal
import socket

libc = ctypes.CDLL(None, use_errno=True)


def accept(name, fd, pointer=None, length=None):
    done = libc.accept(fd, pointer, length)
    print(name, errno.errorcode[ctypes.get_errno()] if done < 0 else done)


def listening():
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server


idle = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
accept("not listening", idle.fileno())
accept("not a socket", os.open("/dev/null", os.O_RDONLY))
accept("bad descriptor", 999)
# A signal without SA_RESTART ends the wait.
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
blocked = listening()
accept("interrupted", blocked.fileno())
signal.setitimer(signal.ITIMER_REAL, 0)
empty = listening()
os.set_blocking(empty.fileno(), False)
accept("empty", empty.fileno())
full = listening()
client = socket.create_connection(full.getsockname())
length = ctypes.c_uint(16)
accept("bad pointer", full.fileno(), ctypes.c_void_p(1), ctypes.byref(length))
