"""Connects and sends that Python's library has no words for: HOW ADDRESS PORT."""
import ctypes
import mmap
import os
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def sockaddr(family, address, port):
    return struct.pack("=H", family) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8)


def without_family(address, port):
    """`AF_UNSPEC`: the kernel takes the address for one of IPv4."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    name = sockaddr(0, address, port)
    checked(libc.sendto(udp.fileno(), b"x", ctypes.c_size_t(1), 0, name, len(name)))


def fast_open(address, port):
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.sendto(b"x", socket.MSG_FASTOPEN, (address, port))


class Ring:
    """One submission through io_uring; `flags` are those of its setup."""

    def __init__(self, flags):
        params = ctypes.create_string_buffer(struct.pack("=IIII", 0, 0, flags, 0).ljust(120, b"\0"), 120)
        self.fd = checked(libc.syscall(ctypes.c_long(425), ctypes.c_uint(4), params))
        self.sq = struct.unpack_from("=7I", params, 40)
        self.cq = struct.unpack_from("=6I", params, 80)
        size = max(self.sq[6] + 4 * 4, self.cq[5] + 8 * 16)
        self.ring = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self.entries = mmap.mmap(
            self.fd, 4 * 64, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0x10000000
        )
        self.polled = flags & 2

    def submit(self, entry):
        self.entries[0:64] = entry.ljust(64, b"\0")
        self.ring[self.sq[6] : self.sq[6] + 4] = struct.pack("=I", 0)
        self.ring[self.sq[1] : self.sq[1] + 4] = struct.pack("=I", 1)
        enter = 1 | (2 if self.polled else 0)
        checked(
            libc.syscall(
                ctypes.c_long(426), ctypes.c_long(self.fd), ctypes.c_long(1), ctypes.c_long(1), ctypes.c_long(enter), None, ctypes.c_long(0)
            )
        )
        result = struct.unpack_from("=i", self.ring, self.cq[5] + 8)[0]
        if result < 0:
            raise OSError(-result, os.strerror(-result))


def ring_connect(address, port, flags=0):
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    name = ctypes.create_string_buffer(sockaddr(socket.AF_INET, address, port), 16)
    Ring(flags).submit(struct.pack("=BBHiQQ", 16, 0, 0, tcp.fileno(), 16, ctypes.addressof(name)))


def ring_send(address, port, flags=0):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    name = ctypes.create_string_buffer(sockaddr(socket.AF_INET, address, port), 16)
    text = ctypes.create_string_buffer(b"x", 1)
    vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(text), 1), 16)
    message = ctypes.create_string_buffer(
        struct.pack("=QQQQQQQ", ctypes.addressof(name), 16, ctypes.addressof(vector), 1, 0, 0, 0), 56
    )
    Ring(flags).submit(struct.pack("=BBHiQQI", 9, 0, 0, udp.fileno(), 0, ctypes.addressof(message), 1))


WAYS = {
    "without-family": without_family,
    "fast-open": fast_open,
    "ring-connect": ring_connect,
    "ring-connect-polled": lambda address, port: ring_connect(address, port, 2),
    "ring-send": ring_send,
    "ring-send-polled": lambda address, port: ring_send(address, port, 2),
}
WAYS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
