"""Connects many times to port 445 of an address and waits for whatever the
server says, which is nothing. When a file appears, gives the server ten seconds
more, and prints how many connections were reset."""
import os, select, socket, sys, time

stop, address, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
poll = select.poll()
clients = {}
for _ in range(count):
    client = socket.create_connection((address, 445), timeout=5)
    clients[client.fileno()] = client
    poll.register(client, select.POLLIN)
open(stop + ".ready", "w").close()
resets, end = 0, None
while clients and (end is None or time.monotonic() < end):
    if end is None and os.path.exists(stop):
        end = time.monotonic() + 10
    for descriptor, _ in poll.poll(100):
        try:
            clients[descriptor].recv(1)
        except ConnectionResetError:
            resets += 1
        poll.unregister(descriptor)
        clients.pop(descriptor).close()
print(resets)
