"""Executes what is asked for on standard input, a case a line, and prints what came of it."""
import ctypes, os, shutil, stat, subprocess, sys, threading, time

# Both have the same size: the first ends with 0 and must not run, the second ends with 1.
DENIED, HARMLESS = '/usr/local/lib/denied', '/usr/local/lib/harmless'
WORK = '/home/dev/work'
LOADER = '/lib64/ld-linux-x86-64.so.2'
number = 0

def place(directory=WORK):
    global number
    number += 1
    return f'{directory}/program-{number}'

def copy(content, directory=WORK):
    path = place(directory)
    shutil.copy(content, path)
    os.chmod(path, 0o755)
    return path

def outcome(words, **more):
    """`denied-ran`, `ran`, `refused`, or what else it was."""
    try:
        ended = subprocess.run(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    except PermissionError as error:
        return 'refused' if error.errno == 1 else f'errno {error.errno}'
    except OSError as error:
        return f'errno {error.errno}'
    if b'Operation not permitted' in ended.stderr or b'failed to map segment' in ended.stderr:
        return 'refused'
    return {0: 'denied-ran', 1: 'ran'}.get(ended.returncode, f'status {ended.returncode} {ended.stderr}')

def in_the_end(attempt):
    """What the last of many attempts comes to; they end with one that is not refused."""
    last = 'refused'
    for count in range(100):
        last = attempt()
        if last != 'refused':
            return 'at-once' if last == 'ran' and count == 0 else 'later' if last == 'ran' else last
        time.sleep(0.2)
    return last

def renamed():
    path, other = copy(DENIED), place()
    os.rename(path, other)
    return outcome([other])

def linked(link):
    path, other = copy(DENIED), place()
    link(path, other)
    return outcome([other])

def mounted(content):
    directory = place('/tmp')
    os.mkdir(directory)
    subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', directory], check=True)
    time.sleep(2)
    return outcome([copy(content, directory)])

def private(content, attempts):
    directory = place('/tmp')
    os.mkdir(directory)
    script = f'mount -t tmpfs tmpfs {directory} && cp {content} {directory}/x && '
    once = f'i=0; while [ $i -lt {attempts} ]; do {directory}/x 2>/dev/null; s=$?; [ $s = 126 ] || exit $s; i=$((i + 1)); sleep 0.2; done; echo Operation not permitted >&2'
    return outcome(['unshare', '-m', 'bash', '-c', script + once])

def memory(content):
    descriptor = os.memfd_create('program')
    os.write(descriptor, open(content, 'rb').read())
    return outcome([f'/proc/self/fd/{descriptor}'], pass_fds=[descriptor])

def by_descriptor(content):
    descriptor = os.open(copy(content), os.O_RDONLY)
    child = os.fork()
    if child == 0:
        try:
            os.execve(descriptor, ['x'], os.environ)
        except OSError as error:
            os._exit(100 + error.errno)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: 'denied-ran', 1: 'ran', 101: 'refused'}.get(status, f'status {status}')

def script(interpreter):
    path = place()
    open(path, 'w').write(f'#!{interpreter}\n')
    os.chmod(path, 0o755)
    return outcome([path])

def fresh():
    """A program that was written a moment ago, as by a compiler, again and again."""
    for count in range(20):
        path = place()
        with open(path, 'wb') as file:
            file.write(open(HARMLESS, 'rb').read() + b'%d' % count)
        os.chmod(path, 0o755)
        found = outcome([path])
        if found != 'ran':
            return f'{found}, number {count}'
    return 'ran'

def raced(swap):
    """Executes a file for some seconds while another thread changes what it is."""
    path, over = copy(HARMLESS), threading.Event()
    contents = [open(which, 'rb').read() for which in (DENIED, HARMLESS)]
    def change():
        while not over.is_set():
            for content in contents:
                swap(path, content)
    thread = threading.Thread(target=change)
    thread.start()
    found, end = {}, time.monotonic() + 15
    while time.monotonic() < end:
        came = outcome([path])
        found[came] = found.get(came, 0) + 1
    over.set()
    thread.join()
    print(f'# {found}', file=sys.stderr, flush=True)
    return 'denied-ran' if 'denied-ran' in found else 'never'

def by_rename(path, content):
    with open(path + '.new', 'wb') as file:
        file.write(content)
    os.chmod(path + '.new', 0o755)
    os.rename(path + '.new', path)

def in_place(path, content):
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError:
        return
    os.pwrite(descriptor, content, 0)
    os.close(descriptor)

def by_mapping(path, content):
    import mmap
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return
    with mmap.mmap(descriptor, len(content)) as mapping:
        mapping[:] = content
    os.close(descriptor)

def in_tmpfs(race):
    global WORK
    directory, before = place('/tmp'), WORK
    os.mkdir(directory)
    subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', directory], check=True)
    time.sleep(2)
    WORK = directory
    try:
        return race()
    finally:
        WORK = before

def written_by_mapping():
    """Known, then written to by a mapping, which moves no time on tmpfs."""
    def attempt():
        path = copy(HARMLESS, WORK)
        first = outcome([path])
        by_mapping(path, open(DENIED, 'rb').read())
        return f'{first}, then {outcome([path])}'
    return in_tmpfs(attempt)

known = copy(HARMLESS)
cases = {
    'copy': lambda: outcome([copy(DENIED)]),
    'copy-again': lambda: outcome([copy(DENIED)]),
    'rename': renamed,
    'hard-link': lambda: linked(os.link),
    'symlink': lambda: linked(os.symlink),
    'late-tmpfs': lambda: mounted(DENIED),
    'private-tmpfs': lambda: private(DENIED, 1),
    'memfd': lambda: memory(DENIED),
    'memfd-harmless': lambda: memory(HARMLESS),
    'descriptor': lambda: by_descriptor(DENIED),
    'interpreter': lambda: script(copy(DENIED)),
    'loader': lambda: outcome([LOADER, copy(DENIED)]),
    'harmless': lambda: outcome([copy(HARMLESS)]),
    'harmless-descriptor': lambda: by_descriptor(HARMLESS),
    'harmless-interpreter': lambda: script(copy(HARMLESS)),
    'harmless-private-tmpfs': lambda: private(HARMLESS, 100),
    'harmless-loader': lambda: (lambda path: in_the_end(lambda: outcome([LOADER, path])))(copy(HARMLESS)),
    'fresh': fresh,
    'race-rename': lambda: raced(by_rename),
    'race-in-place': lambda: raced(in_place),
    'race-mapping': lambda: in_tmpfs(lambda: raced(by_mapping)),
    'written-by-mapping': written_by_mapping,
    'known': lambda: outcome([known]),
}
print('ready', flush=True)
for line in sys.stdin:
    name = line.strip()
    try:
        came = cases[name]()
    except Exception as error:
        came = f'{type(error).__name__}: {error}'
    print(f'{name} {came}'.replace('\n', ' '), flush=True)
