"""Fills and empties the table of labels of a kernel that cannot put them on tasks.

room.py fill TABLE   puts labels of processes that are not there until there is no room
room.py empty TABLE  takes them away again
"""

import ctypes, os, sys

LIBC = ctypes.CDLL(None, use_errno=True)
UPDATE, DELETE, GET = 2, 3, 7
E2BIG = 7


def bpf(command, attributes):
    found = LIBC.syscall(321, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if found < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return found


class Element(ctypes.Structure):
    _fields_ = [("map", ctypes.c_uint64), ("key", ctypes.c_uint64), ("value", ctypes.c_uint64), ("flags", ctypes.c_uint64)]


class Pinned(ctypes.Structure):
    _fields_ = [("path", ctypes.c_uint64), ("descriptor", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


path = ctypes.create_string_buffer(os.fsencode(sys.argv[2]))
table = bpf(GET, Pinned(ctypes.addressof(path), 0, 0))
key, value = (ctypes.c_uint64 * 2)(), ctypes.create_string_buffer(96)
# What takes a label away wants nothing behind the key.
element = Element(table, ctypes.addressof(key), ctypes.addressof(value) if sys.argv[1] == "fill" else 0, 0)
count = 0
for pid in range(1 << 30, (1 << 30) + 100_000):
    key[0] = pid
    try:
        bpf(UPDATE if sys.argv[1] == "fill" else DELETE, element)
    except OSError as error:
        if error.errno not in (E2BIG, 2):
            raise
        break
    count += 1
print(count)
