"""Every 100 ms a new connection to a port of an address, to be answered there,
and a new SMB session that writes a file, until a file appears. The latest
success of each is in a file beside it. Prints as JSON when each success began
and ended, in seconds since 1970."""
import json, os, select, signal, socket, sys, time
from samba import credentials
from samba.samba3 import libsmb_samba_internal as libsmb, param

EVERY, PATIENCE, FILES = 0.1, 10, 128

stop, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
loadparm, nobody = param.get_context(), credentials.Credentials()
loadparm.load("/etc/samba/smb.conf")
nobody.set_anonymous()
poll = select.epoll()
done = {"tcp": [], "smb": []}
sockets, children = {}, {}


def connect():
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex((address, port))
    sockets[client.fileno()] = [client, time.time(), False]
    poll.register(client, select.EPOLLIN | select.EPOLLOUT)


def progress(descriptor):
    client, begun, asked = sockets[descriptor]
    try:
        if not asked:
            client.send(b"x")
            sockets[descriptor][2] = True
            poll.modify(client, select.EPOLLIN)
            return
        if client.recv(1):
            succeeded("tcp", begun)
    except OSError:
        pass
    forget(descriptor)


def forget(descriptor):
    client = sockets.pop(descriptor)[0]
    poll.unregister(client)
    client.close()


def write(number):
    begun, child = time.time(), os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(PATIENCE)
            connection = libsmb.Conn(address, "share", lp=loadparm, creds=nobody)
            connection.savefile(f"fresh-{number % FILES}.dat", b"%d" % number)
            status = 0
        finally:
            os._exit(status)
    ended = os.pidfd_open(child)
    children[ended] = child, begun
    poll.register(ended, select.EPOLLIN)


def reap(descriptor):
    child, begun = children.pop(descriptor)
    poll.unregister(descriptor)
    os.close(descriptor)
    if os.waitpid(child, 0)[1] == 0:
        succeeded("smb", begun)


def succeeded(kind, begun):
    done[kind].append((begun, time.time()))
    with open(stop + ".new", "w") as latest:
        json.dump({kind: times[-1] for kind, times in done.items() if times}, latest)
    os.rename(stop + ".new", stop + ".latest")


# As in crowd.py; the children, which wait for the cluster, need not.
os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
number, tick = 0, time.monotonic()
while not os.path.exists(stop):
    for descriptor, _ in poll.poll(max(0.0, tick - time.monotonic())):
        if descriptor in sockets:
            progress(descriptor)
        else:
            reap(descriptor)
    if time.monotonic() >= tick:
        connect()
        write(number)
        number, tick = number + 1, tick + EVERY
        for descriptor in [d for d, (_, begun, _) in sockets.items() if time.time() - begun > PATIENCE]:
            forget(descriptor)
        if all(done.values()) and not os.path.exists(stop + ".ready"):
            open(stop + ".ready", "w").close()
for child, _ in children.values():
    os.kill(child, signal.SIGKILL)
print(json.dumps(done))
