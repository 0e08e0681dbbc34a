"""Sixteen sessions through all addresses, which lock, open and rename the same
files until another file appears. All are threads of one process, so that it is
known who holds what, and which write was acknowledged. Prints a JSON object."""
import collections, itertools, json, random, sys

stop, addresses = sys.argv[1], sys.argv[2:]
SESSIONS, FILES, RECORD, ALL = 16, 3, 32, 1 << 20
# Gluster waits for a dead server until it is told that it is dead.
PATIENCE = 40
EVERY = SHARE_READ | SHARE_WRITE | SHARE_DELETE


class Judge:
    """What has been promised to whom, and what was not kept."""

    def __init__(self):
        self.mutex = threading.Lock()
        self.holder = {}
        self.records = collections.defaultdict(dict)
        self.names = {k: {0} for k in range(FILES)}
        self.rounds, self.refused = collections.Counter(), collections.Counter()
        self.lost, self.broken = 0, []
        self.last, self.gap = time.monotonic(), 0.0

    def granted(self, name, who):
        with self.mutex:
            self.holder[name] = who

    def may(self, name, who, what):
        """Whoever held the file before must not have succeeded since."""
        with self.mutex:
            if self.holder.get(name) is not who:
                self.broken.append("%s: %s while another session had it" % (name, what))

    def released(self, name, who):
        self.may(name, who, "held")
        with self.mutex:
            self.holder[name] = None

    def found(self, name, count):
        with self.mutex:
            acknowledged = max(self.records[name], default=-1) + 1
            if count < acknowledged:
                self.broken.append("%s: has %d records of %d" % (name, count, acknowledged))

    def acknowledged(self, name, slot, record):
        with self.mutex:
            if slot in self.records[name]:
                self.broken.append("%s: record %d was given twice" % (name, slot))
            self.records[name][slot] = record

    def done(self, kind, address):
        with self.mutex:
            now = time.monotonic()
            self.gap, self.last = max(self.gap, now - self.last), now
            self.rounds[kind] += 1
            self.rounds[address] += 1


def append(session, judge, name, who, handle):
    """A record more, and their number at the beginning."""
    count = int(session.read(handle, 0, RECORD).strip(b"\0") or b"0")
    judge.found(name, count)
    record = ("%-31s\n" % who).encode()
    session.write(handle, RECORD * (count + 1), record)
    session.write(handle, 0, b"%-31d\n" % (count + 1))
    session.flush(handle)
    judge.may(name, who, "wrote")
    judge.acknowledged(name, count, record)


def lock(session, judge, k, who):
    """A byte range lock is held by one."""
    name = "locks-%d" % k
    handle = session.open(name, READ_DATA | WRITE_DATA, EVERY)
    try:
        session.lock(handle, 0, ALL)
        judge.granted(name, who)
        append(session, judge, name, who, handle)
        judge.released(name, who)
        session.unlock(handle, 0, ALL)
    finally:
        session.close(handle)


def alone(session, judge, k, who):
    """Who opens a file for itself alone has it alone."""
    name = "alone-%d" % k
    handle = session.open(name, READ_DATA | WRITE_DATA, 0)
    try:
        judge.granted(name, who)
        append(session, judge, name, who, handle)
        judge.released(name, who)
    finally:
        session.close(handle)


def rename(session, judge, k, who):
    """A file has one name, and everybody finds it by that. smbd opens a file before
    it asks who else has it: renamed by another in between, it is had by a name that
    it has no more. Then the rename is refused, and nothing was promised."""
    kind = "names-%d" % k
    with judge.mutex:
        names = sorted(judge.names[k])
    for name in names:
        try:
            handle = session.open("%s-%d" % (kind, name), READ_DATA | DELETE, 0, OPEN)
        except Refused as refused:
            if refused.status != NAME_NOT_FOUND:
                raise
            continue
        try:
            judge.granted(kind, who)
            with judge.mutex:
                before = judge.names[k]
                judge.names[k] = before | {name, name + 1}
            try:
                session.rename(handle, "%s-%d" % (kind, name + 1))
            except Refused as refused:
                if refused.status in (NAME_NOT_FOUND, NAME_COLLISION):
                    with judge.mutex:
                        judge.names[k] = before
                raise
            judge.may(kind, who, "renamed")
            with judge.mutex:
                judge.names[k] = {name + 1}
            judge.released(kind, who)
        finally:
            session.close(handle)
        return
    with judge.mutex:
        moved = sorted(judge.names[k]) != names or judge.holder.get(kind) is not None
        if not moved:
            judge.broken.append("%s: has none of the names %s" % (kind, names))


def client(number, address, judge, ready):
    session = None
    for turn in itertools.count():
        if os.path.exists(stop):
            return
        kind = (lock, alone, rename)[(number + turn) % 3]
        try:
            if session is None:
                session = Session(address, PATIENCE)
                ready.release()
            kind(session, judge, random.randrange(FILES), "%s/%d/%d" % (address, number, turn))
            judge.done(kind.__name__, address)
        except Refused as refused:
            if refused.status not in (SHARING_VIOLATION, LOCK_NOT_GRANTED):
                judge.refused["%s %#010x" % (kind.__name__, refused.status)] += 1
        except Lost:
            session, judge.lost = None, judge.lost + 1
        time.sleep(0.01)


def leases():
    """What one session has cached is there before another one opens the file,
    wherever it does."""
    for here, there in itertools.permutations(addresses, 2):
        one, other = Session(here, PATIENCE), Session(there, PATIENCE)
        name = "lease-%s" % os.urandom(4).hex()
        handle, key, granted = one.open(name, READ_DATA | WRITE_DATA, EVERY, lease=R | H | W)
        assert granted == R | H | W, "%s granted the lease %d" % (here, granted)
        seen = []

        def open_it():
            theirs = other.open(name, READ_DATA | WRITE_DATA, EVERY)
            seen.append(other.read(theirs, 0, 100))

        thread = threading.Thread(target=open_it)
        thread.start()
        broken, left = one.broken()
        assert broken == key and not left & W, "%s broke the lease to %d" % (here, left)
        assert not seen, "%s did not wait for the lease's break" % there
        one.write(handle, 0, b"cached")
        one.yield_lease(key, left)
        thread.join()
        assert seen == [b"cached"], "through %s: %s" % (there, seen)


def verify(judge):
    """What was acknowledged is there, through every address."""
    for address in addresses:
        session = Session(address, PATIENCE)
        for name, records in judge.records.items():
            handle = session.open(name, READ_DATA, EVERY, OPEN)
            for slot, record in records.items():
                found = session.read(handle, RECORD * (slot + 1), RECORD)
                if found != record:
                    judge.broken.append("%s: record %d is %s, not %s, through %s" % (
                        name, slot, found, record, address))
            session.close(handle)
        for k, names in judge.names.items():
            there = []
            for name in range(max(0, min(names) - 5), max(names) + 2):
                try:
                    session.close(session.open("names-%d-%d" % (k, name), READ_DATA, EVERY, OPEN))
                    there.append(name)
                except Refused:
                    pass
            if len(there) != 1 or there[0] not in names:
                judge.broken.append("names-%d: is %s, not %s, through %s" % (
                    k, there, names, address))


judge, ready = Judge(), threading.Semaphore(0)
leases()
first = Session(addresses[0], PATIENCE)
for k in range(FILES):
    first.close(first.open("names-%d-0" % k, READ_DATA | WRITE_DATA, EVERY, CREATE_NEW))
clients = [
    threading.Thread(target=client, args=(n, addresses[n % len(addresses)], judge, ready))
    for n in range(SESSIONS)]
for each in clients:
    each.start()
for each in clients:
    ready.acquire()
judge.last = time.monotonic()
open(stop + ".ready", "w").close()
for each in clients:
    each.join()
verify(judge)
leases()
print(json.dumps({
    "rounds": judge.rounds, "refused": judge.refused, "lost": judge.lost,
    "gap": round(judge.gap, 1), "records": sum(map(len, judge.records.values())),
    "broken": judge.broken[:20]}))
