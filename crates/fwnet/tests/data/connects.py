"""Prints what connect() gives where nothing is denied: results and errnos, as JSON."""

import errno
import json
import select
import socket
import struct

facts = {}


def attempt(name, sock, target):
    try:
        sock.connect(target)
        facts[name] = "connected"
    except OSError as error:
        facts[name] = errno.errorcode[error.errno]
    return sock


def tcp(family=socket.AF_INET):
    return socket.socket(family, socket.SOCK_STREAM)


server = tcp()
server.bind(("127.0.0.1", 0))
server.listen()
here = server.getsockname()

connected = attempt("open", tcp(), here)
attempt("again", connected, here)
attempt("closed", tcp(), ("127.0.0.1", 9))
attempt("closed v6", tcp(socket.AF_INET6), ("::1", 9))
attempt("no route", tcp(), ("192.0.2.1", 80))
attempt("broadcast", tcp(), ("255.255.255.255", 80))
attempt("listening", server, here)
attempt("udp", socket.socket(socket.AF_INET, socket.SOCK_DGRAM), ("127.0.0.1", 9))
late = tcp()
late.setblocking(False)
attempt("nonblocking", late, here)
select.select([], [late], [], 10)
facts["nonblocking result"] = late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
attempt("nonblocking again", late, here)
# A listener whose queue is full answers nothing: the kernel's own time limit ends the attempt.
full = tcp()
full.bind(("127.0.0.1", 0))
full.listen(0)
waiting = [attempt(f"queued {number}", tcp(), full.getsockname()) for number in range(1)]
last = tcp()
last.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
last.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("qq", 0, 200000))
attempt("full", last, full.getsockname())
print(json.dumps(facts))
