"""A client of SMB 2.1 that shows what the libraries hide: share modes, byte
range locks, leases and their breaks, and which answer never came. As nobody,
on the share `share`. Sources: [MS-SMB2], [MS-NLMP]."""
import os, socket, struct, threading, time

PENDING, MORE = 0x00000103, 0xC0000016
SHARING_VIOLATION, LOCK_NOT_GRANTED = 0xC0000043, 0xC0000055
NAME_NOT_FOUND, NAME_COLLISION, FILE_CLOSED = 0xC0000034, 0xC0000035, 0xC0000128
NEGOTIATE, SETUP, TREE, CREATE, CLOSE, FLUSH, READ, WRITE, LOCK, BREAK, SETINFO = \
    0, 1, 3, 5, 6, 7, 8, 9, 10, 18, 17
READ_DATA, WRITE_DATA, DELETE = 0x1, 0x2, 0x10000
SHARE_READ, SHARE_WRITE, SHARE_DELETE = 1, 2, 4
OPEN, CREATE_NEW, OPEN_IF = 1, 2, 3
R, H, W = 1, 2, 4


class Refused(Exception):
    """The server said no."""

    def __init__(self, status):
        super().__init__("%#010x" % status)
        self.status = status


class Lost(Exception):
    """The connection is gone; whether the request was carried out is unknown."""


class Session:
    def __init__(self, address, patience):
        self.number = self.session = self.tree = 0
        self.breaks = []
        self.guid = os.urandom(16)
        try:
            self.socket = socket.create_connection((address, 445), patience)
            self.socket.settimeout(patience)
            self.set_up(address)
        except (OSError, Refused) as error:
            raise Lost("connecting to %s: %s" % (address, error))

    def set_up(self, address):
        body = struct.pack("<HHHHI16sQH", 36, 1, 1, 0, 0, self.guid, 0, 0x0210)
        self.call(NEGOTIATE, body)
        blob = b"NTLMSSP\0" + struct.pack("<II16x", 1, 0x20088205)
        self.authenticate(blob, MORE)
        # Nobody's answer to the challenge is one zero byte.
        head, empty = 64, lambda at: struct.pack("<HHI", 0, 0, at)
        blob = b"NTLMSSP\0" + struct.pack("<I", 3) + struct.pack("<HHI", 1, 1, head)
        blob += empty(head + 1) * 5 + struct.pack("<I", 0x20088A05) + b"\0"
        self.authenticate(blob, 0)
        path = ("\\\\%s\\share" % address).encode("utf-16le")
        self.call(TREE, struct.pack("<HHHH", 9, 0, 72, len(path)) + path)

    def authenticate(self, blob, expected):
        body = struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 88, len(blob), 0)
        self.call(SETUP, body + blob, expected)

    def send(self, command, body):
        header = b"\xfeSMB" + struct.pack(
            "<HHIHHIIQIIQ16x", 64, 1, 0, command, 64, 0, 0, self.number, 0, self.tree, self.session)
        self.number += 1
        try:
            self.socket.sendall(struct.pack(">I", len(header + body)) + header + body)
        except OSError as error:
            raise Lost(error)
        return self.number - 1

    def receive(self):
        try:
            frame = b""
            while len(frame) < 4 or len(frame) < 4 + struct.unpack(">I", frame[:4])[0]:
                want = 4 if len(frame) < 4 else 4 + struct.unpack(">I", frame[:4])[0]
                piece = self.socket.recv(want - len(frame))
                if not piece:
                    raise Lost("closed by the server")
                frame += piece
        except OSError as error:
            raise Lost(error)
        return frame[4:]

    def answer(self, number, expected=0):
        while True:
            message = self.receive()
            status, command = struct.unpack("<IH", message[8:14])
            answered, _, tree, session = struct.unpack("<QIIQ", message[24:48])
            if answered == 0xFFFFFFFFFFFFFFFF:
                # A lease's break: its key, and what is left of it.
                self.breaks.append(message[64 + 8:64 + 32])
                continue
            if answered != number or status == PENDING:
                continue
            if status != expected:
                raise Refused(status)
            if command == SETUP:
                self.session = session
            if command == TREE:
                self.tree = tree
            return message

    def call(self, command, body, expected=0):
        return self.answer(self.send(command, body), expected)

    def open(self, name, access, share, disposition=OPEN_IF, lease=0):
        """A handle, and what was granted of the lease."""
        path, context = name.encode("utf-16le"), b""
        if lease:
            key = os.urandom(16)
            context = struct.pack("<IHHHHI4s4x", 0, 16, 4, 0, 24, 32, b"RqLs")
            context += struct.pack("<16sIIQ", key, lease, 0, 0)
        names = path + b"\0" * (-len(path) % 8)
        at = 120 + len(names) if context else 0
        body = struct.pack(
            "<HBBIQQIIIIIHHII", 57, 0, 0xFF if lease else 0, 2, 0, 0, access, 0x80, share,
            disposition, 0x40, 120, len(path), at, len(context))
        message = self.call(CREATE, body + names + context)
        handle = message[64 + 64:64 + 80]
        at, length = struct.unpack("<II", message[64 + 80:64 + 88])
        granted = struct.unpack("<I", message[at + 24 + 16:at + 24 + 20])[0] if length else 0
        return (handle, key, granted) if lease else handle

    def close(self, handle):
        self.call(CLOSE, struct.pack("<HHI16s", 24, 0, 0, handle))

    def flush(self, handle):
        self.call(FLUSH, struct.pack("<HHI16s", 24, 0, 0, handle))

    def read(self, handle, offset, length):
        """What is there, which may be less."""
        body = struct.pack("<HBBIQ16sIIIHHx", 49, 80, 0, length, offset, handle, 0, 0, 0, 0, 0)
        try:
            message = self.call(READ, body)
        except Refused as refused:
            if refused.status == 0xC0000011:
                return b""
            raise
        at, count = message[64 + 2], struct.unpack("<I", message[64 + 4:64 + 8])[0]
        return message[at:at + count]

    def write(self, handle, offset, data):
        body = struct.pack("<HHIQ16sIIHHI", 49, 112, len(data), offset, handle, 0, 0, 0, 0, 0)
        self.call(WRITE, body + data)

    def lock(self, handle, offset, length):
        """Exclusive, and refused if somebody else has it."""
        self.call(LOCK, struct.pack("<HHI16sQQII", 48, 1, 0, handle, offset, length, 0x12, 0))

    def unlock(self, handle, offset, length):
        self.call(LOCK, struct.pack("<HHI16sQQII", 48, 1, 0, handle, offset, length, 0x4, 0))

    def rename(self, handle, name):
        path = name.encode("utf-16le")
        info = struct.pack("<B7xQI", 0, 0, len(path)) + path
        body = struct.pack("<HBBIHHI16s", 33, 1, 10, len(info), 96, 0, 0, handle)
        self.call(SETINFO, body + info)

    def broken(self):
        """Waits for the break of a lease: its key and what is left of it."""
        while not self.breaks:
            message = self.receive()
            if message[24:32] == b"\xff" * 8:
                self.breaks.append(message[64 + 8:64 + 32])
        key, _, left = struct.unpack("<16sII", self.breaks.pop(0))
        return key, left

    def yield_lease(self, key, left):
        self.call(BREAK, struct.pack("<HHI16sIQ", 36, 0, 0, key, left, 0))
