"""What is tried: the result is whether the protected content was had, for operations that read."""

# An offset for io_uring: where the descriptor is, which a pipe wants.
AT_POSITION = (1 << 64) - 1
CAPABILITY = b"security.capability"
# VFS_CAP_REVISION_2, and none.
NO_CAPABILITIES = struct.pack("<5I", 0x02000000, 0, 0, 0, 0)


def read(target, _cell):
    return os.read(target.open(os.O_RDONLY), 64).startswith(b"secret")


def read_by_ring(target, cell):
    ring = io_uring(target.path)
    return read(ring, cell)


def read_by_openat2(target, _cell):
    # struct open_how: flags, mode, resolve.
    how = struct.pack("<QQQ", os.O_RDONLY, 0, 0)
    if target.ring:
        descriptor = target.ring.run(28, -100, target.ring.keep(how), target.ring.keep(target.path), len(how), 0)
    else:
        descriptor = called(LIBC.syscall(437, -100, target.path, how, len(how)))
    return os.read(descriptor, 64).startswith(b"secret")


def read_by_aio(target, _cell):
    content = ctypes.create_string_buffer(64)
    aio(0, target.open(os.O_RDONLY), content)
    return content.raw.startswith(b"secret")


def read_by_shell(target, _cell):
    """A script that is given to its interpreter, which is all that the kernel is told of it."""
    return shell_found([b"/usr/bin/bash", target.path])


def read_by_shell_from_input(target, _cell):
    return shell_found([b"/usr/bin/bash"], stdin=target.open(os.O_RDONLY))


def shell_found(words, **more):
    """Whether a shell took the first word of the content for a command."""
    return b"secret: command not found" in subprocess.run(words, stderr=subprocess.PIPE, **more).stderr


def write_by_aio(target, _cell):
    aio(1, target.open(os.O_WRONLY), ctypes.create_string_buffer(b"evil"))


def write(target, _cell):
    descriptor = target.open(os.O_WRONLY)
    os.write(descriptor, b"evil")


def append(target, _cell):
    os.write(target.open(os.O_WRONLY | os.O_APPEND), b"evil")


def create(target, _cell):
    if target.ring:
        target.ring.run(18, -100, 0, target.ring.keep(target.path + b".new"), 0o600, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    else:
        os.open(target.path + b".new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)


def truncate(target, _cell):
    if target.ring:
        target.ring.run(55, target.open(os.O_WRONLY), 0, 0, 0, 0)
    else:
        os.truncate(target.at(), 0)


def truncate_by_open(target, _cell):
    target.open(os.O_RDONLY | os.O_TRUNC)


def make_directory(target, _cell):
    if target.ring:
        target.ring.run(37, -100, 0, target.ring.keep(target.path + b".new"), 0o700, 0)
    else:
        os.mkdir(target.path + b".new")


def make_node(target, _cell):
    os.mknod(target.path + b".new", 0o600 | 0o10000)


def unnamed(target, _cell):
    """A file without a name gets one beside the protected file."""
    descriptor = os.open(target.work, os.O_TMPFILE | os.O_RDWR, 0o600)
    # AT_EMPTY_PATH
    called(LIBC.linkat(descriptor, b"", -100, target.path + b".new", 0x1000))


def unnamed_by_proc(target, _cell):
    """The same for whoever lacks CAP_DAC_READ_SEARCH outside of a user namespace (before Linux 6.10)."""
    descriptor = os.open(target.work, os.O_TMPFILE | os.O_RDWR, 0o600)
    # AT_SYMLINK_FOLLOW
    called(LIBC.linkat(-100, b"/proc/self/fd/%d" % descriptor, -100, target.path + b".new", 0x400))


def delete(target, _cell):
    if target.ring:
        target.ring.run(36, -100, 0, target.ring.keep(target.path), 0, 0)
    else:
        os.unlink(target.path)


def rename(ring, source, to):
    if ring:
        ring.run(35, -100, ring.keep(to), ring.keep(source), -100 & 0xFFFFFFFF, 0)
    else:
        os.rename(source, to)


def rename_from(target, cell):
    rename(target.ring, target.path, target.work + b"/out-" + cell)


def rename_to(target, cell):
    rename(target.ring, target.work + b"/in-" + cell, target.path)


def exchange(target, cell):
    renameat2(target.work + b"/in-" + cell, target.path, EXCHANGE)


def link(target, cell):
    to = target.work + b"/linked-" + cell
    if target.ring:
        target.ring.run(39, -100, target.ring.keep(to), target.ring.keep(target.path), -100 & 0xFFFFFFFF, 0)
    else:
        os.link(target.path, to)


def link_to(target, cell):
    os.link(target.work + b"/in-" + cell, target.path + b".new")


def make_symlink(target, _cell):
    if target.ring:
        to = target.ring.keep(target.path + b".new")
        target.ring.run(38, -100, to, target.ring.keep(b"/etc"), 0, 0)
    else:
        os.symlink(b"/etc", target.path + b".new")


def chmod(target, _cell):
    os.chmod(target.at(), 0o644)


def chown(target, _cell):
    os.chown(target.at(), 1000, 1000)


def xattr(target, _cell):
    if target.ring:
        at, key = target.ring.keep(target.path), target.ring.keep(b"trusted.evil")
        target.ring.run(42, 0, target.ring.keep(b"1"), key, 1, 0, third=at)
    else:
        os.setxattr(target.at(), b"trusted.evil", b"1")


def remove_xattr(target, _cell):
    os.removexattr(target.at(), b"trusted.mine")


# What the root of a user namespace may set and remove: one that only the outer root may have is not for it.

def capability(target, _cell):
    os.setxattr(target.at(), CAPABILITY, NO_CAPABILITIES)


def remove_capability(target, _cell):
    os.removexattr(target.at(), CAPABILITY)


def acl(target, _cell):
    # Version 2: the owner, user 0 (whom every user namespace has), the group, the mask, others; each with its permissions.
    entries = [(1, 6, -1), (2, 6, 0), (4, 0, -1), (16, 6, -1), (32, 0, -1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(target.at(), b"system.posix_acl_access", value)


def flags(target, _cell):
    add_flag(target.open(os.O_RDONLY), NODUMP)


def flags_by_name(target, _cell):
    # file_setattr(2); struct file_attr begins with its flags, FS_XFLAG_NODUMP.
    attributes = struct.pack("<QIIII", 0x80, 0, 0, 0, 0)
    called(LIBC.syscall(469, -100, target.path, attributes, len(attributes), 0))


def mapped(target, _cell):
    return mmap.mmap(target.open(os.O_RDONLY), 16, mmap.MAP_PRIVATE, mmap.PROT_READ)[:6] == b"secret"


def mapped_to_execute(target, _cell):
    area = mmap.mmap(target.open(os.O_RDONLY), 16, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    return area[:6] == b"secret"


# The file is a program, which the cell's process becomes: its status is that of the cell.

def execute(target, _cell):
    os.execve(target.path, [b"true"], {})


def execute_by_descriptor(target, _cell):
    os.execve(target.open(os.O_RDONLY), [b"true"], {})


def execute_by_loader(target, _cell):
    os.execve(LOADER, [LOADER, target.path], {})


def execute_as_interpreter(target, cell):
    script = WORK + b"/script-" + cell
    with open(script, "wb") as text:
        text.write(b"#!" + target.path + b"\n")
    os.chmod(script, 0o755)
    os.execve(script, [script], {})


def execute_by_mapping(target, _cell):
    area = mmap.mmap(target.open(os.O_RDONLY), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    return area[:4] == b"\x7fELF"


def execute_by_mapping_made_executable(target, _cell):
    descriptor = target.open(os.O_RDONLY)
    LIBC.mmap.restype = ctypes.c_void_p
    at = LIBC.mmap(None, ctypes.c_size_t(4096), 1, 2, descriptor, ctypes.c_long(0))
    if at in (None, 2**64 - 1):
        called(-1)
    called(LIBC.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4096), 5))
    return ctypes.string_at(at, 4) == b"\x7fELF"


# In the mounts of whoever is there: what it hides is hidden from others. Who opens what it leads to then is another
# question, so the file there is only looked at.

def hides(target, mounting):
    before = os.stat(target.path)
    mounting()
    try:
        return not os.path.samestat(before, os.stat(target.path))
    except FileNotFoundError:
        return True


def mount_over(target, cell):
    return hides(target, lambda: mount(target.work + b"/in-" + cell, target.path, None, BIND))


def move_mount_over(target, cell):
    # open_tree(OPEN_TREE_CLONE), move_mount(MOVE_MOUNT_F_EMPTY_PATH)
    tree = called(LIBC.syscall(428, -100, target.work + b"/in-" + cell, 1))
    return hides(target, lambda: called(LIBC.syscall(429, tree, b"", -100, target.path, 4)))


def tmpfs_over(target, _cell):
    return hides(target, lambda: mount(b"tmpfs", os.path.dirname(target.path), b"tmpfs"))


def copied(target, cell):
    source = target.open(os.O_RDONLY)
    os.copy_file_range(source, target.copy, 64, 0, 0)
    return os.pread(target.copy, 64, 0).startswith(b"secret")


def spliced(target, _cell):
    source = target.open(os.O_RDONLY)
    end, begin = os.pipe()
    if target.ring:
        target.ring.run(30, begin, AT_POSITION, 0, 64, 0, place=source)
    else:
        os.splice(source, begin, 64, 0)
    return os.read(end, 64).startswith(b"secret")


def sent(target, _cell):
    source = target.open(os.O_RDONLY)
    end, begin = os.pipe()
    os.sendfile(begin, source, 0, 64)
    return os.read(end, 64).startswith(b"secret")


def copied_to(target, _cell):
    os.copy_file_range(target.copy, target.open(os.O_WRONLY), 4, 0, 0)


def spliced_to(target, _cell):
    end, begin = os.pipe()
    os.write(begin, b"evil")
    to = target.open(os.O_WRONLY)
    if target.ring:
        target.ring.run(30, to, 0, AT_POSITION, 4, 0, place=end)
    else:
        os.splice(end, to, 4)


def sent_to(target, _cell):
    os.sendfile(target.open(os.O_WRONLY), target.copy, 0, 4)


def write_in_place(target, _cell):
    # The cells of this alias have one file between them.
    descriptor = target.open(os.O_RDWR)
    return os.pwrite(descriptor, b"evil", 0) and os.pread(descriptor, 4, 0) == b"evil"


def copied_up(change):
    """By some change to its file an overlay copies the content to where it is the subject's own."""
    def operation(target, cell):
        change(target, cell)
        copies = [entry.path for entry in os.scandir(b"/tmp/upper") if entry.is_file(follow_symlinks=False)]
        return any(open(copy, "rb").read(6) == b"secret" for copy in copies)

    return operation


# What is done with the file in the table of a ring.

def read_registered(target, _cell):
    target.open(os.O_RDONLY)
    content = ctypes.create_string_buffer(64)
    target.ring.run(22, 0, 0, ctypes.addressof(content), 64, 0, kind=FIXED)
    return content.raw.startswith(b"secret")


def write_registered(target, _cell):
    target.open(os.O_WRONLY)
    target.ring.run(23, 0, 0, target.ring.keep(b"evil"), 4, 0, kind=FIXED)


def splice_registered(target, _cell):
    target.open(os.O_RDONLY)
    end, begin = os.pipe()
    # SPLICE_F_FD_IN_FIXED
    target.ring.run(30, begin, AT_POSITION, 0, 64, 1 << 31)
    return os.read(end, 64).startswith(b"secret")


def truncate_registered(target, _cell):
    target.open(os.O_WRONLY)
    target.ring.run(55, 0, 0, 0, 0, 0, kind=FIXED)


def install(target, _cell):
    """It becomes a descriptor of the process."""
    target.open(os.O_RDONLY)
    return os.pread(target.ring.run(54, 0, 0, 0, 0, 0, kind=FIXED), 64, 0).startswith(b"secret")


READS = {"read": read, "mmap": mapped, "mmap-exec": mapped_to_execute, "copy_file_range": copied, "splice": spliced, "sendfile": sent}
WRITES = {"write": write, "copy_file_range-to": copied_to, "splice-to": spliced_to, "sendfile-to": sent_to}
ATTRIBUTES = {"chmod": chmod, "chown": chown, "xattr": xattr, "removexattr": remove_xattr, "acl": acl}
FLAGS = {"setflags": flags, "file_setattr": flags_by_name}
BY_DESCRIPTOR = {**READS, **WRITES, "truncate": truncate, **ATTRIBUTES}
BY_OPENING = {**BY_DESCRIPTOR, "append": append}
BESIDE = {"create": create, "symlink": make_symlink, "mkdir": make_directory, "mknod": make_node}
NAMES = {"delete": delete, "rename-from": rename_from, "rename-to": rename_to, "link": link}
# Of a name beside which nothing is protected.
OTHER_NAME = {**NAMES, "rename-exchange": exchange, "mount-over": mount_over}
ACROSS = {**NAMES, "rename-exchange": exchange, "link-to": link_to, "unnamed": unnamed}
ALL = {**BY_OPENING, **BESIDE, **ACROSS, "mount-over": mount_over}
MOUNTS = {"mount-over-by-move_mount": move_mount_over, "mount-over-by-tmpfs": tmpfs_over}
INTERPRETED = {"read-by-shell": read_by_shell, "read-by-shell-from-input": read_by_shell_from_input}
BY_EXECVEAT = {
    "execute-by-descriptor": execute_by_descriptor,
    "execute-by-mapping": execute_by_mapping,
    "execute-by-mprotect": execute_by_mapping_made_executable,
}
# Where there are no libraries, no loader and no script either.
STATIC = {"execute": execute, **BY_EXECVEAT}
EXECUTIONS = {**STATIC, "execute-by-loader": execute_by_loader, "execute-as-interpreter": execute_as_interpreter}
AIO = {"aio-read": read_by_aio, "aio-write": write_by_aio}
RINGED = {
    "read": read,
    "openat2": read_by_openat2,
    "splice": spliced,
    "write": write,
    "splice-to": spliced_to,
    "truncate": truncate,
    "xattr": xattr,
    "create": create,
    "symlink": make_symlink,
    "mkdir": make_directory,
    **NAMES,
}
REGISTERED = {
    "read": read_registered,
    "splice": splice_registered,
    "install": install,
    "write": write_registered,
    "truncate": truncate_registered,
}
# Names below another mount: there is no renaming and linking across mounts, only within.
TREE = {**BY_OPENING, **BESIDE, "delete": delete, "rename-from": rename_from, "link": link}
# Names in a directory that may be spelled in more than one way.
FOLDED_NAMES = {
    "read": read,
    "io_uring-read": read_by_ring,
    "write": write,
    "append": append,
    "truncate": truncate,
    "chmod": chmod,
    "create": create,
    **NAMES,
    "mount-over": mount_over,
}
# An overlay changes nothing below it.
COPY_UPS = {
    "copy-up-by-append": copied_up(append),
    "copy-up-by-chmod": copied_up(chmod),
    "copy-up-by-link": copied_up(link),
    "copy-up-by-rename": copied_up(rename_from),
}
# What may be read can be changed by a descriptor for reading and by name.
CHANGES = {
    "write": write,
    "append": append,
    "truncate-by-open": truncate_by_open,
    **ATTRIBUTES,
    **FLAGS,
    **NAMES,
    "rename-exchange": exchange,
    "mount-over": mount_over,
}


def by_users(operations):
    """As the root of a user namespace, in which there is one user: the file can be given to nobody else."""
    own = {"xattr": capability, "removexattr": remove_capability, "unnamed": unnamed_by_proc}
    return {key: own.get(key, operation) for key, operation in operations.items() if key != "chown"}
