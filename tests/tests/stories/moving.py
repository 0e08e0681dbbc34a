"""Keeps connections to a port of an address, each from a port of its own that it
uses again and again. The first tells the server something every 10 ms; the rest
are silent. One that is reset is made again, at once and in one attempt. When a
file appears, all ask who answers them, and one line is printed for each: the
longest time in seconds without an answer, for the first; how long the slowest
connection took; who answers."""
import os, select, socket, struct, sys, time
from concurrent.futures import ThreadPoolExecutor

stop, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
PORTS = 20000


def connect(number):
    client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Closed by a reset: nothing is left behind that would keep the port.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.settimeout(10)
    client.bind(("", PORTS + number))
    client.connect((address, port))
    return client


def ask(client):
    client.sendall(b"?")
    return client.recv(64).decode() or sys.exit("the server has closed the connection")


def keep(number, client):
    silence = took = 0.0
    answered = time.monotonic()
    while not os.path.exists(stop):
        try:
            if number == 0:
                ask(client)
                silence = max(silence, time.monotonic() - answered)
                answered = time.monotonic()
                time.sleep(0.01)
            elif select.select([client], [], [], 0.1)[0]:
                client.recv(64) or sys.exit("the server has closed a connection")
        except ConnectionResetError:
            client.close()
            begun = time.monotonic()
            client = connect(number)
            took = max(took, time.monotonic() - begun)
    name = ask(client)
    client.close()
    return f"{silence} {took} {name}"


clients = [connect(number) for number in range(count)]
with ThreadPoolExecutor(count) as pool:
    results = pool.map(keep, range(count), clients)
    open(stop + ".ready", "w").close()
    for result in results:
        print(result)
