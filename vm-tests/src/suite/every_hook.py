"""Does what each hook of mode `lsm` is about, again and again, so that the kernel's run statistics of each program are
those of a known operation. Argument: `outside` or `inside` of a session. Prints, as JSON, what an empty program takes by
the same statistics (outside only: a session may load none), and which operations failed and why."""
import array, ctypes, fcntl, json, mmap, os, signal, socket, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
# What takes long by itself is done less often.
MANY, FEW = 300, 40
HERE = "/home/dev/work/every-hook"
GROUPS = ["/sys/fs/cgroup/every-hook-a", "/sys/fs/cgroup/every-hook-b"]
BPF, MAP_CREATE, PROG_LOAD, RAW_TRACEPOINT_OPEN, BTF = 321, 0, 5, 17, "/sys/kernel/btf/vmlinux"
SOCKET_FILTER, RAW_TRACEPOINT, LSM, LSM_MAC = 1, 17, 29, 27
# A hook that the sensor does not use, and a tracepoint that all system calls pass.
UNUSED, ENTER = b"bpf_lsm_task_getpgid", b"sys_enter"
PORT = 4747
# Owner, group and others may read: struct posix_acl_xattr_header and three entries.
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 4, 0xFFFFFFFF) for tag in (1, 4, 0x20))


# 32-bit ioctl(2) from a 64-bit process: push rbx; mov ebx, edi; mov ecx, esi; mov eax, 54; int 0x80; pop rbx; ret.
CODE = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
CODE.write(bytes.fromhex("5389fb89f1b836000000cd805bc3"))
IOCTL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(
    ctypes.addressof(ctypes.c_char.from_buffer(CODE)))


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def call(number, *arguments):
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *arguments))


# RLIMIT_MEMLOCK, infinite: before Linux 5.11 programs and maps count as locked memory.
checked(libc.setrlimit(8, struct.pack("QQ", 2**64 - 1, 2**64 - 1)))


def bpf(command, attributes):
    # The kernel wants what it does not know to be zero.
    attributes = attributes.ljust(128, b"\0")
    return call(BPF, command, ctypes.create_string_buffer(attributes, 128), 128)


# ---- Empty programs ----------------------------------------------------------------------------------------------


def program(kind, attach=0, target=0):
    """A program that does nothing: r0 = 0; exit."""
    code = ctypes.create_string_buffer(bytes.fromhex("b7000000000000009500000000000000"), 16)
    licence = ctypes.create_string_buffer(b"GPL")
    head = struct.pack("<IIQQ", kind, 2, ctypes.addressof(code), ctypes.addressof(licence)).ljust(68, b"\0")
    return bpf(PROG_LOAD, struct.pack("<68sI36sI", head, attach, b"", target))


def attached(fd, name=None):
    name = ctypes.create_string_buffer(name) if name else None
    return bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(name) if name else 0, fd))


def function_id(name):
    """The number of a function in the kernel's types."""
    with open(BTF, "rb") as file:
        data = file.read()
    header_len, types, types_len, strings, strings_len = struct.unpack_from("<5I", data, 4)
    wanted = data.index(b"\0" + name + b"\0", header_len + strings) + 1 - header_len - strings
    # Bytes behind the head of a type: fixed ones, and for each member.
    fixed, each = {1: 4, 3: 12, 14: 4, 17: 4}, {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    at, number = header_len + types, 1
    while at < header_len + types + types_len:
        name_at, info, _ = struct.unpack_from("<3I", data, at)
        kind = info >> 24 & 0x1F
        if kind == 12 and name_at == wanted:
            return number
        at += 12 + fixed.get(kind, 0) + each.get(kind, 0) * (info & 0xFFFF)
        number += 1
    raise OSError(2, f"{name} is no function of this kernel")


def statistics(fd):
    with open(f"/proc/self/fdinfo/{fd}") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["run_cnt"]), int(fields["run_time_ns"])


def empty(fd, name):
    link = attached(fd, name)
    before = statistics(fd)
    for _ in range(MANY):
        os.getpgid(os.getpid())
    after = statistics(fd)
    os.close(link)
    return {"runs": after[0] - before[0], "run_ns": after[1] - before[1]}


# ---- Operations --------------------------------------------------------------------------------------------------


def at(name):
    return f"{HERE}/{name}"


def executed():
    child = os.posix_spawn("/usr/bin/busybox", ["busybox", "true"], {})
    os.waitpid(child, 0)


def opened():
    os.close(os.open(at("file"), os.O_RDONLY))


def removed():
    os.close(os.open(at("new"), os.O_CREAT | os.O_WRONLY, 0o644))
    os.unlink(at("new"))


def directory():
    os.mkdir(at("directory"))
    os.rmdir(at("directory"))


def special():
    os.mkfifo(at("fifo"))
    os.unlink(at("fifo"))


def linked():
    os.symlink("file", at("symlink"))
    os.unlink(at("symlink"))
    os.link(at("file"), at("link"))
    os.unlink(at("link"))


def renamed():
    os.rename(at("file"), at("other"))
    os.rename(at("other"), at("file"))


def attributes():
    os.chmod(at("file"), 0o644)
    os.setxattr(at("file"), "trusted.every-hook", b"1")
    os.removexattr(at("file"), "trusted.every-hook")


def acl():
    os.setxattr(at("file"), "system.posix_acl_access", ACL)
    os.removexattr(at("file"), "system.posix_acl_access")


def received():
    ends = socket.socketpair()
    fd = os.open(at("file"), os.O_RDONLY)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    ends[0].sendmsg([b"x"], rights)
    _, control, _, _ = ends[1].recvmsg(1, socket.CMSG_SPACE(4))
    os.close(fd)
    os.close(struct.unpack("i", control[0][2])[0])
    for end in ends:
        end.close()


def mounted():
    place = at("mount").encode()
    checked(libc.mount(b"tmpfs", place, b"tmpfs", ctypes.c_ulong(0), None))
    checked(libc.umount2(place, 0))


def moved_mount():
    # OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH.
    tree = call(428, -100, ctypes.c_char_p(HERE.encode()), 1)
    try:
        call(429, tree, ctypes.c_char_p(b""), -100, ctypes.c_char_p(at("mount").encode()), 4)
    finally:
        os.close(tree)
    checked(libc.umount2(at("mount").encode(), 2))


def pivoted():
    expected([16, 22], lambda: call(155, ctypes.c_char_p(b"/"), ctypes.c_char_p(b"/")))


def mapped():
    fd = os.open("/usr/bin/busybox", os.O_RDONLY)
    area = libc.mmap(None, ctypes.c_size_t(4096), 5, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
    checked(libc.mprotect(ctypes.c_void_p(area), ctypes.c_size_t(4096), 1))
    checked(libc.mprotect(ctypes.c_void_p(area), ctypes.c_size_t(4096), 5))
    checked(libc.munmap(ctypes.c_void_p(area), ctypes.c_size_t(4096)))
    os.close(fd)


def connected():
    with socket.create_connection(("127.0.0.1", PORT)):
        TCP.accept()[0].close()


def connected_by_name():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(at("stream"))
        STREAM.accept()[0].close()


def sent():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", PORT))
        UDP.recv(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", at("datagrams"))
        DATAGRAMS.recv(1)


def signalled():
    os.kill(OTHER, signal.SIGURG)


def signalled_by_file():
    os.write(OWNED[1], b"x")
    os.read(OWNED[0], 1)


def read_memory():
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    # Nothing is there; the access is asked about before.
    expected([14], lambda: call(310, OTHER, local, 1, (ctypes.c_size_t * 2)(0x1000, 8), 1, 0))


def scheduled():
    os.setpriority(os.PRIO_PROCESS, OTHER, 0)
    call(251, 1, OTHER, 2 << 13 | 4)
    os.sched_setaffinity(OTHER, {0})
    call(302, OTHER, 7, struct.pack("QQ", 1024, 4096), 0)
    call(279, OTHER, 0, 0, 0, 0, 0)


def bpf_objects():
    os.close(bpf(MAP_CREATE, struct.pack("<IIII", 2, 4, 4, 1)))
    os.close(program(SOCKET_FILTER))


def watched():
    fd = checked(libc.inotify_init())
    try:
        checked(libc.inotify_add_watch(fd, at("file").encode(), 2))
    finally:
        os.close(fd)


def requested():
    """No such request: nobody but the hooks looks at it."""
    with open(at("file")) as file:
        expected([25], lambda: fcntl.ioctl(file, 0x7777))
        if IOCTL(file.fileno(), 0x7777, 0) not in (-25, -38):
            raise OSError(200, "32-bit ioctl")


def flagged():
    """FS_IOC_SETFLAGS of no flag, which not every filesystem knows; the hooks are asked first."""
    with open(at("file")) as file:
        expected([25, 95], lambda: fcntl.ioctl(file, 0x40086602, struct.pack("l", 0)))


def grouped():
    for group in GROUPS:
        with open(f"{group}/cgroup.procs", "w") as file:
            file.write(str(OTHER))


def loaded():
    # Neither is a module.
    image = ctypes.create_string_buffer(4096)
    expected([8], lambda: call(175, image, 4096, ctypes.c_char_p(b"")))


def loaded_file():
    fd = os.open("/usr/bin/busybox", os.O_RDONLY)
    try:
        expected([8], lambda: call(313, fd, ctypes.c_char_p(b""), 0))
    finally:
        os.close(fd)


def expected(numbers, act):
    """Fails as it is meant to, behind the hook."""
    try:
        act()
    except OSError as error:
        if error.errno not in numbers:
            raise


def owned():
    """A pipe that signals this process, which does not mind, when something is written."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reader, 10, signal.SIGURG)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    return reader, writer


def bound(family, kind, address):
    made = socket.socket(family, kind)
    if family == socket.AF_INET:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


for path in [HERE, at("mount"), *GROUPS]:
    os.makedirs(path, exist_ok=True)
open(at("file"), "w").close()
for name in ["stream", "datagrams"]:
    if os.path.exists(at(name)):
        os.unlink(at(name))
TCP, UDP = (bound(socket.AF_INET, kind, ("127.0.0.1", PORT)) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
STREAM = bound(socket.AF_UNIX, socket.SOCK_STREAM, at("stream"))
DATAGRAMS = bound(socket.AF_UNIX, socket.SOCK_DGRAM, at("datagrams"))
OWNED = owned()
# With outputs of its own: whoever reads those of this program must not wait for it when this program fails.
NOWHERE = [(os.POSIX_SPAWN_OPEN, output, "/dev/null", os.O_WRONLY, 0) for output in (1, 2)]
OTHER = os.posix_spawn("/usr/bin/sleep", ["sleep", "3000"], {}, file_actions=NOWHERE)

empties = {}
if sys.argv[1] == "outside":
    empties["lsm"] = empty(program(LSM, LSM_MAC, function_id(UNUSED)), None)
    empties["tracepoint"] = empty(program(RAW_TRACEPOINT), ENTER)
OFTEN = [opened, removed, directory, special, linked, renamed, attributes, acl, received, mapped, connected]
OFTEN += [connected_by_name, sent, signalled, signalled_by_file, read_memory, scheduled, bpf_objects, watched, requested, flagged]
SELDOM = [executed, mounted, moved_mount, pivoted, grouped, loaded, loaded_file]
failed = {}
for operations, count in [(OFTEN, MANY), (SELDOM, FEW)]:
    for operation in operations:
        for _ in range(count):
            try:
                operation()
            except OSError as error:
                failed[operation.__name__] = str(error)
os.kill(OTHER, signal.SIGKILL)
os.waitpid(OTHER, 0)
print(json.dumps({"empty": empties, "failed": failed}))
