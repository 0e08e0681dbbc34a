"""Many clients of one address: some wait on a port for a server that says
nothing, some write to it every 200 ms and wait for the echo, some have an SMB
session and are idle. When a file appears, ten seconds more. Prints as JSON when
the idle ones were told that their connection is gone, in seconds since 1970,
and the longest time in seconds that each writer was without an echo.

In life clients have machines of their own: these go before the cluster's
processes when it comes to a processor."""
import json, os, select, socket, sys, time
from samba import credentials
from samba.samba3 import libsmb_samba_internal as libsmb, param

EVERY, SLOTS, PATIENCE, LAST = 0.2, 10, 10, 10

stop, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
idle_count, writer_count, session_count = map(int, sys.argv[4:7])
poll = select.epoll()
told = {"idle": [], "sessions": []}
idle, writers = {}, {}


def connect_sessions():
    """libsmb keeps its sockets to itself; they are found among the descriptors."""
    loadparm, nobody = param.get_context(), credentials.Credentials()
    loadparm.load("/etc/samba/smb.conf")
    nobody.set_anonymous()
    known, sessions = set(), []
    for _ in range(session_count):
        sessions.append(libsmb.Conn(address, "share", lp=loadparm, creds=nobody))
        for name in os.listdir("/proc/self/fd"):
            try:
                link = os.readlink("/proc/self/fd/" + name)
            except FileNotFoundError:
                continue
            if link.startswith("socket:") and link not in known:
                known.add(link)
                watch("sessions", socket.socket(fileno=os.dup(int(name))))
    return sessions


def watch(kind, client):
    idle[client.fileno()] = kind, client
    poll.register(client, select.EPOLLIN)


class Writer:
    def __init__(self):
        self.heard, self.longest = time.time(), 0.0
        self.connect()

    def connect(self):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.begun, self.connecting, self.waits = time.time(), True, False
        self.socket.connect_ex((address, port))
        writers[self.socket.fileno()] = self
        poll.register(self.socket, select.EPOLLIN | select.EPOLLOUT)

    def close(self):
        poll.unregister(self.socket)
        del writers[self.socket.fileno()]
        self.socket.close()
        self.socket = None

    def write(self):
        if self.socket is None:
            self.connect()
        elif self.connecting:
            if time.time() - self.begun > PATIENCE:
                self.close()
        elif not self.waits:
            try:
                self.waits = self.socket.send(b"x") == 1
            except OSError:
                self.again()

    def again(self):
        self.close()
        self.connect()

    def ready(self):
        if self.connecting:
            # One that was refused waits for its next turn.
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self.close()
            self.connecting = False
            poll.modify(self.socket, select.EPOLLIN)
            return self.write()
        try:
            alive = self.socket.recv(4096)
        except OSError:
            alive = False
        if not alive:
            return self.again()
        self.waits = False
        self.hear()

    def hear(self):
        now = time.time()
        self.longest, self.heard = max(self.longest, now - self.heard), now


sessions = connect_sessions()
for _ in range(idle_count):
    watch("idle", socket.create_connection((address, port), timeout=10))
crowd = [Writer() for _ in range(writer_count)]
os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
slot, tick, end = 0, time.monotonic(), None
ready = time.monotonic() + 1
while end is None or time.monotonic() < end:
    if ready and time.monotonic() > ready:
        ready = None
        for writer in crowd:
            writer.longest = 0.0
        open(stop + ".ready", "w").close()
    for descriptor, _ in poll.poll(max(0.0, tick - time.monotonic())):
        if descriptor in writers:
            writers[descriptor].ready()
        elif descriptor in idle:
            kind, client = idle.pop(descriptor)
            told[kind].append(time.time())
            poll.unregister(client)
            client.close()
    if time.monotonic() >= tick:
        for writer in crowd[slot::SLOTS]:
            writer.write()
        slot, tick = (slot + 1) % SLOTS, tick + EVERY / SLOTS
        if end is None and os.path.exists(stop):
            end = time.monotonic() + LAST
        if end and not idle:
            end = time.monotonic()
for writer in crowd:
    writer.hear()
print(json.dumps({**told, "gaps": [writer.longest for writer in crowd]}))
# Nobody answers the good-byes of SMB sessions whose server is gone.
sys.stdout.flush()
os._exit(0)
