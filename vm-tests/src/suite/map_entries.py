"""Counts the entries of pinned hash maps. Arguments: the directory in which a sensor pins, names of maps. Prints a line for
each: name, count."""
import ctypes, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
BPF, NEXT_KEY, GET_PINNED, INFO = 321, 4, 7, 15


def bpf(command, attributes):
    attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(BPF, command, attributes, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def pinned(path):
    name = ctypes.create_string_buffer(path.encode())
    return bpf(GET_PINNED, struct.pack("<QII", ctypes.addressof(name), 0, 0))


def key_len(fd):
    # struct bpf_map_info: type, id, key_size.
    info = ctypes.create_string_buffer(256)
    bpf(INFO, struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)))
    return struct.unpack_from("<III", info)[2]


def count(path):
    fd = pinned(path)
    one, two = (ctypes.create_string_buffer(key_len(fd)) for _ in range(2))
    found, before = 0, None
    while True:
        try:
            key = ctypes.addressof(before) if before else 0
            bpf(NEXT_KEY, struct.pack("<IIQQ", fd, 0, key, ctypes.addressof(one if before is two else two)))
        except OSError as error:
            if error.errno != 2:
                raise
            return found
        before, found = (one if before is two else two), found + 1


sets = os.listdir(sys.argv[1])
assert len(sets) == 1, sets
for name in sys.argv[2:]:
    print(name, count(f"{sys.argv[1]}/{sets[0]}/maps/{name}"))
