"""Prints which error wins where several arguments are wrong, and that an address is not read past its length, as JSON."""

import ctypes
import errno
import json
import mmap
import os
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)
facts = {}


def call(name, fd, pointer, length):
    done = libc.connect(fd, ctypes.c_void_p(pointer), length)
    facts[name] = errno.errorcode[ctypes.get_errno()] if done < 0 else "0"


kept = []


def stream(family=socket.AF_INET):
    """A new socket's descriptor, open until the end."""
    kept.append(socket.socket(family, socket.SOCK_STREAM))
    return kept[-1].fileno()


page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc.mprotect(ctypes.c_void_p(start + page), page, 0)


def at_page_end(data):
    ctypes.memmove(start + page - len(data), data, len(data))
    return start + page - len(data), len(data)


inet = struct.pack("=H", socket.AF_INET) + struct.pack("!H", 9) + socket.inet_aton("127.0.0.1") + bytes(8)
call("bad descriptor and pointer", 999, 1, 16)
call("bad pointer", stream(), 1, 16)
call("no length", stream(), start, 0)
call("negative length", stream(), start, -1)
call("long length", stream(), start, 4096)
call("no socket", os.open("/dev/null", os.O_RDONLY), *at_page_end(inet))
call("whole address at the end of a page", stream(), *at_page_end(inet))
call("short address at the end of a page", stream(), *at_page_end(inet[:8]))
call("two bytes at the end of a page", stream(), *at_page_end(inet[:2]))
call("one byte", stream(), *at_page_end(inet[:1]))
# An AF_UNIX address may be as short as its name: two bytes of family, a zero byte for "abstract", and the name.
server = socket.socket(socket.AF_UNIX)
name = f"f{os.getpid() % 10000}"
server.bind("\0" + name)
server.listen()
unix = struct.pack("=H", socket.AF_UNIX) + b"\0" + name.encode()
call("short AF_UNIX address at the end of a page", stream(socket.AF_UNIX), *at_page_end(unix))
print(json.dumps(facts))
