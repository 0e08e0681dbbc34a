"""Echoes what it is sent on a port of every address, until a file appears.
Prints as JSON when an address arrived on this machine, in seconds since 1970."""
import json, os, select, socket, struct, sys, time

RTMGRP_IPV4_IFADDR, RTM_NEWADDR = 0x10, 20

stop, port, awaited = sys.argv[1], int(sys.argv[2]), socket.inet_aton(sys.argv[3])
server = socket.create_server(("", port), backlog=1024)
server.setblocking(False)
news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
news.bind((0, RTMGRP_IPV4_IFADDR))
poll = select.epoll()
for door in server, news:
    poll.register(door, select.EPOLLIN)
open(stop + ".ready", "w").close()
clients, arrivals = {}, []
while not os.path.exists(stop):
    for descriptor, _ in poll.poll(0.5):
        if descriptor == server.fileno():
            client, _ = server.accept()
            client.setblocking(False)
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
        elif descriptor == news.fileno():
            message, now = news.recv(65536), time.time()
            if struct.unpack_from("=H", message, 4)[0] == RTM_NEWADDR and awaited in message:
                arrivals.append(now)
        else:
            client = clients[descriptor]
            try:
                said = client.recv(4096)
                if said:
                    client.send(said)
            except OSError:
                said = b""
            if not said:
                poll.unregister(descriptor)
                clients.pop(descriptor).close()
print(json.dumps(arrivals))
