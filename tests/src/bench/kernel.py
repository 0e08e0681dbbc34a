"""Writes to a file with fsync every 200 ms until a file appears. Prints as JSON
the longest time in seconds between two writes that were on disk, and how many
failed."""
import json, os, sys, time

stop, name = sys.argv[1:3]
descriptor, failed, last, longest = None, 0, None, 0.0
while not os.path.exists(stop):
    try:
        if descriptor is None:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT)
        os.pwrite(descriptor, b"x" * 4096, 0)
        os.fsync(descriptor)
    except OSError:
        failed += 1
        try:
            descriptor is None or os.close(descriptor)
        except OSError:
            pass
        descriptor = None
    else:
        now = time.monotonic()
        if last is None:
            open(stop + ".ready", "w").close()
        else:
            longest = max(longest, now - last)
        last = now
    time.sleep(0.2)
longest = max(longest, time.monotonic() - last)
print(json.dumps({"gap_s": longest, "failed": failed}))
