"""Answers every DNS query for an A record (RFC 1035) with one address: dns.py LISTEN ANSWER"""
import socket, sys

listen, answer = sys.argv[1:3]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((listen, 53))
print("answering", flush=True)
while True:
    query, client = server.recvfrom(512)
    # The question is repeated; the answer names it by a pointer to offset 12.
    header = query[:2] + b"\x81\x80" + b"\x00\x01" * 2 + b"\x00\x00" * 2
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(answer)
    server.sendto(header + query[12:] + record, client)
