"""What a subject that is root tries against the sensor. Arguments: the sensor's process, the directory that it keeps
everything in, where it pins, its binary, another process, and `all` or `files`. One line for each: name, error number
(0: it worked)."""
import ctypes, mmap, os, signal, struct, subprocess, sys

pid, home, pins, binary, other, what = int(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5]), sys.argv[6]
libc = ctypes.CDLL(None, use_errno=True)
SEIZE, PIDFD_OPEN, PIDFD_SEND, PIDFD_GETFD, PRLIMIT, IOPRIO, BPF = 0x4206, 434, 424, 438, 302, 251, 321


def call(number, *arguments):
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def trial(name, act):
    try:
        act()
        print("act:", name, 0, flush=True)
    except OSError as error:
        print("act:", name, error.errno, flush=True)


def write(path, flags=os.O_WRONLY):
    os.close(os.open(path, flags))


def trace(target):
    call(101, SEIZE, target, 0, 0)


def memory(target):
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    remote = (ctypes.c_size_t * 2)(0x1000, 8)
    call(310, target, local, 1, remote, 1, 0)


def limit(target):
    call(PRLIMIT, target, 7, struct.pack("QQ", 64, 64), 0)


def by_id(after, of):
    """The objects of one sort, each by its id."""
    found, last = 0, 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("III", last, 0, 0), 64)
        try:
            call(BPF, after, attributes, 64)
        except OSError:
            break
        last, found = struct.unpack_from("II", attributes)[1], found + 1
        try:
            os.close(call(BPF, of, ctypes.create_string_buffer(struct.pack("I", last), 64), 64))
        except OSError as error:
            if error.errno != 1:
                raise
            continue
        raise OSError(200, "one could be had")
    raise OSError(1 if found else 201, "")


def load(kind):
    """A program that does nothing: r0 = 0; exit. Before Linux 5.11 it counts as locked memory, and so do the sensor's
    maps, for one user together."""
    call(PRLIMIT, 0, 8, struct.pack("QQ", 2**64 - 1, 2**64 - 1), 0)
    instructions = ctypes.create_string_buffer(bytes.fromhex("b7000000000000009500000000000000"), 16)
    licence = ctypes.create_string_buffer(b"GPL")
    addresses = struct.pack("QQ", ctypes.addressof(instructions), ctypes.addressof(licence))
    attributes = struct.pack("II", kind, 2) + addresses + bytes(96)
    os.close(call(BPF, 5, ctypes.create_string_buffer(attributes, 120), 120))


def pinned(path):
    name = ctypes.create_string_buffer(path.encode())
    attributes = ctypes.create_string_buffer(struct.pack("QII", ctypes.addressof(name), 0, 0), 16)
    os.close(call(BPF, 7, attributes, 16))


def unmount(path):
    if libc.umount2(path, 2) != 0:
        raise OSError(ctypes.get_errno(), "")


def mount_over(path):
    if libc.mount(b"tmpfs", path.encode(), b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "")


def module(flags):
    image = ctypes.create_string_buffer(4096)
    if flags:
        call(313, os.open(binary, os.O_RDONLY), ctypes.create_string_buffer(b""), 0)
    else:
        call(175, image, 4096, ctypes.create_string_buffer(b""))


def detach():
    """As an administrator would, with the configuration of the daemon that runs; and with another state directory, where
    no lock is in the way."""
    environment = {**os.environ, "TREELINE_CONFIG": f"{home}/treeline.toml"}
    for more in ([], ["--state", "/tmp/state"]):
        words = [binary, "daemon", "--detach-all", *more]
        ran = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ran.returncode == 0 or "outside of every session" not in ran.stderr:
            print(ran.returncode, ran.stdout, ran.stderr, file=sys.stderr, flush=True)
            raise OSError(202, "")
    raise OSError(1, "")


def lock(path):
    """Whoever can read a file can lock it."""
    import fcntl
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def watch(path, events, more=0):
    group = call(300, 4, os.O_RDONLY)
    call(301, group, 1 | more, ctypes.c_uint64(events), -100, ctypes.create_string_buffer(path.encode()))


def request(path, number):
    import fcntl
    directory = os.open(path, os.O_RDONLY)
    fcntl.ioctl(directory, number, struct.pack("I", 2))


# 32-bit ioctl(2) from a 64-bit process: push rbx; mov ebx, edi; mov ecx, esi; mov eax, 54; int 0x80; pop rbx; ret.
CODE = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
CODE.write(bytes.fromhex("5389fb89f1b836000000cd805bc3"))
IOCTL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(
    ctypes.addressof(ctypes.c_char.from_buffer(CODE)))


def request_by_32_bits(path, number):
    result = IOCTL(os.open(path, os.O_RDONLY), number, 0)
    if result < 0:
        raise OSError(-result, "")


def owned():
    """In a process of its own, by which the log tells it from other signals."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print("act:", "signal-by-file-of", child, flush=True)
        return
    import fcntl
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reader, 10, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b"x")
    os._exit(0)


trial("state", lambda: write(f"{home}/state/lock"))
trial("configuration", lambda: write(f"{home}/treeline.toml"))
trial("detach-all", detach)
trial("lock-of-state", lambda: lock(f"{home}/state/lock"))
trial("lock-of-log", lambda: lock(f"{home}/log/lock"))
trial("lock-of-socket", lambda: lock(f"{home}/socket.lock"))
if what == "files":
    sys.exit()
trial("signal", lambda: os.kill(pid, signal.SIGKILL))
trial("signal-stop", lambda: os.kill(pid, signal.SIGSTOP))
trial("signal-to-thread", lambda: call(234, pid, pid, 9))
trial("signal-by-descriptor", lambda: call(PIDFD_SEND, call(PIDFD_OPEN, pid, 0), 9, 0, 0))
# The signal is dropped: whoever asks for it is told nothing.
trial("signal-by-file", owned)
trial("trace", lambda: trace(pid))
trial("read-memory", lambda: memory(pid))
trial("open-memory", lambda: write(f"/proc/{pid}/mem", os.O_RDWR))
trial("take-descriptor", lambda: call(PIDFD_GETFD, call(PIDFD_OPEN, pid, 0), 0, 0))
trial("limit", lambda: limit(pid))
trial("priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
trial("affinity", lambda: os.sched_setaffinity(pid, {0}))
trial("io-priority", lambda: call(IOPRIO, 1, pid, 3 << 13))
trial("oom-score", lambda: write(f"/proc/{pid}/oom_score_adj"))
trial("oom-score-of-thread", lambda: write(f"/proc/{max(map(int, os.listdir(f'/proc/{pid}/task')))}/oom_score_adj"))
os.makedirs("/tmp/proc", exist_ok=True)
trial("mount-procfs", lambda: libc.mount(b"proc", b"/tmp/proc", b"proc", 0, None))
trial("oom-score-in-another-procfs", lambda: write(f"/tmp/proc/{pid}/oom_score_adj"))
first_set = f"{pins}/{os.listdir(pins)[0]}"
trial("maps", lambda: by_id(12, 14))
trial("programs", lambda: by_id(11, 13))
trial("links", lambda: by_id(31, 30))
trial("pinned-map", lambda: pinned(f"{first_set}/maps/LABELS"))
trial("pin", lambda: os.unlink(f"{first_set}/links/0"))
trial("unmount", lambda: unmount(b"/sys/fs/bpf"))
trial("unmount-above", lambda: unmount(b"/sys"))
trial("load-tracing", lambda: load(26))
trial("load-raw-tracepoint", lambda: load(17))
trial("load-for-sockets", lambda: load(1))
trial("module", lambda: module(False))
trial("module-from-file", lambda: module(True))
trial("sysrq", lambda: write("/proc/sysrq-trigger"))
trial("calls-of-programs", lambda: os.write(os.open("/proc/sys/kernel/ftrace_enabled", os.O_WRONLY), b"0"))
trial("state-still", lambda: write(f"{home}/state/lock"))
trial("core-pattern", lambda: write("/proc/sys/kernel/core_pattern"))
trial("modprobe", lambda: write("/proc/sys/kernel/modprobe"))
trial("real-time-share", lambda: write("/proc/sys/kernel/sched_rt_runtime_us"))
os.makedirs("/tmp/groups", exist_ok=True)
libc.mount(b"none", b"/tmp/groups", b"cgroup", 0, b"none,name=own")
trial("release-agent", lambda: write("/tmp/groups/release_agent"))
trial("policy", lambda: write(f"{home}/policy.yaml"))
os.makedirs("/run/systemd/system", exist_ok=True)
trial("unit", lambda: write("/run/systemd/system/treeline.service", os.O_CREAT | os.O_WRONLY))
trial("drop-in", lambda: os.mkdir("/run/systemd/system/treeline.service.d"))
# FAN_OPEN_PERM, FAN_OPEN_EXEC_PERM; FAN_MARK_FILESYSTEM.
trial("wait-for-opens", lambda: watch(f"{home}/log", 0x10000 | 0x8000000))
trial("wait-for-opens-of-filesystem", lambda: watch("/", 0x10000, 0x100))
trial("wait-for-execs", lambda: watch(binary, 0x40000))
trial("told-of-opens", lambda: watch("/home/dev/work", 0x20))
# By number alone: on the filesystem of these files they would do nothing.
trial("freeze-filesystem", lambda: request(home, 0xC0045877))
trial("freeze-filesystem-by-32-bits", lambda: request_by_32_bits(home, 0xC0045877))
trial("shut-filesystem-down", lambda: request(home, 0x8004587D))
trial("freeze", lambda: write("/sys/fs/cgroup/guarded/cgroup.freeze"))
# Linux 5.14 has a file that kills the group.
kill = "/sys/fs/cgroup/guarded/cgroup.kill"
trial("kill-group", lambda: write(kill if os.path.exists(kill) else "/sys/fs/cgroup/guarded/cgroup.freeze"))
trial("starve-group", lambda: write("/sys/fs/cgroup/guarded/cpu.max"))
trial("starve-group-of-memory", lambda: write("/sys/fs/cgroup/guarded/memory.max"))
os.makedirs("/sys/fs/cgroup/other", exist_ok=True)
trial("freeze-another", lambda: write("/sys/fs/cgroup/other/cgroup.freeze"))
trial("move", lambda: open("/sys/fs/cgroup/other/cgroup.procs", "w").write(str(pid)))
trial("log", lambda: os.rename(f"{home}/log", f"{home}/log2"))
trial("log-new-file", lambda: write(f"{home}/log/new", os.O_CREAT | os.O_WRONLY))
kept = next(os.path.join(top, names[0]) for top, _, names in os.walk(f"{home}/log") if names)
trial("log-write", lambda: write(kept))
trial("log-truncate", lambda: os.truncate(kept, 0))
trial("mount-over-log", lambda: mount_over(f"{home}/log"))
trial("mount-over-pins", lambda: mount_over(pins))
trial("pins-rename", lambda: os.rename(pins, pins + "2"))
trial("socket", lambda: os.unlink(f"{home}/socket"))
trial("binary", lambda: os.rename(binary, binary + "2"))
trial("other-limit", lambda: limit(other))
trial("other-priority", lambda: os.setpriority(os.PRIO_PROCESS, other, 19))
trial("other-oom-score", lambda: write(f"/proc/{other}/oom_score_adj"))
trial("other-trace", lambda: trace(other))
trial("other-signal", lambda: os.kill(other, signal.SIGKILL))
