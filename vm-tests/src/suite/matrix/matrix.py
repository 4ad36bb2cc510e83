"""Every alias of a protected file, with every operation. One verb a run:

prepare  makes a protected file for each cell, and the aliases that exist before the session (outside of it)
serve    sends descriptors of them, puts them into rings and makes others, for whoever asks (outside of it)
try      tries every cell, or those of one part of them, each in a process of its own, and prints what came of it
check    prints the cells whose file, name or attributes are not as they were (outside of it)
"""

import shutil, subprocess, sys, time

ALIASES = {
    "direct": (direct, {**ALL, **MOUNTS, **EXECUTIONS, **INTERPRETED, "openat2": read_by_openat2}),
    "symlinked-directory": (symlink, {**ALL, **EXECUTIONS}),
    "dots": (dots, {**ALL, **EXECUTIONS}),
    "proc-self-root": (proc_root, {**ALL, **EXECUTIONS}),
    "proc-pid-cwd": (proc_cwd, {**ALL, **STATIC}),
    "reopened-descriptor": (reopened, {**BY_OPENING, **STATIC}),
    "hard-link-before": (hard_link, {**BY_OPENING, **OTHER_NAME, **EXECUTIONS}),
    "bind-mount": (bind, {**TREE, **EXECUTIONS}),
    "bind-mount-of-file": (bind_file, {**BY_OPENING, **EXECUTIONS}),
    "bind-mount-in-user-namespace": (bind_in_user_namespace, by_users({**TREE, **EXECUTIONS})),
    "open_tree-and-move_mount": (open_tree, {**TREE, **EXECUTIONS}),
    "chroot": (chroot, {**ALL, **STATIC}),
    "pivot_root": (pivot_root, {**ALL, **STATIC}),
    "private-mounts": (private_mounts, {**ALL, **MOUNTS, **EXECUTIONS}),
    "user-namespace": (user_namespace, by_users({**ALL, **MOUNTS, **EXECUTIONS})),
    "overlay-lower": (overlay, {**READS, **COPY_UPS, **EXECUTIONS}),
    "overlay-of-overlay": (overlay_of_overlay, {**READS, **EXECUTIONS}),
    "overlay-that-is-named": (direct, {**READS, **WRITES, **EXECUTIONS}),
    "overlay-lower-in-user-namespace": (overlay_in_user_namespace, {**READS, **COPY_UPS, **EXECUTIONS}),
    "overlay-upper": (overlay_upper, {**TREE, **ACROSS, **EXECUTIONS}),
    "overlay-upper-in-user-namespace": (overlay_upper_in_user_namespace, by_users({**TREE, **EXECUTIONS})),
    "open_by_handle_at": (by_handle, {**BY_OPENING, **BY_EXECVEAT}),
    MADE_LATER: (made_later, {**ALL, **EXECUTIONS}),
    "on-ext4": (on_ext4, {**ALL, **FLAGS, **EXECUTIONS}),
    "by-handle-without-directory": (
        by_handle_without_directory,
        {"read": read, "write": write, "truncate": truncate, "chmod": chmod, **BY_EXECVEAT},
    ),
    "case-folding": (case_folding, {**FOLDED_NAMES, **EXECUTIONS}),
    "case-folding-root": (case_folding_root, {"read": read, "write": write, "create": create, "delete": delete}),
    "deep-path": (direct, {**ALL, **EXECUTIONS}),
    "long-path": (long_path, {**ALL, **STATIC}),
    "long-name": (direct, {**ALL, **STATIC}),
    "non-utf8-name": (direct, {**ALL, **EXECUTIONS}),
    "received-descriptor": (received, {**BY_DESCRIPTOR, **AIO, **BY_EXECVEAT}),
    "inherited-descriptor": (inherited, {**READS, "aio-read": read_by_aio, "write-in-place": write_in_place}),
    "io_uring": (io_uring, RINGED),
    "io_uring-polled": (io_uring_polled, RINGED),
    "io_uring-registered": (io_uring_registered, REGISTERED),
    "sent-to-ring": (sent_to_ring, REGISTERED),
    "aio": (symlink, {"read": read_by_aio, "write": write_by_aio}),
    "may-be-read": (may_be_read, CHANGES),
    "content-copied": (copy, EXECUTIONS),
    "content-renamed": (content_renamed, EXECUTIONS),
    "content-hard-linked": (content_linked, EXECUTIONS),
    "content-symlinked": (content_symlinked, EXECUTIONS),
    "content-put-in-place": (content_in_place, EXECUTIONS),
    "content-in-shared-memory": (content_in_shared_memory, EXECUTIONS),
    "content-in-memfd": (content_in_memory, EXECUTIONS),
    "content-on-private-tmpfs": (content_on_private_tmpfs, EXECUTIONS),
    "content-in-user-namespace": (content_in_user_namespace, EXECUTIONS),
    "content-in-overlay": (content_in_overlay, EXECUTIONS),
    "content-that-is-known": (content_known, EXECUTIONS),
    # Nothing of these is to be stopped.
    "innocent-in-overlay-lower": (overlay, EXECUTIONS),
    "innocent-in-overlay-upper": (overlay_upper, EXECUTIONS),
    "innocent-in-overlay-of-overlay": (overlay_of_overlay, EXECUTIONS),
    # At the end: what one of them could not put back, the others would not find. A rule about programs by path does not
    # follow one that is renamed, in whatever way: see the rows about contents.
    "star-renamed": (star_renamed, {"read": read, "write": write, "delete": delete}),
    "star-exchanged": (star_exchanged, {"read": read, "write": write, "delete": delete}),
    "star-child-renamed": (star_child_renamed, {"read": read, "write": write, "delete": delete}),
    "parent-renamed": (parent_renamed, ALL),
    "parent-exchanged": (parent_exchanged, ALL),
    "parent-replaced-by-symlink": (parent_replaced, ALL),
}
CELLS = [(alias, operation) for alias, (_, operations) in ALIASES.items() for operation in operations]


def attributes_of(alias, operation):
    """The extended attributes that the file of a cell has from the start."""
    if operation == "removexattr" and alias in USER_NAMESPACES:
        return {b"trusted.mine": b"1", CAPABILITY: NO_CAPABILITIES}
    return {b"trusted.mine": b"1"}


def content_of(alias, operation):
    if not is_execution(operation):
        return b"secret of " + name(alias, operation)
    # Where there are no libraries it has to be a program that needs none, and is told by its first word which one it is.
    with open("/usr/bin/busybox" if alias in ("chroot", "pivot_root") else "/usr/bin/true", "rb") as program:
        return program.read()


def mode_of(operation):
    return 0o700 if is_execution(operation) else 0o600


def make_file(alias, operation, file):
    with open(file, "wb") as content:
        content.write(content_of(alias, operation))
    os.chmod(file, mode_of(operation))
    for key, value in attributes_of(alias, operation).items():
        os.setxattr(file, key, value)


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
        # Directories below inherit it.
        add_flag(descriptor, CASEFOLD)
        os.close(descriptor)
        os.mkdir(FOLDED)


def unmount_shown():
    if os.path.ismount(SHOWN):
        called(LIBC.umount2(SHOWN, 0))
    for directory in (SHOWN, HIDDEN):
        shutil.rmtree(directory, ignore_errors=True)
    for directory in (SHOWN, HIDDEN + b"/lower", HIDDEN + b"/upper", HIDDEN + b"/work"):
        os.makedirs(directory)


def mount_shown():
    layers = b"lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work" % (HIDDEN, HIDDEN, HIDDEN)
    mount(b"overlay", SHOWN, b"overlay", 0, layers)


def prepare():
    mount_images()
    unmount_shown()
    for directory in (b"/home/dev", b"/home/other", b"/home/elsewhere"):
        # The long path is one that rmtree cannot name; it goes by descriptors.
        shutil.rmtree(directory, ignore_errors=True)
    above = (b"/home/other", b"/home/dev/overlay-work", b"/mnt", PROJECTS, AWAY, INNOCENT, os.path.dirname(DENIED))
    protected = [directory + b"/" + DEEP for directory in (KEYS, PROGRAMS)]
    protected += [DISK + b"/keys", DISK + b"/programs", DISK + b"/settings", FOLDED + b"/keys", FOLDED + b"/programs"]
    for directory in (WORK, *WORK_OF.values(), *above, *protected):
        os.makedirs(directory, exist_ok=True)
    open(WORK + b"/innocent", "wb").close()
    with open("/usr/bin/true", "rb") as content, open(DENIED, "wb") as denied:
        denied.write(content.read() + bytes(16))
    for directory in (KEYS, PROGRAMS):
        os.symlink(directory, WORK + b"/soft-" + os.path.basename(directory))
        os.chdir(directory)
        for part in LONG:
            os.mkdir(part)
            os.chdir(part)
    for alias, operation in CELLS:
        cell = name(alias, operation)
        file = file_of(alias, operation)
        if alias == "long-path":
            enter_long(directory_of(operation))
            file = cell
        if alias in BEHIND_A_STAR:
            os.makedirs(os.path.dirname(file))
        if alias == "overlay-that-is-named":
            file = file.replace(SHOWN, HIDDEN + b"/lower")
        if alias != MADE_LATER and not alias.startswith("content-"):
            make_file(alias, operation, file)
        with open(WORK_OF.get(alias, WORK) + b"/in-" + cell, "wb") as content:
            content.write(b"evil")
        if alias == "hard-link-before":
            os.link(file, other_name(cell))
    mount_shown()
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


def send(client, file):
    # What is open for writing is not executed.
    descriptor = os.open(file, os.O_RDONLY if file.startswith(PROGRAMS) else os.O_RDWR)
    rights = array.array("i", [descriptor])
    client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(descriptor)


def put(client, number, file):
    """Into the table of the asking process's ring, which has that number there; what the kernel says of it is sent."""
    pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    process, content, ring = os.pidfd_open(pid), os.open(file, os.O_RDWR), Ring(False)
    # pidfd_getfd(2)
    theirs = called(LIBC.syscall(438, process, int(number), 0))
    ring.register(content)
    try:
        # IORING_OP_MSG_RING, IORING_MSG_SEND_FD, IORING_MSG_RING_CQE_SKIP; places are counted from 1.
        ring.run(40, theirs, 0, 1, 0, 1, place=1)
        client.send(struct.pack("I", 0))
    except OSError as error:
        client.send(struct.pack("I", error.errno))
    for descriptor in (process, content, theirs, ring.fd):
        os.close(descriptor)


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
            elif asked.startswith(PUT):
                put(client, *asked.split(b" ")[1:])
            else:
                send(client, asked)


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


def part_of(alias, operation):
    """By which policy the cell is to be stopped."""
    if alias.startswith("content-"):
        return "contents"
    return "programs" if is_execution(operation) else "files"


def try_all():
    for alias, operation in CELLS:
        if sys.argv[2:] not in ([], [part_of(alias, operation)]):
            continue
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


def is_whole(alias, operation, file):
    """Whether the file of a cell is as it was made, by its name or names, with nothing beside it."""
    cell = name(alias, operation)
    links = 2 if alias == "hard-link-before" else 1
    status = os.stat(file)
    attributes = {os.fsencode(key): os.getxattr(file, key) for key in os.listxattr(file)}
    with open(file, "rb") as content:
        return (
            content.read() == content_of(alias, operation)
            and (status.st_mode & 0o7777, status.st_uid, status.st_nlink) == (mode_of(operation), 0, links)
            and attributes == attributes_of(alias, operation)
            and not os.path.lexists(file + b".new")
            and (links == 1 or os.path.samefile(file, other_name(cell)))
            and (operation not in FLAGS or flags_of(content.fileno()) & NODUMP == 0)
        )


def check():
    for alias, operation in CELLS:
        if alias.startswith("content-"):
            # Made by the cell itself.
            continue
        file = file_of(alias, operation)
        if alias == "long-path":
            enter_long(directory_of(operation))
            file = name(alias, operation)
        try:
            whole = is_whole(alias, operation, file)
        except FileNotFoundError:
            whole = False
        os.chdir(b"/")
        if not whole:
            print(f"changed: {alias} {operation}", flush=True)


{"prepare": prepare, "serve": serve, "try": try_all, "check": check}[sys.argv[1]]()
