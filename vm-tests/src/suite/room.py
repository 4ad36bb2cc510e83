"""Fills and empties a table of labels.

room.py fill TABLE     puts labels of nobody there until there is no room
room.py empty TABLE    takes them away again
room.py set COUNT N    writes the one number of an array
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


def opened(path):
    path = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(GET, Pinned(ctypes.addressof(path), 0, 0))


def element(table, key, value):
    # What takes something away wants nothing behind the key.
    return Element(table, ctypes.addressof(key), 0 if value is None else ctypes.addressof(value), 0)


verb, path, *more = sys.argv[1:]
table, key = opened(path), (ctypes.c_uint64 * 2)()
if verb == "set":
    bpf(UPDATE, element(table, ctypes.c_uint32(0), ctypes.c_uint64(int(more[0]))))
    print(more[0])
    sys.exit()
value = ctypes.create_string_buffer(96) if verb == "fill" else None
command = UPDATE if verb == "fill" else DELETE
count = 0
for pid in range(1 << 30, (1 << 30) + 100_000):
    key[0] = pid
    try:
        bpf(command, element(table, key, value))
    except OSError as error:
        if error.errno not in (E2BIG, 2):
            raise
        break
    count += 1
print(count)
