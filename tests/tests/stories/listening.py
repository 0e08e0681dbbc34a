"""Listens on a port of every address and keeps what connects, until a file
appears. Prints when each of the other arguments, addresses, first arrived on
this machine, in seconds since 1970."""
import os, select, socket, struct, sys, time

RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTM_NEWADDR = 0x10, 0x100, 20

stop, port = sys.argv[1], int(sys.argv[2])
family = lambda address: socket.AF_INET6 if ":" in address else socket.AF_INET
awaited = {socket.inet_pton(family(address), address): address for address in sys.argv[3:]}
server = socket.create_server(
    ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
)
news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
news.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
open(stop + ".ready", "w").close()
kept = []
while not os.path.exists(stop):
    ready, _, _ = select.select([server, news], [], [], 0.1)
    if news in ready:
        message, now = news.recv(65536), time.time()
        for octets in list(awaited):
            if struct.unpack_from("=H", message, 4)[0] == RTM_NEWADDR and octets in message:
                print(awaited.pop(octets), now)
    if server in ready:
        kept.append(server.accept())
