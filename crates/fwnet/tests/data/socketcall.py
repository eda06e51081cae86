"""Makes 32-bit socketcall(2) calls by int 0x80 from this 64-bit process, and prints what each returned (minus errno)."""

import ctypes
import mmap
import struct

# push rbx; mov eax, 102; mov ebx, edi; mov ecx, esi; int 0x80; pop rbx; ret
CODE = bytes.fromhex("53b866000000" "89fb" "89f1" "cd80" "5b" "c3")
MAP_32BIT = 0x40
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(CODE)
socketcall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint)(
    ctypes.addressof(ctypes.c_char.from_buffer(code))
)
# The arguments are words of 4 bytes, below 4 GiB.
memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT)
place = ctypes.addressof(ctypes.c_char.from_buffer(memory))


def call(number, *words):
    memory[: 4 * len(words)] = struct.pack(f"={len(words)}i", *words)
    return socketcall(number, place)


print("call 0:", call(0))
print("call 21:", call(21))
print("bad pointer:", socketcall(3, 1))
print("connect -1:", call(3, -1, place + 64, 16))
listener = call(1, 2, 1, 0)
print("socket:", listener > 2)
memory[64:80] = struct.pack("=H", 2) + struct.pack("!H", 0) + bytes([127, 0, 0, 1]) + bytes(8)
print("bind:", call(2, listener, place + 64, 16))
print("listen:", call(4, listener, 5))
memory[128:132] = struct.pack("=i", 16)
print("getsockname:", call(6, listener, place + 64, place + 128))
client = call(1, 2, 1, 0)
print("connect:", call(3, client, place + 64, 16))
accepted = call(5, listener, 0, 0)
print("accept:", accepted > 2)
print("getpeername:", call(7, accepted, place + 192, place + 128))
memory[256:260] = b"data"
print("send:", call(9, client, place + 256, 4, 0))
print("recv:", call(10, accepted, place + 300, 4, 0), memory[300:304])
print("sendto:", call(11, accepted, place + 256, 4, 0, 0, 0))
print("recvfrom:", call(12, client, place + 300, 4, 0, 0, 0))
print("shutdown:", call(13, client, 1))
memory[320:324] = struct.pack("=i", 1)
print("setsockopt:", call(14, client, 6, 1, place + 320, 4))
print("getsockopt:", call(15, client, 6, 1, place + 320, place + 128))
print("socketpair:", call(8, 1, 1, 0, place + 400))
print("accept4 on no listener:", call(18, client, 0, 0, 0))
