"""Where the protected files are, and the other ways to them."""

import array, socket

KEYS = b"/home/dev/.ssh"
# What is in the second must not be executed, by its path; what the program's content is, by that and wherever it is.
PROGRAMS, DENIED = b"/home/dev/.programs", b"/usr/local/lib/matrix-denied"
LOADER = b"/lib64/ld-linux-x86-64.so.2"
WORK = b"/home/dev/work"
# What is protected below it is so in any directory: `*`. Nothing is below the second.
PROJECTS, AWAY = b"/home/dev/projects", b"/home/dev/away"
# Programs that no rule is about.
INNOCENT = WORK + b"/programs"
# Filesystems that the host has made; below the second one names may be compared without regard to letters' cases.
DISK, FOLDING = b"/home/disk", b"/home/folding"
IMAGES = {DISK: b"/filesystems/plain.ext4", FOLDING: b"/filesystems/folding.ext4"}
FOLDED = FOLDING + b"/any-case"
# Files are renamed and linked on one filesystem only. What is in the last of these, an overlay shows.
WORK_OF = {
    "on-ext4": DISK + b"/work",
    "may-be-read": DISK + b"/work",
    "case-folding": FOLDING + b"/work",
    "case-folding-root": FOLDING + b"/work",
    "overlay-upper": b"/srv",
}
SOCKET = "/run/matrix.sock"
# What is asked for there; anything else is the path of a file whose descriptor is wanted.
MAKE, PUT = b"make", b"put"
DEEP = b"/".join([b"d"] * 70)
LONG = [b"l" * 250] * 18
# An overlay that everybody sees: its rules are about names in it, and not about what is behind.
SHOWN, HIDDEN = b"/home/shown", b"/home/hidden"
MADE_LATER = "directory-made-later"
BEHIND_A_STAR = ("star-renamed", "star-exchanged", "star-child-renamed")
USER_NAMESPACES = ("user-namespace", "bind-mount-in-user-namespace", "overlay-upper-in-user-namespace")


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


def is_execution(operation):
    return operation.startswith("execute")


def directory_of(operation):
    return PROGRAMS if is_execution(operation) else KEYS


def file_of(alias, operation):
    """The protected file of a cell."""
    cell, directory = name(alias, operation), directory_of(operation)
    if alias.startswith("content-"):
        return WORK + b"/" + cell
    if alias == "deep-path":
        return directory + b"/" + DEEP + b"/" + cell
    if alias == "non-utf8-name":
        return directory + b"/\xff\xfe" + cell
    if alias == "long-name":
        return directory + b"/" + cell.ljust(251, b"n")
    if alias in ("on-ext4", "by-handle-without-directory"):
        return DISK + (b"/programs/" if is_execution(operation) else b"/keys/") + cell
    if alias.startswith("innocent-"):
        return INNOCENT + b"/" + cell
    if alias == "overlay-that-is-named":
        return SHOWN + b"/" + cell
    if alias == "may-be-read":
        return DISK + b"/settings/" + cell
    if alias in BEHIND_A_STAR:
        return PROJECTS + b"/" + cell + (b"/programs/" if is_execution(operation) else b"/secrets/") + cell
    if alias in ("case-folding", "case-folding-root"):
        return FOLDED + (b"/programs/" if is_execution(operation) else b"/keys/") + cell
    if alias == MADE_LATER:
        return directory + b"/" + cell + b"-directory/" + cell
    return directory + b"/" + cell


def enter_long(directory):
    """The working directory becomes one whose path is longer than PATH_MAX."""
    os.chdir(directory)
    for part in LONG:
        os.chdir(part)


# Aliases: each is made in the process of its cell.

def direct(file):
    return Target(file)


def symlink(file):
    directory, base = os.path.split(file)
    return Target(WORK + b"/soft-" + os.path.basename(directory) + b"/" + base)


def dots(file):
    directory, base = os.path.split(file)
    return Target(WORK + b"/.././work/..//" + os.path.basename(directory) + b"/" + base)


def proc_root(file):
    return Target(b"/proc/self/root" + file)


def proc_cwd(file):
    os.chdir(os.path.dirname(file))
    return Target(b"/proc/%d/cwd/" % os.getpid() + os.path.basename(file))


def reopened(file):
    """A descriptor that can do nothing is opened again through /proc."""
    return Target(b"/proc/self/fd/%d" % os.open(file, os.O_PATH))


def hard_link(file):
    return Target(other_name(os.path.basename(file)))


def other_name(cell):
    return WORK + b"/hard-" + cell


def bind(file, flags=NEWNS):
    own_mounts(flags)
    mount(os.path.dirname(file), b"/mnt", None, BIND)
    return Target(b"/mnt/" + os.path.basename(file), work=b"/mnt")


def bind_file(file):
    own_mounts()
    mount(file, WORK + b"/innocent", None, BIND)
    return Target(WORK + b"/innocent")


def bind_in_user_namespace(file):
    return bind(file, NEWNS | NEWUSER)


def open_tree(file):
    """The newer mount calls: open_tree(OPEN_TREE_CLONE), move_mount(MOVE_MOUNT_F_EMPTY_PATH)."""
    own_mounts()
    tree = called(LIBC.syscall(428, -100, os.path.dirname(file), 1))
    called(LIBC.syscall(429, tree, b"", -100, b"/mnt", 4))
    return Target(b"/mnt/" + os.path.basename(file), work=b"/mnt")


def chroot(file):
    os.chroot(b"/home/dev")
    return Target(file.removeprefix(b"/home/dev"), work=b"/work")


def pivot_root(file):
    own_mounts()
    # The initial root filesystem cannot be pivoted away, a mount of it can.
    mount(b"/", b"/mnt", None, BIND | REC)
    os.chroot(b"/mnt")
    os.chdir(b"/")
    mount(b"/home/dev", b"/srv", None, BIND)
    # The old root goes where nothing is needed.
    called(LIBC.syscall(155, b"/srv", b"/srv/overlay-work"))
    return Target(file.removeprefix(b"/home/dev"), work=b"/work")


def private_mounts(file):
    own_mounts()
    return Target(file)


def user_namespace(file):
    own_mounts(NEWNS | NEWUSER)
    return Target(file)


def overlay(file, flags=NEWNS, upper=False):
    own_mounts(flags)
    directory = os.path.dirname(file)
    if upper:
        layers = b"lowerdir=/srv,upperdir=%s,workdir=/home/dev/overlay-work" % directory
    else:
        mount(b"tmpfs", b"/tmp", b"tmpfs")
        os.mkdir(b"/tmp/upper")
        os.mkdir(b"/tmp/work")
        layers = b"lowerdir=%s,upperdir=/tmp/upper,workdir=/tmp/work" % directory
    mount(b"overlay", b"/mnt", b"overlay", 0, layers)
    return Target(b"/mnt/" + os.path.basename(file), work=b"/mnt")


def overlay_in_user_namespace(file):
    return overlay(file, NEWNS | NEWUSER)


def overlay_upper(file):
    return overlay(file, NEWNS, True)


def overlay_upper_in_user_namespace(file):
    return overlay(file, NEWNS | NEWUSER, True)


def overlay_of_overlay(file):
    """Two deep, which is the most."""
    target = overlay(file)
    os.mkdir(b"/tmp/upper-2")
    os.mkdir(b"/tmp/work-2")
    os.mkdir(b"/tmp/at")
    mount(b"overlay", b"/tmp/at", b"overlay", 0, b"lowerdir=/mnt,upperdir=/tmp/upper-2,workdir=/tmp/work-2")
    return Target(target.path.replace(b"/mnt", b"/tmp/at"), work=b"/tmp/at")


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


def may_be_read(file):
    """A descriptor for reading can be had, and what is done by it has to be stopped by itself."""
    target = on_ext4(file)
    target.at = lambda: os.open(file, os.O_RDONLY)
    return target


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


def moved(directory, to, file, flags=0):
    """A directory above the file goes by another name for a while; the cell's process moves it back."""
    renameat2(directory, to, flags)
    target = Target(file.replace(directory, to, 1), work=WORK.replace(directory, to, 1))
    target.undo = lambda: renameat2(to, directory, flags)
    return target


def parent_renamed(file):
    return moved(b"/home/dev", b"/home/elsewhere", file)


def parent_exchanged(file):
    return moved(b"/home/dev", b"/home/other", file, EXCHANGE)


def star_renamed(file):
    """The directory that the pattern does not name."""
    project = os.path.dirname(os.path.dirname(file))
    return moved(project, AWAY + b"/" + os.path.basename(project), file)


def star_exchanged(file):
    project = os.path.dirname(os.path.dirname(file))
    to = AWAY + b"/" + os.path.basename(project)
    os.makedirs(to, exist_ok=True)
    return moved(project, to, file, EXCHANGE)


def star_child_renamed(file):
    """The one that it names behind it."""
    directory = os.path.dirname(file)
    return moved(directory, AWAY + b"/" + os.path.basename(file), file)


def long_path(file):
    enter_long(os.path.dirname(file))
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
    opener = lambda flags: ring.run(18, -100, 0, ring.keep(file), 0o600, flags)
    return Target(file, opener, ring)


def io_uring_polled(file):
    return io_uring(file, True)


def sent_to_ring(file):
    """Somebody outside puts the file into the table of the process's ring, from one of a ring of its own."""
    ring = Ring(False)
    ring.register()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(SOCKET)
        client.send(b" ".join([PUT, b"%d" % ring.fd, file]))
        number = struct.unpack("I", client.recv(4))[0]
    if number:
        raise OSError(number, os.strerror(number))
    return Target(opener=lambda _flags: 0, ring=ring)


def io_uring_registered(file):
    """The file is opened into the ring's own table: no descriptor of the process leads to it."""
    target = io_uring(file)
    target.ring.register()
    target.opener = lambda flags: target.ring.run(18, -100, 0, target.ring.keep(file), 0o600, flags, place=1)
    return target


# The denied program by another name and at another place, where only its content tells what it is.

def copy(to, source=DENIED):
    with open(source, "rb") as content, open(to, "wb") as new:
        new.write(content.read())
    os.chmod(to, 0o755)
    return Target(to)


def content_renamed(file):
    copy(file + b".before")
    os.rename(file + b".before", file)
    return Target(file)


def content_linked(file, link=os.link):
    copy(file + b".before")
    link(file + b".before", file)
    return Target(file)


def content_known(file):
    """It has been tried to execute it."""
    ended_with(copy(file).path, [b"true"])
    return Target(file)


def content_symlinked(file):
    return content_linked(file, os.symlink)


def content_in_place(file):
    """The file was another program, which has been executed, when it became this one."""
    copy(file, b"/usr/bin/false")
    if ended_with(file, [b"false"]) != 1:
        raise OSError(1, "the harmless program was not executed")
    return copy(file)


def content_in_shared_memory(file):
    return copy(b"/dev/shm/" + os.path.basename(file))


def content_in_memory(file):
    """In no filesystem at all. Programs that are executed inherit the descriptor."""
    descriptor = os.memfd_create(os.fsdecode(os.path.basename(file)), 0)
    with open(DENIED, "rb") as content:
        os.write(descriptor, content.read())
    return Target(b"/proc/self/fd/%d" % descriptor)


def content_on_private_tmpfs(file, flags=NEWNS):
    own_mounts(flags)
    mount(b"tmpfs", b"/mnt", b"tmpfs")
    return copy(b"/mnt/" + os.path.basename(file))


def content_in_user_namespace(file):
    return content_on_private_tmpfs(file, NEWNS | NEWUSER)


def content_in_overlay(file):
    own_mounts()
    mount(b"tmpfs", b"/tmp", b"tmpfs")
    for directory in (b"/tmp/lower", b"/tmp/upper", b"/tmp/work"):
        os.mkdir(directory)
    copy(b"/tmp/lower/" + os.path.basename(file))
    mount(b"overlay", b"/mnt", b"overlay", 0, b"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work")
    return Target(b"/mnt/" + os.path.basename(file))
