"""Both sides of work that leaves a session: `sshd` and `atd` do with connections and jobs what the programs of these
names do; the rest is what sessions and others ask of them."""
import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time

KEY = "/home/dev/.ssh/id_ed25519"
SPOOL = "/var/spool/cron/atjobs"
DROP = "/run/sshd-drop"
DROPPED = "/run/sshd-dropped"
PTRACE_SEIZE = 0x4206
PIDFD_GETFD = 438
UNTOUCHED = b"untouched"
libc = ctypes.CDLL(None, use_errno=True)


def status():
    """How a program ends that reads the key."""
    return subprocess.run(["/usr/bin/cat", KEY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def wait_for(path):
    for _ in range(3000):
        if os.path.exists(path):
            return
        time.sleep(0.1)
    sys.exit(f"{path} does not appear")


def write(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


def serve(connection):
    if connection.recv(16):
        connection.sendall(f"{status()}".encode())
    os._exit(0)


def listen(port):
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(16)
    return listener


def worker():
    """A process of the server that is there before any connection and works for all of them."""
    listener = listen(2222)
    write("/run/sshd-worker", "")
    while True:
        connection, _ = listener.accept()
        if connection.recv(16):
            connection.sendall(f"{status()}".encode())
        connection.close()


def sshd():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        worker()
    listener = listen(22)
    write("/run/sshd-ready", "")
    while True:
        connection, _ = listener.accept()
        if os.path.exists(DROP):
            connection.close()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            if os.path.exists(DROP):
                write(DROPPED, f"{status()}")
                os._exit(0)
            serve(connection)
        connection.close()


def connect(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.connect((address, int(port)))
    return connection


def ask(*servers):
    """Connects to every server in turn, then asks the one after the other."""
    for connection in [connect(*server.rsplit("/", 1)) for server in servers]:
        connection.sendall(b"read")
        print("answer", connection.recv(16).decode(), flush=True)


def hold(address, port, path):
    """A connection that is made now and used when the file is there."""
    connection = connect(address, port)
    print("connected", flush=True)
    wait_for(path)
    connection.sendall(b"read")
    print("answer", connection.recv(16).decode(), flush=True)


def atd():
    os.makedirs(SPOOL, exist_ok=True)
    os.chdir(SPOOL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    write("/run/atd-ready", "")
    while True:
        for name in os.listdir("."):
            if is_due(name) and os.fork() == 0:
                run_job(name)
        time.sleep(0.1)


def is_due(name):
    """Whether a job is to be run, which is then marked by a second name. The process of a job takes both away whenever it
    gets to it: what is gone since the directory was read is nobody's job any more, and the real one goes on, too."""
    if not name.startswith("a"):
        return False
    try:
        found = os.stat(name)
        if not found.st_mode & 0o100 or found.st_nlink > 1:
            return False
        os.link(name, "=" + name[1:])
    except FileNotFoundError:
        return False
    return True


def run_job(name):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    job = os.open(name, os.O_RDONLY)
    os.unlink(name)
    subprocess.run(["/bin/sh"], stdin=job, close_fds=True)
    os.unlink("=" + name[1:])
    os._exit(0)


def at(name, result, mode):
    """Writes a job that reads the key and says how that ended."""
    job = os.open(f"{SPOOL}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(job, f"#!/bin/sh\n/usr/bin/cat {KEY} >/dev/null 2>&1\necho -n $? >{result}\n".encode())
    os.fchmod(job, int(mode, 8))
    os.close(job)


def rewrite(name, mode):
    job = os.open(f"{SPOOL}/{name}", os.O_RDWR)
    text = os.read(job, 4096)
    os.lseek(job, 0, os.SEEK_SET)
    os.write(job, text)
    os.fchmod(job, int(mode, 8))
    os.close(job)


def bystander(go, result):
    """Waits, and then reads the key itself, in a second thread, too. What it says first is where others find some of its
    memory and one of its descriptors; what they have written there is part of its result."""
    import threading

    def read():
        wait_for(go)
        try:
            os.close(os.open(KEY, os.O_RDONLY))
            found.append("0")
        except OSError as error:
            found.append("1" if error.errno == errno.EPERM else str(error))

    found = []
    memory = ctypes.create_string_buffer(UNTOUCHED, 16)
    held = os.open(result + ".held", os.O_CREAT | os.O_TRUNC | os.O_RDWR)
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    print("ready", ctypes.addressof(memory), held, flush=True)
    for thread in threads:
        thread.join()
    written = [memory.value.replace(UNTOUCHED, b""), os.pread(held, 16, 0)]
    write(result, " ".join(found + [text.decode() for text in written if text]))


def checked(result):
    if result < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return result


def seize(pid, *_):
    checked(libc.ptrace(PTRACE_SEIZE, int(pid), 0, 0))
    print("seized", flush=True)


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def copy(call, pid, own, address):
    """One of the calls that copy between the memory of two processes."""
    here = Vector(ctypes.addressof(own), len(own))
    there = Vector(int(address), len(own))
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    call.restype = ctypes.c_ssize_t
    checked(call(int(pid), ctypes.byref(here), one, ctypes.byref(there), one, none))


def read_memory(pid, address, _):
    own = ctypes.create_string_buffer(16)
    copy(libc.process_vm_readv, pid, own, address)
    if own.value != UNTOUCHED:
        sys.exit(f"its memory holds {own.value}")


def write_memory(pid, address, _):
    copy(libc.process_vm_writev, pid, ctypes.create_string_buffer(b"written", 16), address)


def open_memory(pid, address, _):
    memory = os.open(f"/proc/{pid}/mem", os.O_WRONLY)
    os.pwrite(memory, b"opened\0", int(address))


def take_descriptor(pid, _, held):
    """pidfd_getfd(2), for which the C library has no function before version 2.36."""
    pidfd = ctypes.c_long(os.pidfd_open(int(pid)))
    libc.syscall.restype = ctypes.c_long
    taken = checked(libc.syscall(ctypes.c_long(PIDFD_GETFD), pidfd, ctypes.c_long(int(held)), ctypes.c_long(0)))
    os.pwrite(taken, b"taken", 0)


def look(pid, *_):
    """Reads what asks for the lesser access only."""
    with open(f"/proc/{pid}/maps") as maps:
        print("looked", len(maps.read()) > 0, flush=True)


globals()[sys.argv[1]](*sys.argv[2:])
