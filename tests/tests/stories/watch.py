"""Connects to port 445 of every address again and again, until a file appears.
Prints for each address the longest time in seconds between two connections."""
import os, socket, sys, threading, time

stop, addresses = sys.argv[1], sys.argv[2:]
longest = {}


def watch(address):
    last, worst = time.monotonic(), 0.0
    while not os.path.exists(stop):
        begun = time.monotonic()
        try:
            socket.create_connection((address, 445), timeout=0.25).close()
            worst, last = max(worst, time.monotonic() - last), time.monotonic()
        except OSError:
            pass
        time.sleep(max(0.0, 0.05 - (time.monotonic() - begun)))
    longest[address] = max(worst, time.monotonic() - last)


threads = [threading.Thread(target=watch, args=[address]) for address in addresses]
open(stop + ".ready", "w").close()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for address in addresses:
    print(address, round(longest[address], 3))
