"""Connects to a port of an address and writes to it all the time, whether anybody
listens or not, until a file appears."""
import os, socket, sys, time

stop, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
server = socket.create_connection((address, port), timeout=5)
open(stop + ".ready", "w").close()
while not os.path.exists(stop):
    server.send(b"x")
    time.sleep(0.01)
