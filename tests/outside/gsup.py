#!/usr/bin/env python3
"""A real HLR (Debian's osmo-hlr) for the outside proofs, and what a serving node sees of it.

`Hlr` starts, kills and freezes the program on a loopback address of its own: its ports are fixed. `Ctrl` speaks its
control interface, as the adapter does, but shares no code with it. `Peer` is a serving node (an SGSN, a VLR) or anybody
else who speaks GSUP under a name: `locate` asks for service as a handset's attach does, and answers for itself what the
HLR asks on the way; `cancelled` hears Location Cancel. Run by hand, this file checks all of that against the HLR.

Formats: OsmoHLR user manual, chapters "Control interface" and "GSUP"; every byte was seen with osmo-hlr 1.5.0.
"""

import argparse
import contextlib
import select
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque, namedtuple
from pathlib import Path

CTRL_PORT, GSUP_PORT, VTY_PORT = 4259, 4222, 4258  # 1.5.0 has no way to change them
READY_WITHIN = 20.0
ANSWER_WITHIN = 10.0
IN_FLIGHT = 64

IPA_CCM, IPA_OSMO = 0xfe, 0xee  # IPA protocols
OSMO_CTRL, OSMO_GSUP = 0x00, 0x05  # extensions of IPA_OSMO
PING, PONG, ID_GET, ID_RESP, ID_ACK = 0x00, 0x01, 0x04, 0x05, 0x06

UPDATE_LOCATION, UPDATE_LOCATION_ERROR, UPDATE_LOCATION_RESULT = 0x04, 0x05, 0x06
SEND_AUTH_INFO, SEND_AUTH_INFO_ERROR, SEND_AUTH_INFO_RESULT = 0x08, 0x09, 0x0a
INSERT_DATA, INSERT_DATA_ERROR, INSERT_DATA_RESULT = 0x10, 0x11, 0x12
DELETE_DATA, DELETE_DATA_ERROR, DELETE_DATA_RESULT = 0x14, 0x15, 0x16
LOCATION_CANCEL, LOCATION_CANCEL_ERROR, LOCATION_CANCEL_RESULT = 0x1c, 0x1d, 0x1e
ROUTING_ERROR = 0x4e
NAMES = {value: name for name, value in list(globals().items())
         if name.startswith(("UPDATE_", "SEND_", "INSERT_", "DELETE_", "LOCATION_", "ROUTING_"))}

IMSI, CAUSE, CANCEL_TYPE, MSISDN, MESSAGE_CLASS, DOMAIN, SOURCE, DESTINATION = \
    0x01, 0x02, 0x06, 0x08, 0x0a, 0x28, 0x60, 0x61
PS, CS = 1, 2
UNKNOWN_IMSI, GPRS_NOT_ALLOWED, PLMN_NOT_ALLOWED = 2, 7, 11  # causes, 3GPP TS 24.008 §10.5.5.14 and Annex G


# Frames

def frame(protocol, payload):
    return struct.pack(">HB", len(payload), protocol) + payload


class Frames:
    """A connection that sends and receives IPA frames, and answers pings."""

    def __init__(self, address, port, within=ANSWER_WITHIN, source=None):
        self.socket = socket.create_connection((address, port), timeout=within, source_address=source and (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.within = within
        self.buffer = b""

    def send(self, protocol, payload):
        self.socket.sendall(frame(protocol, payload))

    def receive(self, within=None):
        """The next frame but pings, as (protocol, payload); None when none comes in time."""
        deadline = time.monotonic() + (self.within if within is None else within)
        while True:
            while len(self.buffer) >= 3:
                length, protocol = struct.unpack(">HB", self.buffer[:3])
                if len(self.buffer) < 3 + length:
                    break
                payload, self.buffer = self.buffer[3:3 + length], self.buffer[3 + length:]
                if protocol == IPA_CCM and payload[:1] == bytes([PING]):
                    self.send(IPA_CCM, bytes([PONG]))
                    continue
                return protocol, payload
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.socket], [], [], left)[0]:
                return None
            received = self.socket.recv(65536)
            if not received:
                raise ConnectionError("the HLR closed the connection")
            self.buffer += received

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# The control interface

class Refused(Exception):
    """ERROR, with its text."""


class Ctrl(Frames):
    """The control interface. Replies come in the order of the requests."""

    def __init__(self, address, **options):
        super().__init__(address, CTRL_PORT, **options)
        self.last = 0

    def ask(self, *commands):
        """Sends commands ("GET variable", "SET variable value"), IN_FLIGHT at a time; each one's value, or Refused."""
        answers, waiting, todo = [], deque(), deque(commands)
        while todo or waiting:
            while todo and len(waiting) < IN_FLIGHT:
                verb, variable, *value = todo.popleft().split(" ", 2)
                self.last += 1
                waiting.append((str(self.last), verb, variable))
                self.send(IPA_OSMO, bytes([OSMO_CTRL]) + " ".join([verb, str(self.last), variable, *value]).encode())
            answers.append(self.reply(*waiting.popleft()))
        return answers

    def reply(self, number, verb, variable):
        received = self.receive()
        if received is None:
            raise TimeoutError(f"no reply to {verb} {variable}")
        protocol, payload = received
        if protocol != IPA_OSMO or payload[0] != OSMO_CTRL:
            raise ConnectionError(f"not a reply: {protocol:02x} {payload.hex()}")
        kind, same, rest = payload[1:].decode().split(" ", 2)
        if same != number:
            raise ConnectionError(f"a reply to {same}, not to {number}: {kind} {rest}")
        if kind == "ERROR":
            return Refused(rest)
        named, _, value = rest.partition(" ")
        if (kind, named) != (f"{verb}_REPLY", variable):
            raise ConnectionError(f"a reply to something else: {kind} {rest}")
        return value

    def one(self, command):
        answer, = self.ask(command)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def create(self, *imsis):
        """Subscribers with both services, each with an MSISDN that follows from its IMSI."""
        self.all_right(f"SET subscriber.create {imsi}" for imsi in imsis)
        self.all_right(f"SET subscriber.by-imsi-{imsi}.msisdn 1{imsi[-10:]}" for imsi in imsis)

    def enable(self, *imsis, ps, cs):
        self.all_right(f"SET subscriber.by-imsi-{imsi}.{domain}-enabled {int(enabled)}"
                       for imsi in imsis for domain, enabled in (("ps", ps), ("cs", cs)))

    def enabled(self, *imsis):
        """Whether PS and CS are enabled, of each IMSI; None where the HLR does not know it."""
        values = self.ask(*(f"GET subscriber.by-imsi-{imsi}.{domain}-enabled" for imsi in imsis for domain in ("ps", "cs")))
        pairs = zip(values[::2], values[1::2])
        known = {imsi: None if isinstance(ps, Refused) else (ps == "1", cs == "1") for imsi, (ps, cs) in zip(imsis, pairs)}
        return known

    def info(self, imsi):
        """Never `info-all`, `info-aud` or `aud3g`: they return keys."""
        lines = self.one(f"GET subscriber.by-imsi-{imsi}.info").strip().split("\n")
        return dict(line.split("\t", 1) for line in lines)

    def send_only(self, *commands):
        """Sends and does not wait: the replies are left for whoever reads on."""
        for command in commands:
            verb, variable, *value = command.split(" ", 2)
            self.last += 1
            self.send(IPA_OSMO, bytes([OSMO_CTRL]) + " ".join([verb, str(self.last), variable, *value]).encode())

    def fence(self, commands=IN_FLIGHT):
        """The HLR takes one command of each connection in turn: when so many have been answered here, those that were
        waiting on another connection, if they were not more, are done."""
        self.ask(*["GET fence"] * commands)

    def all_right(self, commands):
        for answer in self.ask(*commands):
            if isinstance(answer, Refused):
                raise answer


# GSUP

def bcd(digits):
    """Telephony BCD: the low half first, F to fill. An IMSI of 15 digits has the F in the last high half."""
    padded = digits + "F" * (len(digits) % 2)
    return bytes(int(padded[at + 1] + padded[at], 16) for at in range(0, len(padded), 2))


def undone_bcd(octets):
    return "".join(f"{octet & 15:x}{octet >> 4:x}" for octet in octets).rstrip("f")


def element(tag, value):
    value = value if isinstance(value, bytes) else bytes([value])
    return bytes([tag, len(value)]) + value


class Message(namedtuple("Message", "type elements")):
    """One GSUP message; `elements` by tag, the last of each."""

    @classmethod
    def parse(cls, payload):
        elements, at = {}, 1
        while at < len(payload):
            tag, length = payload[at], payload[at + 1]
            elements[tag] = payload[at + 2:at + 2 + length]
            at += 2 + length
        return cls(payload[0], elements)

    @property
    def imsi(self):
        return undone_bcd(self.elements.get(IMSI, b""))

    @property
    def cause(self):
        cause = self.elements.get(CAUSE)
        return cause[0] if cause else None

    @property
    def source(self):
        return self.elements.get(SOURCE, b"").rstrip(b"\0").decode()

    def __str__(self):
        elements = " ".join(f"{tag:02x}={value.hex()}" for tag, value in self.elements.items())
        return f"{NAMES.get(self.type, self.type)} {elements}"


class Location(namedtuple("Location", "accepted cause msisdn")):
    """What a handset is told when it asks for service."""


class Peer(Frames):
    """Somebody with a name on the HLR's GSUP port: a serving node where it asks for locations."""

    def __init__(self, address, name, **options):
        super().__init__(address, GSUP_PORT, **options)
        self.name = name
        self.heard = deque()  # what came while something else was awaited
        self.greet()

    def greet(self):
        """The HLR asks who is there; unit id is compulsory, the serial number is the name it routes by."""
        protocol, payload = self.receive()
        assert (protocol, payload[0]) == (IPA_CCM, ID_GET), f"not a question who is there: {payload.hex()}"
        items = b""
        for tag, text in ((0x08, "0/0/0"), (0x01, self.name), (0x00, self.name)):
            text = text.encode() + b"\0"
            items += struct.pack(">HB", 1 + len(text), tag) + text
        self.send(IPA_CCM, bytes([ID_RESP]) + items)
        self.send(IPA_CCM, bytes([ID_ACK]))
        protocol, payload = self.receive()
        assert (protocol, payload[0]) == (IPA_CCM, ID_ACK), f"not welcome: {payload.hex()}"

    def tell(self, kind, imsi, *elements):
        self.send(IPA_OSMO, bytes([OSMO_GSUP, kind]) + element(IMSI, bcd(imsi)) + b"".join(elements))

    def hear(self, within=None):
        """The next message, or None."""
        received = self.receive(within)
        if received is None:
            return None
        protocol, payload = received
        assert (protocol, payload[0]) == (IPA_OSMO, OSMO_GSUP), f"not GSUP: {protocol:02x} {payload.hex()}"
        return Message.parse(payload[1:])

    def locate(self, *imsis, domain, within=ANSWER_WITHIN):
        """Asks for service in a domain, as an attach does: each IMSI's Location; None where no answer came."""
        locations, todo, begun = dict.fromkeys(imsis), deque(imsis), {}
        deadline = time.monotonic() + within
        while todo or begun:
            while todo and len(begun) < IN_FLIGHT:
                imsi = todo.popleft()
                begun[imsi] = None  # its MSISDN, once the HLR has inserted it
                self.tell(UPDATE_LOCATION, imsi, element(DOMAIN, domain))
            message = self.hear(max(0.0, deadline - time.monotonic()))
            if message is None:
                return locations
            deadline = max(deadline, time.monotonic() + within)
            if message.type == INSERT_DATA and message.imsi in begun:
                number = message.elements.get(MSISDN)  # its length, then BCD
                begun[message.imsi] = number and undone_bcd(number[1:])
                self.tell(INSERT_DATA_RESULT, message.imsi)
            elif message.type == UPDATE_LOCATION_RESULT and message.imsi in begun:
                locations[message.imsi] = Location(True, None, begun.pop(message.imsi))
            elif message.type == UPDATE_LOCATION_ERROR and message.imsi in begun:
                locations[message.imsi] = Location(False, message.cause, begun.pop(message.imsi))
            else:
                self.heard.append(message)
        return locations

    def serves(self, *imsis):
        """Who has service: each IMSI's (PS, CS), True where it is accepted, else the cause."""
        told = lambda location: None if location is None else location.accepted or location.cause
        ps, cs = self.locate(*imsis, domain=PS), self.locate(*imsis, domain=CS)
        return {imsi: (told(ps[imsi]), told(cs[imsi])) for imsi in imsis}

    def vectors(self, imsi):
        """SendAuthInfo: answered while suspended too, so it proves nothing about service. The cause, or None."""
        self.tell(SEND_AUTH_INFO, imsi)
        return self.awaited(SEND_AUTH_INFO_RESULT, SEND_AUTH_INFO_ERROR).cause

    def cancel(self, imsi, name, kind=1):
        """Sends Location Cancel (withdrawn) to another peer by its name, and awaits what comes of it."""
        self.tell(LOCATION_CANCEL, imsi, element(CANCEL_TYPE, kind), element(MESSAGE_CLASS, 1),
                  element(SOURCE, self.name.encode() + b"\0"), element(DESTINATION, name.encode() + b"\0"))

    def cancelled(self, within=ANSWER_WITHIN, answer=True):
        """The next Location Cancel that reaches this node, answered as one that has the subscriber does; or None."""
        message = self.awaited(LOCATION_CANCEL, within=within)
        if message and answer:
            self.tell(LOCATION_CANCEL_RESULT, message.imsi, element(MESSAGE_CLASS, 1),
                      element(SOURCE, self.name.encode() + b"\0"), element(DESTINATION, message.elements[SOURCE]))
        return message

    def awaited(self, *kinds, within=ANSWER_WITHIN):
        """The next message of those kinds, or None; others are kept for later."""
        for message in list(self.heard):
            if message.type in kinds:
                self.heard.remove(message)
                return message
        deadline = time.monotonic() + within
        while True:
            message = self.hear(max(0.0, deadline - time.monotonic()))
            if message is None or message.type in kinds:
                return message
            self.heard.append(message)


# The program

CONFIG = """log stderr
 logging filter all 1
 logging color 0
 logging level set-all notice
line vty
 bind {address}
ctrl
 bind {address}
hlr
 database {database}
 gsup
  bind ip {address}
"""


class Hlr:
    """osmo-hlr on a loopback address of its own, with its database in `folder`."""

    def __init__(self, folder, address):
        self.folder, self.address = Path(folder), address
        self.folder.mkdir(parents=True, exist_ok=True)
        self.database, self.log = self.folder / "hlr.db", self.folder / "hlr.log"
        self.config = self.folder / "hlr.cfg"
        self.config.write_text(CONFIG.format(address=address, database=self.database))
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["osmo-hlr", "-c", self.config], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.folder)
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), Ctrl(self.address, within=1.0):
                return self
            time.sleep(0.005)
        raise RuntimeError(f"osmo-hlr is not ready: {self.log.read_text(errors='replace')[-2000:]}")

    def signal(self, number):
        self.process.send_signal(number)

    def freeze(self):
        """Stops it where it is: it is connected to all the same, and what is sent waits in the kernel."""
        self.signal(signal.SIGSTOP)
        while ") T" not in Path(f"/proc/{self.process.pid}/stat").read_text():
            time.sleep(0.001)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def restart(self):
        self.kill()
        return self.start()

    @contextlib.contextmanager
    def locked(self):
        """Another process has the database's write lock: each SET fails at once, GET answers."""
        connection = sqlite3.connect(self.database, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


# By hand: every fact above, seen

def check(address, profiles):
    failed = []

    def holds(what, seen, expected):
        failed.extend([what] if seen != expected else [])
        print(f"{'ok    ' if seen == expected else 'FAILED'}  {what}: {seen!r}" + ("" if seen == expected else f", not {expected!r}"))

    folder = Path(tempfile.mkdtemp(prefix="hlr-"))
    one, unknown = "001010000000001", "001010000009999"
    accepted = Location(True, None, "10000000001")
    with Hlr(folder, address) as hlr, Ctrl(address) as ctrl, Peer(address, "SGSN-probe-1") as sgsn, \
            Peer(address, "REVEILLE-1") as us:
        ctrl.create(one)
        holds("a new subscriber is accepted in PS", sgsn.locate(one, domain=PS)[one], accepted)
        holds("and in CS", sgsn.locate(one, domain=CS)[one].accepted, True)
        holds("the HLR knows who serves it", [ctrl.info(one).get(key) for key in ("sgsn_number", "vlr_number")],
              ["SGSN-probe-1"] * 2)
        ctrl.enable(one, ps=False, cs=True)
        holds("after SET ps-enabled 0: PS cause 7, CS accepted", sgsn.serves(one)[one], (GPRS_NOT_ALLOWED, True))
        holds("CTRL pushes nothing to the node that serves it", sgsn.hear(within=0.5), None)
        ctrl.enable(one, ps=False, cs=False)
        holds("after SET cs-enabled 0: cause 7 and 11", sgsn.serves(one)[one], (GPRS_NOT_ALLOWED, PLMN_NOT_ALLOWED))
        ctrl.one(f"SET subscriber.by-imsi-{one}.aud3g milenage,{'0' * 32},opc,{'1' * 32}")
        holds("authentication vectors are given all the same", sgsn.vectors(one), None)
        holds("one SET again is OK again", ctrl.ask(f"SET subscriber.by-imsi-{one}.ps-enabled 0"), ["OK"])

        us.cancel(one, "SGSN-probe-1")
        kicked = sgsn.cancelled(within=5)
        holds("Location Cancel reaches the node by its name", kicked and
              (kicked.imsi, kicked.elements[CANCEL_TYPE], kicked.source), (one, b"\x01", "REVEILLE-1"))
        done = us.awaited(LOCATION_CANCEL_RESULT, LOCATION_CANCEL_ERROR, ROUTING_ERROR, within=5)
        holds("and its result comes back", done and (NAMES[done.type], done.source),
              ("LOCATION_CANCEL_RESULT", "SGSN-probe-1"))
        us.cancel(one, "SGSN-nowhere")
        gone = us.awaited(LOCATION_CANCEL_RESULT, LOCATION_CANCEL_ERROR, ROUTING_ERROR, within=5)
        holds("to a node that is not there: a routing error", gone and NAMES[gone.type], "ROUTING_ERROR")
        print("        it says:", gone)
        us.cancel(one, "SGSN-probe-1")
        holds("a node that does not answer: the request arrives", bool(sgsn.cancelled(within=5, answer=False)), True)
        holds("and silence", us.awaited(LOCATION_CANCEL_RESULT, LOCATION_CANCEL_ERROR, ROUTING_ERROR, within=1.0), None)
        holds("the record of who serves it is left", ctrl.info(one).get("sgsn_number"), "SGSN-probe-1")

        ctrl.enable(one, ps=True, cs=True)
        holds("resumed: accepted again", sgsn.serves(one)[one], (True, True))
        holds("an unknown IMSI: cause 2", sgsn.serves(unknown)[unknown], (UNKNOWN_IMSI, UNKNOWN_IMSI))
        errors = ctrl.ask(f"SET subscriber.by-imsi-{unknown}.ps-enabled 0", f"GET subscriber.by-imsi-{unknown}.ps-enabled",
                          f"GET subscriber.by-imsi-{unknown}.info", f"SET subscriber.by-imsi-{one}.ps-enabled 2",
                          "GET subscriber.by-imsi-abc.ps-enabled", f"SET subscriber.create {one}", "GET nosuch")
        holds("errors, by their texts", [str(error) for error in errors],
              ["An error has occurred.", "No such subscriber.", "No such subscriber.", "Value failed verification.",
               "Invalid value part of 'by-xxx-value' selector.", "Subscriber already exists.", "Command not found"])
        with hlr.locked():
            texts = [str(each) for each in ctrl.ask(f"SET subscriber.by-imsi-{one}.ps-enabled 0",
                                                    f"SET subscriber.by-imsi-{one}.ps-enabled 1",
                                                    f"GET subscriber.by-imsi-{one}.ps-enabled")]
        holds("a locked database: each SET fails, of what is so already too; GET answers", texts,
              ["An error has occurred.", "An error has occurred.", "1"])

        many = [f"00101{number:010d}" for number in range(1000, 1000 + profiles)]
        began = time.monotonic()
        ctrl.create(*many)
        print(f"        {profiles} created in {time.monotonic() - began:.2f} s", end="")
        began = time.monotonic()
        ctrl.enable(*many, ps=False, cs=False)
        print(f", suspended in {time.monotonic() - began:.2f} s", end="")
        began = time.monotonic()
        served = sgsn.serves(*many)
        print(f", seen through GSUP in {time.monotonic() - began:.2f} s")
        holds("all of them are refused", set(served.values()), {(GPRS_NOT_ALLOWED, PLMN_NOT_ALLOWED)})
        holds("and so says CTRL", set(ctrl.enabled(*many).values()), {(False, False)})

        hlr.freeze()
        frozen = Ctrl(address, within=0.5)
        with contextlib.suppress(TimeoutError):
            frozen.ask(f"GET subscriber.by-imsi-{one}.ps-enabled")
            failed.append("a frozen HLR answers nothing")
        holds("a frozen HLR is connected to, and does not answer", hlr.process.poll(), None)
        hlr.thaw()
        frozen.close()
        ctrl.send_only(*(f"SET subscriber.by-imsi-{imsi}.ps-enabled 1" for imsi in many))
        answered = sum(ctrl.receive(within=5) is not None for _ in range(min(50, profiles)))
        hlr.restart()
    with Hlr(folder, address) as hlr, Ctrl(address) as ctrl:
        applied = sum(ps for ps, _ in ctrl.enabled(*many).values())
        holds("killed in a pipeline: what was answered is applied, and more may be", applied >= answered, True)
        print(f"        {answered} answers read, {applied} applied")
        with Peer(address, "SGSN-probe-1") as sgsn:
            ctrl.enable(*many, ps=True, cs=True)
            holds("resumed after the restart", set(sgsn.serves(*many).values()), {(True, True)})
    for fenced in (False, True):
        holds(f"the last of {IN_FLIGHT} suspensions left on a connection while the HLR was frozen "
              f"{'is done before a resume behind a fence' if fenced else 'overtakes a resume on a new one'}",
              late(folder / f"late-{fenced}", address, fenced), fenced)
    shutil.rmtree(folder)
    print(f"{len(failed)} failed" if failed else "all of it holds")
    return 1 if failed else 0


def late(folder, address, fenced):
    """Whether a profile has PS that was resumed last, on a new connection, while suspensions were left on an old one that
    the frozen HLR had not read. (Where the old one is closed, the HLR may or may not find that out before it is through.)"""
    imsis = [f"00101{number:010d}" for number in range(2000, 2000 + IN_FLIGHT)]
    last = f"subscriber.by-imsi-{imsis[-1]}.ps-enabled"
    with Hlr(folder, address) as hlr, Ctrl(address) as old, Ctrl(address) as new:
        old.create(*imsis)
        hlr.freeze()
        old.send_only(*(f"SET subscriber.by-imsi-{imsi}.ps-enabled 0" for imsi in imsis))
        new.send_only(f"SET {last} 0")  # the suspension is driven again
        hlr.thaw()
        assert new.reply("1", "SET", last) == "OK"
        if fenced:
            new.fence()
        new.one(f"SET {last} 1")
        new.fence(2 * IN_FLIGHT)  # and all that is left comes
        return new.one(f"GET {last}") == "1"


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--address", default="127.0.0.77", help="a loopback address that nothing else uses")
    arguments.add_argument("--profiles", type=int, default=500)
    given = arguments.parse_args()
    sys.exit(check(given.address, given.profiles))
