#!/usr/bin/env python3
"""A real HSS (Debian's nextepc-hss, the ancestor of Open5GS's) over a database that speaks MongoDB's protocol, for the
outside proofs, and what a serving node sees of it.

`Database` keeps the subscribers, and is started, killed and frozen; `Hss` reads them. `Mme` is a serving node: `attach`
asks for service as a handset's attach does, over S6a. Run by hand, this file checks what is known of both against them.

Formats: RFC 6733 (Diameter), 3GPP TS 29.272 (S6a); every octet was seen with nextepc-hss 0.3.10.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIAMETER_PORT, DATABASE_PORT = 3868, 27017
READY_WITHIN = 60.0
ANSWER_WITHIN = 10.0
IN_FLIGHT = 32
RESTARTS_MAX = 20  # a database that was killed may find its folder busy for a moment

HSS, MME, REALM = "hss.localdomain", "mme.localdomain", "localdomain"
THREE_GPP, S6A = 10415, 16777251
CAPABILITIES, WATCHDOG, DISCONNECT, AUTHENTICATION, UPDATE_LOCATION = 257, 280, 282, 318, 316
SUCCESS, USER_UNKNOWN = 2001, 5001  # RFC 6733 §7.1.2; TS 29.272 §7.4.3.1
GRANTED, BARRED = 0, 1  # Subscriber-Status, TS 29.272 §7.3.29

USER_NAME, HOST_ADDRESS, VENDOR_APPLICATION, AUTH_APPLICATION, SESSION, ORIGIN_HOST, SUPPORTED_VENDOR, VENDOR = \
    1, 257, 260, 258, 263, 264, 265, 266
RESULT, PRODUCT, SESSION_STATE, REALM_TO, HOST_TO, REALM_FROM, EXPERIMENTAL, EXPERIMENTAL_CODE, SECURITY, \
    DISCONNECT_CAUSE = 268, 269, 277, 283, 293, 296, 297, 298, 299, 273
RAT_TYPE, DATA, ULR_FLAGS, PLMN, REQUESTED, VECTORS, IMMEDIATE, STATUS, BARRING, RESTRICTION = \
    1032, 1400, 1405, 1407, 1408, 1410, 1412, 1424, 1425, 1426


# Diameter

def avp(code, value, vendor=None):
    """One attribute; a number is 32 bits, a list is grouped."""
    if isinstance(value, int):
        value = struct.pack(">I", value)
    elif isinstance(value, str):
        value = value.encode()
    elif isinstance(value, list):
        value = b"".join(value)
    vendor = THREE_GPP if code >= 1000 and vendor is None else vendor
    head = struct.pack(">I", vendor) if vendor else b""
    length = 8 + len(head) + len(value)
    flags = 0xc0 if vendor else 0x40
    return struct.pack(">II", code, flags << 24 | length) + head + value + bytes(-length % 4)


def parsed(octets):
    """Attributes by code, the last of each."""
    found, at = {}, 0
    while at < len(octets):
        code, length = struct.unpack(">II", octets[at:at + 8])
        flags, length = length >> 24, length & 0xffffff
        found[code] = octets[at + (12 if flags & 0x80 else 8):at + length]
        at += length + -length % 4
    return found


def number(found, code):
    return struct.unpack(">I", found[code])[0] if code in found else None


class Attach(namedtuple("Attach", "authentication location status barring restriction")):
    """What a handset's attach comes to: both result codes, and what the MME is told of the subscriber."""

    @property
    def accepted(self):
        return (self.authentication, self.location) == (SUCCESS, SUCCESS)


class Mme:
    """A serving node on the HSS's Diameter port."""

    def __init__(self, address, within=ANSWER_WITHIN):
        self.socket = socket.create_connection((address, DIAMETER_PORT), timeout=within, source_address=(address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address, self.buffer, self.last = address, b"", 0
        self.send(CAPABILITIES, 0x80, 0, [
            avp(ORIGIN_HOST, MME), avp(REALM_FROM, REALM), avp(HOST_ADDRESS, b"\0\1" + socket.inet_aton(address)),
            avp(VENDOR, 0), avp(PRODUCT, "probe"), avp(SUPPORTED_VENDOR, THREE_GPP), avp(SECURITY, 0),
            avp(VENDOR_APPLICATION, [avp(VENDOR, THREE_GPP), avp(AUTH_APPLICATION, S6A)])])
        welcome = self.receive()[1]
        assert number(welcome, RESULT) == SUCCESS, f"not welcome: {welcome}"

    def send(self, command, flags, application, attributes, number=None):
        if number is None:
            self.last += 1
            number = self.last
        body = b"".join(attributes)
        self.socket.sendall(struct.pack(">IIIII", 1 << 24 | 20 + len(body), flags << 24 | command, application, number, number)
                            + body)
        return number

    def receive(self):
        """The next answer, as its number and attributes; the HSS's own requests are answered meanwhile."""
        while True:
            while len(self.buffer) < 20 or len(self.buffer) < struct.unpack(">I", self.buffer[:4])[0] & 0xffffff:
                received = self.socket.recv(65536)
                if not received:
                    raise ConnectionError("the HSS closed the connection")
                self.buffer += received
            length, command, _, hop, _ = struct.unpack(">IIIII", self.buffer[:20])
            length &= 0xffffff
            found, self.buffer = parsed(self.buffer[20:length]), self.buffer[length:]
            if command >> 24 & 0x80 == 0:
                return hop, found
            if command & 0xffffff == WATCHDOG:
                self.send(WATCHDOG, 0, 0, [avp(RESULT, SUCCESS), avp(ORIGIN_HOST, MME), avp(REALM_FROM, REALM)], hop)

    def ask(self, command, imsis, more):
        """Asks of many; each IMSI's attributes."""
        told, asked, todo = {}, {}, list(reversed(imsis))
        while todo or asked:
            while todo and len(asked) < IN_FLIGHT:
                imsi = todo.pop()
                sent = self.send(command, 0xc0, S6A, [
                    avp(SESSION, f"{MME};{self.last};{imsi}"),
                    avp(VENDOR_APPLICATION, [avp(VENDOR, THREE_GPP), avp(AUTH_APPLICATION, S6A)]), avp(SESSION_STATE, 1),
                    avp(ORIGIN_HOST, MME), avp(REALM_FROM, REALM), avp(REALM_TO, REALM), avp(HOST_TO, HSS),
                    avp(USER_NAME, imsi), *more, avp(PLMN, b"\x00\xf1\x10")])
                asked[sent] = imsi
            answered, found = self.receive()
            told[asked.pop(answered)] = found
        return told

    def attach(self, *imsis):
        """What a handset with each IMSI is told that asks for service."""
        vectors = self.ask(AUTHENTICATION, imsis, [avp(REQUESTED, [avp(VECTORS, 1), avp(IMMEDIATE, 1)])])
        located = self.ask(UPDATE_LOCATION, imsis, [avp(RAT_TYPE, 1004), avp(ULR_FLAGS, 34)])
        attached = {}
        for imsi in imsis:
            data = parsed(located[imsi].get(DATA, b""))
            attached[imsi] = Attach(result(vectors[imsi]), result(located[imsi]), number(data, STATUS), number(data, BARRING),
                                    number(data, RESTRICTION))
        return attached

    def close(self):
        """Says goodbye: an HSS is slow to trust an MME again that has left without."""
        with contextlib.suppress(OSError):
            self.send(DISCONNECT, 0x80, 0, [avp(ORIGIN_HOST, MME), avp(REALM_FROM, REALM), avp(DISCONNECT_CAUSE, 0)])
            self.receive()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def result(found):
    if RESULT in found:
        return number(found, RESULT)
    return number(parsed(found[EXPERIMENTAL]), EXPERIMENTAL_CODE)


# The programs

def environment():
    """The Python of the virtual environment that has the database; made where it is missing."""
    return subprocess.run([HERE / "secantus.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def within_environment():
    """Goes on as the environment's Python, which has pymongo."""
    try:
        import pymongo
    except ImportError:
        python = environment()
        os.execv(python, [python, *sys.argv])


def subscriber(imsi):
    """One as the operator's tools write it; the keys are of no handset."""
    rate = {"uplink": 1024000, "downlink": 1024000}
    return {
        "imsi": imsi, "access_restriction_data": 32, "subscriber_status": GRANTED, "network_access_mode": 2,
        "subscribed_rau_tau_timer": 12, "ambr": rate,
        "security": {"k": "465B5CE8 B199B49F AA5F0A2E E238A6BC", "amf": "8000", "op": None,
                     "opc": "E8ED289D EBA952E4 283B54E8 8E6183CA"},
        "pdn": [{"apn": "internet", "type": 0, "ambr": rate,
                 "qos": {"qci": 9, "arp": {"priority_level": 8, "pre_emption_vulnerability": 1, "pre_emption_capability": 1}}}],
    }


class Program:
    """One that is started, killed and frozen, with its files in `folder`."""

    name = None

    def __init__(self, folder, address):
        self.folder, self.address = Path(folder), address
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{self.name}.log"
        self.process = None

    def run(self, *command):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)

    def answers(self, port):
        """Whether it listens before it ends, which it may do instead."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((self.address, port), timeout=1.0):
                return True
            time.sleep(0.01)
        return False

    def not_ready(self):
        return RuntimeError(f"{self.name} is not ready: {self.log.read_text(errors='replace')[-2000:]}")

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        while ") T" not in Path(f"/proc/{self.process.pid}/stat").read_text():
            time.sleep(0.001)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


class Database(Program):
    """The subscribers. It syncs each commit, so that what it has acknowledged outlasts a kill."""

    name = "secantus"

    def start(self):
        for _ in range(RESTARTS_MAX):
            self.run(str(Path(sys.executable).parent / "secantusd-py"), "--host", self.address, "--port", str(DATABASE_PORT),
                     "--storage-path", str(self.folder / "db"), "--sync-on-commit", "--cache-size", "256M",
                     "--log-level", "WARNING")
            if self.answers(DATABASE_PORT):
                return self
            time.sleep(0.1)
        raise self.not_ready()

    @property
    def url(self):
        return f"mongodb://{self.address}:{DATABASE_PORT}/"

    def client(self, within=ANSWER_WITHIN):
        import pymongo
        return pymongo.MongoClient(self.url, serverSelectionTimeoutMS=int(within * 1000))


FREE_DIAMETER = """Identity = "{hss}";
Realm = "{realm}";
No_SCTP;
ListenOn = "{address}";
TLS_Cred = "{folder}/cert.pem", "{folder}/key.pem";
TLS_CA = "{folder}/cert.pem";
LoadExtension = "dict_rfc5777.so";
LoadExtension = "dict_mip6i.so";
LoadExtension = "dict_nasreq.so";
LoadExtension = "dict_nas_mipv6.so";
LoadExtension = "dict_dcca.so";
LoadExtension = "dict_dcca_3gpp.so";
LoadExtension = "dict_s6a.so";
ConnectPeer = "{mme}" {{ ConnectTo = "{address}"; Port = 9; No_TLS; }};
"""
CONFIG = """db_uri: mongodb://{address}:27017/nextepc
logger:
    file: {folder}/hss.log
parameter:
hss:
    freeDiameter: {folder}/freeDiameter.conf
"""


class Hss(Program):
    """nextepc-hss, which reads the database at the same address. Only the MME that it is told of may ask it; that it looks
    for that one at a port where nobody is does no harm. Its certificate is for nobody, and made on the spot."""

    name = "nextepc-hss"

    def __init__(self, folder, address):
        super().__init__(folder, address)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        f"/CN={HSS}", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem"], cwd=self.folder, check=True,
                       stderr=subprocess.DEVNULL)
        (self.folder / "freeDiameter.conf").write_text(
            FREE_DIAMETER.format(hss=HSS, mme=MME, realm=REALM, address=address, folder=self.folder))
        (self.folder / "hss.conf").write_text(CONFIG.format(address=address, folder=self.folder))

    def start(self):
        self.run("nextepc-hssd", "-f", "hss.conf", "-l", "hss.log", "-p", "hss.pid")
        if not self.answers(DIAMETER_PORT):
            raise self.not_ready()
        return self

    def kill(self):
        super().kill()
        if self.process:  # the counters of its client library, which it leaves behind
            Path(f"/dev/shm/mongoc-{self.process.pid}").unlink(missing_ok=True)


# By hand: every fact above, seen

def check(address):
    failed = []

    def holds(what, seen, expected):
        failed.extend([what] if seen != expected else [])
        print(f"{'ok    ' if seen == expected else 'FAILED'}  {what}: {seen!r}" + ("" if seen == expected else f", not {expected!r}"))

    folder = Path(tempfile.mkdtemp(prefix="hss-"))
    one, unknown = "001010000000001", "001010000009999"
    with Database(folder, address) as database, Hss(folder, address):
        subscribers = database.client().nextepc.subscribers
        subscribers.create_index("imsi", unique=True)
        subscribers.insert_one(subscriber(one))
        with Mme(address) as mme:
            def after(**fields):
                subscribers.update_one({"pdn": {"$exists": True}}, {"$set": fields})
                return mme.attach(one)[one]

            holds("as provisioned", mme.attach(one)[one], Attach(SUCCESS, SUCCESS, GRANTED, None, 32))
            holds("the HSS writes nothing", set(subscribers.find_one({"imsi": one})) - set(subscriber(one)), {"_id"})
            from bson.int64 import Int64
            holds("barred: accepted, and told so, if not of which services",
                  after(subscriber_status=1, operator_determined_barring=1), Attach(SUCCESS, SUCCESS, BARRED, None, 32))
            holds("a status that is no 32-bit number is not read",
                  [after(subscriber_status=status).status for status in (1.0, Int64(1))], [GRANTED, GRANTED])
            holds("granted again", after(subscriber_status=0)[:3], (SUCCESS, SUCCESS, GRANTED))
            holds("hidden: refused", after(imsi=f"suspended:{one}")[:3], (USER_UNKNOWN, USER_UNKNOWN, None))
            holds("and back: accepted", after(imsi=one)[:3], (SUCCESS, SUCCESS, GRANTED))
            holds("unknown: refused", mme.attach(unknown)[unknown][:2], (USER_UNKNOWN, USER_UNKNOWN))
            many = [f"00101{each:010d}" for each in range(1000, 1500)]
            subscribers.insert_many(subscriber(imsi) for imsi in many)
            began = time.monotonic()
            told = mme.attach(*many)
            print(f"        {len(many)} seen in {time.monotonic() - began:.2f} s")
            holds("all are accepted", {each.accepted for each in told.values()}, {True})
            database.kill()
            holds("without a database everybody is unknown", mme.attach(one)[one][:2], (USER_UNKNOWN, USER_UNKNOWN))
            database.start()
            began = time.monotonic()
            while not mme.attach(one)[one].accepted:
                time.sleep(0.01)
            print(f"        and accepted {time.monotonic() - began:.2f} s after it is back")
    shutil.rmtree(folder)
    print(f"{len(failed)} failed" if failed else "all of it holds")
    return 1 if failed else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--address", default="127.0.0.78", help="a loopback address that nothing else uses")
    arguments.add_argument("--attach", metavar="IMSI", help="only ask the HSS that runs at that address")
    given = arguments.parse_args()
    if given.attach:
        with Mme(given.address) as node:
            print(node.attach(given.attach)[given.attach])
        sys.exit()
    within_environment()
    sys.exit(check(given.address))
