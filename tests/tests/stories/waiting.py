"""Connects many times to a port of an address and waits for whatever the server
says, which is nothing. When a file appears, gives the server ten seconds more,
and prints when each connection that broke did, in seconds since 1970."""
import os, select, socket, sys, time

# What counts is when a connection breaks, and not when a busy machine gets round
# to noticing it.
os.nice(-15)
stop, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
poll = select.poll()
clients = {}
for _ in range(count):
    client = socket.create_connection((address, port), timeout=5)
    clients[client.fileno()] = client
    poll.register(client, select.POLLIN)
open(stop + ".ready", "w").close()
broken, end = [], None
while clients and (end is None or time.monotonic() < end):
    if end is None and os.path.exists(stop):
        end = time.monotonic() + 10
    for descriptor, _ in poll.poll(100):
        try:
            clients[descriptor].recv(1)
        except ConnectionError:
            broken.append(time.time())
        poll.unregister(descriptor)
        clients.pop(descriptor).close()
for moment in broken:
    print(moment)
