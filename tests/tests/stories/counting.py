"""Several processes that keep a file open and, by turns under a lock, add one to
the number in it, and others that look at the file all the time, as a server
does; until another file appears. Prints how many turns there were."""
import fcntl, os, sys

stop, path, flush = sys.argv[1], sys.argv[2], sys.argv[3] == "flush"
COUNTING, LOOKING = 4, 2


def count():
    file, turns = os.open(path, os.O_RDWR), 0
    while not os.path.exists(stop):
        fcntl.lockf(file, fcntl.LOCK_EX)
        number = int(os.pread(file, 32, 0).strip(b"\n") or b"0")
        assert os.pwrite(file, b"%-31d\n" % (number + 1), 0) == 32
        turns += 1
        if flush:
            os.fsync(file)
        fcntl.lockf(file, fcntl.LOCK_UN)
    return turns


def look():
    file = os.open(path, os.O_RDONLY)
    while not os.path.exists(stop):
        os.fstat(file)
        os.stat(path)
    return 0


children = []
for work in [count] * COUNTING + [look] * LOOKING:
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(there, b"%d" % work())
            status = 0
        finally:
            os._exit(status)
    os.close(there)
    children.append((child, here))
open(stop + ".ready", "w").close()
turns = 0
for child, here in children:
    assert os.waitpid(child, 0)[1] == 0, "a process failed"
    turns += int(os.read(here, 100))
print(turns)
