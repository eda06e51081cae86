"""A DNS server for one name, and a client for it, over UDP and over TCP (RFC 1035): `serve` answers every question on
port 53 with 192.0.2.80; `ask ADDRESS` prints what it answers."""

import socket
import struct
import sys
import threading

QUESTION = b"\3www\7example\0" + struct.pack("!HH", 1, 1)
ANSWER = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("192.0.2.80")


def answer(query):
    return query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + query[12:] + ANSWER


def serve():
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", 53))
    streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    streams.bind(("0.0.0.0", 53))
    streams.listen()

    def by_stream():
        while True:
            client, _ = streams.accept()
            with client:
                query = client.recv(512)[2:]
                reply = answer(query)
                client.sendall(struct.pack("!H", len(reply)) + reply)

    threading.Thread(target=by_stream, daemon=True).start()
    print("serving", flush=True)
    while True:
        query, client = datagrams.recvfrom(512)
        datagrams.sendto(answer(query), client)


def ask(server):
    query = struct.pack("!HHHHHH", 4711, 0x0100, 1, 0, 0, 0) + QUESTION
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.settimeout(20)
    datagram.connect((server, 53))
    datagram.send(query)
    print("udp", socket.inet_ntoa(datagram.recv(512)[-4:]))
    with socket.create_connection((server, 53), 20) as stream:
        stream.sendall(struct.pack("!H", len(query)) + query)
        print("tcp", socket.inet_ntoa(stream.recv(512)[-4:]))


serve() if sys.argv[1] == "serve" else ask(sys.argv[2])
