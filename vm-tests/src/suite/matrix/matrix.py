"""Every alias of a protected file, with every operation. One verb a run:

prepare  makes a protected file for each cell, and the aliases that exist before the session (outside of it)
serve    sends descriptors of them, and makes others, for whoever asks (outside of it)
try      tries every cell in a process of its own, and prints what came of it
check    prints the cells whose file, name or attributes are not as they were (outside of it)
"""

import array, fcntl, shutil, socket, subprocess, sys, time

KEYS = b"/home/dev/.ssh"
WORK = b"/home/dev/work"
# Filesystems that the host has made; below the second one names may be compared without regard to letters' cases.
DISK, FOLDING = b"/home/disk", b"/home/folding"
IMAGES = {DISK: b"/filesystems/plain.ext4", FOLDING: b"/filesystems/folding.ext4"}
FOLDED = FOLDING + b"/any-case"
# What is on them has to be renamed and linked there, too.
WORK_OF = {"on-ext4": DISK + b"/work", "case-folding": FOLDING + b"/work", "case-folding-root": FOLDING + b"/work"}
SOCKET = "/run/matrix.sock"
MAKE = b"make"
NEWNS, NEWUSER, BIND, REC, PRIVATE = 0x20000, 0x10000000, 4096, 16384, 1 << 18
DEEP = b"/".join([b"d"] * 70)
LONG = [b"l" * 250] * 18
MADE_LATER = "directory-made-later"


def mount(source, at, kind=None, flags=0, data=None):
    called(LIBC.mount(source, at, kind, ctypes.c_ulong(flags), data))


def own_mounts(flags=NEWNS):
    uid, gid = os.getuid(), os.getgid()
    called(LIBC.unshare(flags))
    if flags & NEWUSER:
        for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{path}", "w") as file:
                file.write(text)
    mount(b"none", b"/", None, REC | PRIVATE)


class Target:
    """A protected file as one alias gives it: a path, or a way to get a descriptor."""

    def __init__(self, path=None, opener=None, ring=None, work=WORK):
        self.path, self.opener, self.ring, self.work = path, opener, ring, work

    def open(self, flags):
        if self.opener:
            return self.opener(flags)
        return os.open(self.path, flags)

    def at(self):
        """What path operations take; a descriptor is one by its entry in /proc."""
        return self.path if self.path else self.open(os.O_RDWR)


def name(alias, operation):
    return f"{alias}.{operation}".encode()


def file_of(alias, operation):
    """The protected file of a cell."""
    cell = name(alias, operation)
    if alias == "deep-path":
        return KEYS + b"/" + DEEP + b"/" + cell
    if alias == "non-utf8-name":
        return KEYS + b"/\xff\xfe" + cell
    if alias == "long-name":
        return KEYS + b"/" + cell.ljust(251, b"n")
    if alias in ("on-ext4", "by-handle-without-directory"):
        return DISK + b"/keys/" + cell
    if alias in ("case-folding", "case-folding-root"):
        return FOLDED + b"/keys/" + cell
    if alias == MADE_LATER:
        return KEYS + b"/" + cell + b"-directory/" + cell
    return KEYS + b"/" + cell


def enter_long():
    """The working directory becomes one whose path is longer than PATH_MAX."""
    os.chdir(KEYS)
    for part in LONG:
        os.chdir(part)


# Aliases: each is made in the process of its cell.

def direct(file):
    return Target(file)


def symlink(file):
    return Target(WORK + b"/soft/" + os.path.basename(file))


def dots(file):
    return Target(WORK + b"/.././work/..//.ssh/" + os.path.basename(file))


def proc_root(file):
    return Target(b"/proc/self/root" + file)


def proc_cwd(file):
    os.chdir(KEYS)
    return Target(b"/proc/%d/cwd/" % os.getpid() + os.path.basename(file))


def reopened(file):
    """A descriptor that can do nothing is opened again through /proc."""
    return Target(b"/proc/self/fd/%d" % os.open(file, os.O_PATH))


def hard_link(file):
    return Target(WORK + b"/hard-" + os.path.basename(file))


def bind(file, flags=NEWNS):
    own_mounts(flags)
    mount(KEYS, b"/mnt", None, BIND)
    return Target(b"/mnt/" + os.path.basename(file))


def bind_file(file):
    own_mounts()
    mount(file, WORK + b"/innocent", None, BIND)
    return Target(WORK + b"/innocent")


def bind_in_user_namespace(file):
    return bind(file, NEWNS | NEWUSER)


def open_tree(file):
    """The newer mount calls: open_tree(OPEN_TREE_CLONE), move_mount(MOVE_MOUNT_F_EMPTY_PATH)."""
    own_mounts()
    tree = called(LIBC.syscall(428, -100, KEYS, 1))
    called(LIBC.syscall(429, tree, b"", -100, b"/mnt", 4))
    return Target(b"/mnt/" + os.path.basename(file))


def chroot(file):
    os.chroot(b"/home/dev")
    return Target(b"/.ssh/" + os.path.basename(file), work=b"/work")


def pivot_root(file):
    own_mounts()
    # The initial root filesystem cannot be pivoted away, a mount of it can.
    mount(b"/", b"/mnt", None, BIND | REC)
    os.chroot(b"/mnt")
    os.chdir(b"/")
    mount(b"/home/dev", b"/srv", None, BIND)
    called(LIBC.syscall(155, b"/srv", b"/srv/work"))
    return Target(b"/.ssh/" + os.path.basename(file))


def private_mounts(file):
    own_mounts()
    return Target(file)


def user_namespace(file):
    own_mounts(NEWNS | NEWUSER)
    return Target(file)


def overlay(file, flags=NEWNS, upper=False):
    own_mounts(flags)
    if upper:
        layers = b"lowerdir=/srv,upperdir=%s,workdir=/home/dev/overlay-work" % KEYS
    else:
        mount(b"tmpfs", b"/tmp", b"tmpfs")
        os.mkdir(b"/tmp/upper")
        os.mkdir(b"/tmp/work")
        layers = b"lowerdir=%s,upperdir=/tmp/upper,workdir=/tmp/work" % KEYS
    mount(b"overlay", b"/mnt", b"overlay", 0, layers)
    return Target(b"/mnt/" + os.path.basename(file))


def overlay_in_user_namespace(file):
    return overlay(file, NEWNS | NEWUSER)


def overlay_upper(file):
    return overlay(file, NEWNS, True)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]


def by_handle(file, mounted=b"/home"):
    handle, mount_id = Handle(bytes=128), ctypes.c_int()
    called(LIBC.name_to_handle_at(-100, file, ctypes.byref(handle), ctypes.byref(mount_id), 0))
    root = os.open(mounted, os.O_RDONLY)
    return Target(opener=lambda flags: called(LIBC.open_by_handle_at(root, ctypes.byref(handle), flags)))


def forget_names():
    """The kernel keeps no name that nobody uses just now."""
    with open("/proc/sys/vm/drop_caches", "w") as caches:
        caches.write("2")


def by_handle_without_directory(file):
    """The file is found by its number, and no directory of it has been looked up."""
    target = by_handle(file, DISK)
    forget_names()
    descriptor = target.open(os.O_PATH)
    found = os.readlink(b"/proc/self/fd/%d" % descriptor)
    if found == file:
        raise OSError(17, "the kernel knows its name")
    return target


def on_ext4(file):
    return Target(file, work=WORK_OF["on-ext4"])


def case_folding(file):
    """The file and its directory by other letters than they were made with."""
    directory, base = os.path.split(file)
    other = FOLDED + b"/" + os.path.basename(directory).upper()
    respell(other)
    return Target(other + b"/" + base.upper(), work=WORK_OF["case-folding"])


def case_folding_root(file):
    """A directory in the root of the filesystem, which has itself never been looked up."""
    other = FOLDING + b"/" + os.path.basename(FOLDED).upper()
    respell(other)
    return Target(other + file.removeprefix(FOLDED), work=WORK_OF["case-folding-root"])


def respell(directory):
    """Has the kernel know a directory by other letters. As long as it knows one spelling, any other finds that one; it is
    held until the process ends."""
    for _ in range(10):
        forget_names()
        held = os.open(directory, os.O_PATH)
        if os.readlink(b"/proc/self/fd/%d" % held) == directory:
            return
        os.close(held)
    raise OSError(17, "the kernel knows it by its own spelling")


def made_later(file):
    """The directory and the file are there only since somebody outside was asked for them."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(SOCKET)
        client.send(MAKE)
        client.recv(1)
    return Target(file)


def parent_replaced(file):
    """A symbolic link in the place of the directory above: the path is the same, and leads elsewhere."""
    def undo():
        if os.path.islink(b"/home/dev"):
            os.unlink(b"/home/dev")
        os.rename(b"/home/elsewhere", b"/home/dev")

    os.rename(b"/home/dev", b"/home/elsewhere")
    try:
        os.symlink(b"/home/elsewhere", b"/home/dev")
    except OSError:
        undo()
        raise
    target = Target(file)
    target.undo = undo
    return target


def parent_renamed(file):
    """The directory above the protected one goes by another name for a while; the cell's process moves it back."""
    os.rename(b"/home/dev", b"/home/elsewhere")
    target = Target(file.replace(b"/home/dev", b"/home/elsewhere"))
    target.undo = lambda: os.rename(b"/home/elsewhere", b"/home/dev")
    return target


def parent_exchanged(file):
    called(LIBC.syscall(316, -100, b"/home/dev", -100, b"/home/other", 2))
    target = Target(file.replace(b"/home/dev", b"/home/other"))
    target.undo = lambda: called(LIBC.syscall(316, -100, b"/home/dev", -100, b"/home/other", 2))
    return target


def long_path(file):
    enter_long()
    return Target(os.path.basename(file))


def received(file):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(SOCKET)
        client.send(file)
        descriptors = array.array("i")
        _, ancillary, _, _ = client.recvmsg(16, socket.CMSG_SPACE(4))
        for _, _, data in ancillary:
            descriptors.frombytes(data[:4])
    if not descriptors:
        raise OSError(1, "the message came without its descriptor")
    return Target(opener=lambda _flags: descriptors[0])


def inherited(_file):
    return Target(opener=lambda _flags: 0)


def io_uring(file, polled=False):
    ring = Ring(polled)
    opener = lambda flags: ring.run(18, -100, 0, ring.path(file), 0o600, flags)
    return Target(file, opener, ring)


def io_uring_polled(file):
    return io_uring(file, True)


def io_uring_registered(file):
    """The file is opened into the ring's own table: no descriptor of the process leads to it."""
    target = io_uring(file)
    target.ring.reserve()
    target.opener = lambda flags: target.ring.run(18, -100, 0, target.ring.path(file), 0o600, flags, place=1)
    return target


# Operations: the result is whether the protected content was had, for those that read.

def read(target, _cell):
    return os.read(target.open(os.O_RDONLY), 64).startswith(b"secret")


def read_by_ring(target, cell):
    ring = io_uring(target.path)
    return read(ring, cell)


def write(target, _cell):
    descriptor = target.open(os.O_WRONLY)
    os.write(descriptor, b"evil")


def append(target, _cell):
    os.write(target.open(os.O_WRONLY | os.O_APPEND), b"evil")


def create(target, _cell):
    if target.ring:
        target.ring.run(18, -100, 0, target.ring.path(target.path + b".new"), 0o600, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    else:
        os.open(target.path + b".new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)


def truncate(target, _cell):
    os.truncate(target.at(), 0)


def make_directory(target, _cell):
    if target.ring:
        target.ring.run(37, -100, 0, target.ring.path(target.path + b".new"), 0o700, 0)
    else:
        os.mkdir(target.path + b".new")


def make_node(target, _cell):
    os.mknod(target.path + b".new", 0o600 | 0o10000)


def unnamed(target, _cell):
    """A file without a name gets one beside the protected file."""
    descriptor = os.open(target.work, os.O_TMPFILE | os.O_RDWR, 0o600)
    # AT_EMPTY_PATH
    called(LIBC.linkat(descriptor, b"", -100, target.path + b".new", 0x1000))


def delete(target, _cell):
    if target.ring:
        target.ring.run(36, -100, 0, target.ring.path(target.path), 0, 0)
    else:
        os.unlink(target.path)


def rename_from(target, cell):
    to = target.work + b"/out-" + cell
    if target.ring:
        target.ring.run(35, -100, target.ring.path(to), target.ring.path(target.path), -100 & 0xFFFFFFFF, 0)
    else:
        os.rename(target.path, to)


def rename_to(target, cell):
    source = target.work + b"/in-" + cell
    if target.ring:
        target.ring.run(35, -100, target.ring.path(target.path), target.ring.path(source), -100 & 0xFFFFFFFF, 0)
    else:
        os.rename(source, target.path)


def exchange(target, cell):
    # RENAME_EXCHANGE
    called(LIBC.syscall(316, -100, target.work + b"/in-" + cell, -100, target.path, 2))


def link(target, cell):
    to = target.work + b"/linked-" + cell
    if target.ring:
        target.ring.run(39, -100, target.ring.path(to), target.ring.path(target.path), -100 & 0xFFFFFFFF, 0)
    else:
        os.link(target.path, to)


def link_to(target, cell):
    os.link(target.work + b"/in-" + cell, target.path + b".new")


def make_symlink(target, _cell):
    if target.ring:
        to = target.ring.path(target.path + b".new")
        target.ring.run(38, -100, to, target.ring.path(b"/etc"), 0, 0)
    else:
        os.symlink(b"/etc", target.path + b".new")


def chmod(target, _cell):
    os.chmod(target.at(), 0o644)


def chown(target, _cell):
    os.chown(target.at(), 1000, 1000)


def xattr(target, _cell):
    os.setxattr(target.at(), b"trusted.evil", b"1")


def remove_xattr(target, _cell):
    os.removexattr(target.at(), b"trusted.mine")


def acl(target, _cell):
    # Version 2: the owner, user 1000, the group, the mask, others; each with its permissions.
    entries = [(1, 6, -1), (2, 6, 1000), (4, 0, -1), (16, 6, -1), (32, 0, -1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(target.at(), b"system.posix_acl_access", value)


def mapped(target, _cell):
    return mmap.mmap(target.open(os.O_RDONLY), 16, mmap.MAP_PRIVATE, mmap.PROT_READ)[:6] == b"secret"


def mapped_to_execute(target, _cell):
    area = mmap.mmap(target.open(os.O_RDONLY), 16, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    return area[:6] == b"secret"


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
    os.splice(end, target.open(os.O_WRONLY), 4)


def sent_to(target, _cell):
    os.sendfile(target.open(os.O_WRONLY), target.copy, 0, 4)


def write_in_place(target, _cell):
    # The cells of this alias have one file between them.
    descriptor = target.open(os.O_RDWR)
    return os.pwrite(descriptor, b"evil", 0) and os.pread(descriptor, 4, 0) == b"evil"


# IORING_OP_READ and IORING_OP_WRITE with IOSQE_FIXED_FILE.

def read_registered(target, _cell):
    target.open(os.O_RDONLY)
    content = ctypes.create_string_buffer(64)
    target.ring.run(22, 0, 0, ctypes.addressof(content), 64, 0, kind=1)
    return content.raw.startswith(b"secret")


def write_registered(target, _cell):
    target.open(os.O_WRONLY)
    target.ring.run(23, 0, 0, target.ring.path(b"evil"), 4, 0, kind=1)


READS = {"read": read, "mmap": mapped, "mmap-exec": mapped_to_execute, "copy_file_range": copied, "splice": spliced, "sendfile": sent}
WRITES = {"write": write, "copy_file_range-to": copied_to, "splice-to": spliced_to, "sendfile-to": sent_to}
ATTRIBUTES = {"chmod": chmod, "chown": chown, "xattr": xattr, "removexattr": remove_xattr, "acl": acl}
BY_DESCRIPTOR = {**READS, **WRITES, "truncate": truncate, **ATTRIBUTES}
BESIDE = {"create": create, "symlink": make_symlink, "mkdir": make_directory, "mknod": make_node}
NAMES = {"delete": delete, "rename-from": rename_from, "rename-to": rename_to, "link": link}
ACROSS = {**NAMES, "rename-exchange": exchange, "link-to": link_to, "unnamed": unnamed}
ALL = {**BY_DESCRIPTOR, "append": append, **BESIDE, **ACROSS, "mount-over": mount_over}
MOUNTS = {"mount-over-by-move_mount": move_mount_over, "mount-over-by-tmpfs": tmpfs_over}
RINGED = {"read": read, "write": write, "create": create, "symlink": make_symlink, "mkdir": make_directory, **NAMES}
# Names below another mount: there is no renaming and linking across mounts.
TREE = {**BY_DESCRIPTOR, "append": append, **BESIDE, "delete": delete}
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
ALIASES = {
    "direct": (direct, {**ALL, **MOUNTS}),
    "symlinked-directory": (symlink, ALL),
    "dots": (dots, ALL),
    "proc-self-root": (proc_root, ALL),
    "proc-pid-cwd": (proc_cwd, ALL),
    "reopened-descriptor": (reopened, {**BY_DESCRIPTOR, "append": append}),
    "hard-link-before": (hard_link, {**BY_DESCRIPTOR, "append": append}),
    "bind-mount": (bind, TREE),
    "bind-mount-of-file": (bind_file, BY_DESCRIPTOR),
    "bind-mount-in-user-namespace": (bind_in_user_namespace, READS),
    "open_tree-and-move_mount": (open_tree, TREE),
    "chroot": (chroot, {**TREE, **ACROSS}),
    "pivot_root": (pivot_root, TREE),
    "private-mounts": (private_mounts, {**ALL, **MOUNTS}),
    "user-namespace": (user_namespace, {**READS, "write": write, "mount-over": mount_over}),
    "overlay-lower": (overlay, {**READS}),
    "overlay-lower-in-user-namespace": (overlay_in_user_namespace, READS),
    "overlay-upper": (overlay_upper, {**READS, "write": write, "create": create, "delete": delete}),
    "open_by_handle_at": (by_handle, BY_DESCRIPTOR),
    "parent-renamed": (parent_renamed, {"read": read, "write": write, "delete": delete}),
    "parent-exchanged": (parent_exchanged, {"read": read, "write": write}),
    "parent-replaced-by-symlink": (parent_replaced, {"read": read, "write": write}),
    MADE_LATER: (made_later, TREE),
    "on-ext4": (on_ext4, ALL),
    "by-handle-without-directory": (
        by_handle_without_directory,
        {"read": read, "write": write, "truncate": truncate, "chmod": chmod},
    ),
    "case-folding": (case_folding, FOLDED_NAMES),
    "case-folding-root": (case_folding_root, {"read": read, "write": write, "create": create, "delete": delete}),
    "deep-path": (direct, ALL),
    "long-path": (long_path, TREE),
    "long-name": (direct, {**BY_DESCRIPTOR, "delete": delete}),
    "non-utf8-name": (direct, ALL),
    "received-descriptor": (received, BY_DESCRIPTOR),
    "inherited-descriptor": (inherited, {**READS, "write-in-place": write_in_place}),
    "io_uring": (io_uring, RINGED),
    "io_uring-polled": (io_uring_polled, RINGED),
    "io_uring-registered": (io_uring_registered, {"read": read_registered, "write": write_registered}),
}
CELLS = [(alias, operation) for alias, (_, operations) in ALIASES.items() for operation in operations]


def make_file(alias, operation, file):
    with open(file, "wb") as content:
        content.write(b"secret of " + name(alias, operation))
    os.chmod(file, 0o600)
    os.setxattr(file, b"trusted.mine", b"1")


def mount_images():
    """The filesystems with nothing on them. What compares names in another way is not known to every kernel: without
    it there is an empty directory, in which no cell of its alias can do anything."""
    for at, image in IMAGES.items():
        os.makedirs(at, exist_ok=True)
        if not os.path.ismount(at):
            command = ["/usr/bin/busybox", "mount", "-t", "ext4", "-o", "loop", image, at]
            subprocess.run(command, check=at != FOLDING)
        for entry in os.listdir(at):
            shutil.rmtree(os.path.join(at, entry))
    if os.path.ismount(FOLDING):
        descriptor = os.open(FOLDING, os.O_RDONLY)
        # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_CASEFOLD_FL: directories below inherit it.
        flags = struct.unpack("Q", fcntl.ioctl(descriptor, 0x80086601, bytes(8)))[0]
        fcntl.ioctl(descriptor, 0x40086602, struct.pack("Q", flags | 0x40000000))
        os.close(descriptor)
        os.mkdir(FOLDED)


def prepare():
    mount_images()
    for directory in (b"/home/dev", b"/home/other", b"/home/elsewhere"):
        # The long path is one that rmtree cannot name; it goes by descriptors.
        shutil.rmtree(directory, ignore_errors=True)
    above = (b"/home/other", b"/home/dev/overlay-work", b"/mnt", b"/srv", DISK + b"/keys", FOLDED + b"/keys")
    for directory in (KEYS + b"/" + DEEP, WORK, *WORK_OF.values(), *above):
        os.makedirs(directory, exist_ok=True)
    os.symlink(KEYS, WORK + b"/soft")
    open(WORK + b"/innocent", "wb").close()
    os.chdir(KEYS)
    for part in LONG:
        os.mkdir(part)
        os.chdir(part)
    for alias, operation in CELLS:
        cell = name(alias, operation)
        file = file_of(alias, operation) if alias != "long-path" else cell
        if alias != MADE_LATER:
            make_file(alias, operation, file)
        with open(WORK_OF.get(alias, WORK) + b"/in-" + cell, "wb") as content:
            content.write(b"evil")
        if alias == "hard-link-before":
            os.link(file, WORK + b"/hard-" + cell)
    os.chdir(b"/")


def make_later():
    """All at once: what guards may hear of new directories only some time later, and has that time."""
    made = False
    for operation in ALIASES[MADE_LATER][1]:
        file = file_of(MADE_LATER, operation)
        if not os.path.isdir(os.path.dirname(file)):
            os.mkdir(os.path.dirname(file))
            make_file(MADE_LATER, operation, file)
            made = True
    if made:
        time.sleep(2)


def serve():
    server = socket.socket(socket.AF_UNIX)
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    server.bind(SOCKET)
    server.listen()
    print("ready", flush=True)
    while True:
        client, _ = server.accept()
        with client:
            asked = client.recv(4096)
            if asked == MAKE:
                make_later()
                continue
            descriptor = os.open(asked, os.O_RDWR)
            rights = array.array("i", [descriptor])
            client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            os.close(descriptor)


def attempt(alias, operation):
    """In the process of the cell: 0 when it worked, else an errno; 255 when it failed in another way."""
    make, operations = ALIASES[alias]
    target = None
    try:
        # On the same filesystem, which copy_file_range wants, and opened where every path is as it was.
        copy = os.open(WORK_OF.get(alias, WORK) + b"/in-" + name(alias, operation), os.O_RDWR)
        target = make(file_of(alias, operation))
        target.copy = copy
        found = operations[operation](target, name(alias, operation))
        return 0 if found is None or found else 254
    except OSError as error:
        sys.stderr.write(f"{alias}.{operation}: {error}\n")
        return error.errno or 255
    except Exception as error:
        sys.stderr.write(f"{alias}.{operation}: {error!r}\n")
        return 255
    finally:
        if hasattr(target, "undo"):
            target.undo()


def try_all():
    for alias, operation in CELLS:
        child = os.fork()
        if child == 0:
            status = 255
            try:
                # In mounts of its own, so that one cell's mount is not in the way of others.
                if operation.startswith("mount-over") and alias not in ("private-mounts", "user-namespace"):
                    own_mounts()
                status = attempt(alias, operation)
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(f"cell: {alias} {operation} {child} {os.waitstatus_to_exitcode(status) & 255}", flush=True)


def check():
    for alias, operation in CELLS:
        cell, file = name(alias, operation), file_of(alias, operation)
        if alias == "long-path":
            enter_long()
            file = cell
        links = 2 if alias == "hard-link-before" else 1
        try:
            status = os.stat(file)
            whole = (
                open(file, "rb").read() == b"secret of " + cell
                and (status.st_mode & 0o7777, status.st_uid, status.st_nlink) == (0o600, 0, links)
                and {os.fsencode(key) for key in os.listxattr(file)} == {b"trusted.mine"}
                and not os.path.lexists(file + b".new")
            )
        except FileNotFoundError:
            whole = False
        os.chdir(b"/")
        if not whole:
            print(f"changed: {alias} {operation}", flush=True)


{"prepare": prepare, "serve": serve, "try": try_all, "check": check}[sys.argv[1]]()
