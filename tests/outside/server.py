#!/usr/bin/env python3
"""Runs a Reveille server for the outside proofs, and talks to it as a customer would.

`Server` writes the configuration, imports accounts and fleets, starts, kills and restarts the
binary; `nodes` makes several on one database. `Client` holds one connection with a bearer token
and a session, and never repeats a request by itself. Run by hand, this file starts a server with a
small fleet and a listener, and prints how to talk to it.
"""

import argparse
import base64
import contextlib
import csv
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
BINARY = REPOSITORY / "target" / "release" / "reveille"

ACCOUNT = "0000123456-00001"
US_PLAN = "Verizon IoT 5MB"
GLOBAL_PLAN = "Global IoT 5MB"
SERVICE = "DeviceProfileService"
KEY, SECRET = "outside-key", "outside-secret"
USER, PASSWORD = "outside", "outside-password"

ACTIONS = "/api/m2m/v1/devices/profile/actions/"
OWN = "/api/reveille/v1"
PAGE = 1000
READY_WITHIN = 60.0  # seconds from the start to a 200 of /readyz, with recovery
ANSWER_WITHIN = 60.0  # seconds for one answer
PORTS = 20_000, 32_000  # below those that Linux gives to outgoing connections
PORTS_GIVEN = set()  # each to one server of this process
PIPELINED = 64  # reads that are sent before the first answer is awaited
CONNECTIONS = 4  # over which many reads are sent


# Fleets

Profile = namedtuple("Profile", "account eid imei iccid msisdn imsi network role state suspended_by "
                                "profile_status service_plan")


def fleet(account, profiles, first=0, state="SUSPEND"):
    """`profiles` profiles on both networks: devices with a US and a Global one, and devices with one.

    `first` numbers the first device, so that several fleets share nothing: each takes at most
    `profiles` numbers.
    """
    made, number = [], first
    while len(made) < profiles:
        made.append(profile(account, number, "verizon-us", state))
        if number % 4 != 3 and len(made) < profiles:
            made.append(profile(account, number, "global", state))
        number += 1
    return made


def profile(account, number, network, state="SUSPEND"):
    """The profile of device `number` on `network`; every identifier follows from these two."""
    us = network == "verizon-us"
    return Profile(
        account=account,
        eid=f"89049032{number:024d}",
        imei=f"35{number:013d}",
        iccid=f"{'8914800' if us else '8944500'}{number:013d}",
        msisdn=f"1{'2' if us else '3'}{number:09d}",
        imsi=f"{'311480' if us else '901280'}{number:09d}",
        network=network,
        role="LEAD" if us else "LOCAL",
        state=state,
        suspended_by=("device" if us else "profile") if state == "SUSPEND" else "",
        profile_status="ENABLE" if us else "DISABLE",
        service_plan=US_PLAN if us else GLOBAL_PLAN)


def write_fleet(path, profiles):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Profile._fields)
        writer.writerows(profiles)


def read_fleet(path):
    with open(path, newline="") as file:
        return [Profile(**row) for row in csv.DictReader(file)]


# Files for `apply`

def apply_text(listeners, users=None, operator=False, clients=None, further=()):
    """An apply file. `listeners`: account → URL or None; `users`: name → accounts (default: one of all);
    `clients`: key → secret (default: one); `further`: (account, name, URL) of further listeners."""
    lines = []
    for account, url in listeners.items():
        lines += ["[[account]]", f'name = "{account}"']
        for plan, network in ((US_PLAN, "verizon-us"), (GLOBAL_PLAN, "global")):
            lines += ["[[account.service_plan]]", f'name = "{plan}"', f'network = "{network}"']
        if url:
            lines += ["[[account.listener]]", f'service = "{SERVICE}"', f'url = "{url}"']
        for name, url in ((name, url) for owner, name, url in further if owner == account):
            lines += ["[[account.listener]]", f'service = "{SERVICE}"', f'name = "{name}"', f'url = "{url}"']
    for key, secret in (clients or {KEY: SECRET}).items():
        lines += ["[[client]]", f'key = "{key}"', f'secret = "{secret}"']
    for name, accounts in (users or {USER: list(listeners)}).items():
        lines += ["[[user]]", f'username = "{name}"', f'password = "{PASSWORD}"',
                  f"accounts = {json.dumps(accounts)}"]
        if operator:
            lines.append("operator = true")
    return "\n".join(lines) + "\n"


# The server

def free_port():
    """A port that nobody has, out of a range that the system gives to nobody by itself: while a server is dead, a
    connection made elsewhere, or to the server itself, would else be given its port at times. No port twice."""
    dice = random.SystemRandom()
    while True:
        port = dice.randrange(*PORTS)
        if port in PORTS_GIVEN:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            PORTS_GIVEN.add(port)
            return port


def nodes(folder, databases, key=None, **options):
    """A node for each URL of one shared store, which differ where nodes reach it by proxies; all with one key, and
    `options` as of `Server`. What one node applies and imports, all have."""
    key = key or os.urandom(32).hex()
    return [Server(Path(folder) / f"node-{number}", database=database, key=key, **options)
            for number, database in enumerate(databases, 1)]


class Server:
    """One node: its folder, its store, in that folder or shared, and the process that serves it."""

    def __init__(self, folder, binary=None, latency="5ms", retry_after=("1s", "1s", "1s"), carrier="",
                 before="", more="", environment=None, database=None, key=None, carriers=None):
        """`carrier` is added to each carrier's section, `before` and `more` to begin and end of the configuration.
        `carriers`: network → its whole section, in place of simulated ones; or what makes them of the server's port.

        `database` is the URL of a shared store (default: SQLite in the folder), `key` the server's key as 64
        hexadecimal digits (default: a file beside the store, which the server makes).
        """
        self.folder = Path(folder)
        self.store = self.folder / "store"
        self.store.mkdir(parents=True, exist_ok=True)
        self.binary = os.path.abspath(binary or os.environ.get("REVEILLE_BINARY") or BINARY)
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("REVEILLE_")} | (environment or {})
        if key:
            self.environment["REVEILLE_SERVER_KEY"] = key
        self.port = free_port()
        self.process = None
        self.log = self.folder / "server.log"
        self.config = self.folder / "reveille.toml"
        simulated = f'kind = "simulated"\nlatency = "{latency}"\n{carrier}'
        carriers = carriers or {network: simulated for network in ("verizon-us", "global")}
        carriers = carriers(self.port) if callable(carriers) else carriers
        sections = "".join(f"[carriers.{network}]\n{section}\n" for network, section in carriers.items())
        self.config.write_text(
            f'{before}listen = "127.0.0.1:{self.port}"\n'
            f'database = "{database or self.sqlite()}"\n'
            f"[callbacks]\nretry_after = {json.dumps(list(retry_after))}\n{sections}{more}")

    def sqlite(self):
        return f"sqlite:{self.store / 'reveille.db'}"

    def run(self, *arguments, environment=None):
        """Runs one of the binary's other commands to its end, whatever that is."""
        return subprocess.run([self.binary, *arguments], timeout=300, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, env=self.environment | (environment or {}), cwd=self.folder)

    def customer(self, *arguments, **changes):
        """Runs a command that talks HTTP to the server, as the default user."""
        access = {"server": f"http://127.0.0.1:{self.port}", "account": ACCOUNT, "key": KEY, "secret": SECRET,
                  "username": USER, "password": PASSWORD} | changes
        return self.run(*arguments, environment={f"REVEILLE_{name.upper()}": value for name, value in access.items()})

    def command(self, *arguments):
        """Runs one of the commands that work on the store; returns what it printed."""
        done = self.run(*arguments, "--config", str(self.config))
        if done.returncode:
            raise RuntimeError(f"reveille {' '.join(arguments)} ended with {done.returncode}:\n"
                               f"{done.stdout}{done.stderr}")
        return done.stdout

    def apply(self, text):
        path = self.folder / "apply.toml"
        path.write_text(text)
        return self.command("apply", str(path))

    def import_fleet(self, profiles, name="fleet.csv"):
        path = self.folder / name
        write_fleet(path, profiles)
        return self.command("fleet", "import", str(path))

    def fleet(self):
        """Every profile as the store has it."""
        path = self.folder / "exported.csv"
        path.write_text(self.command("fleet", "export"))
        return read_fleet(path)

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", str(self.config)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=self.environment)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, within=READY_WITHIN):
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.last_log()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                try:
                    connection.request("GET", "/readyz")
                    if connection.getresponse().status == 200:
                        return
                finally:
                    connection.close()
            time.sleep(0.005)
        raise RuntimeError(f"the server was not ready within {within} s: {self.last_log()}")

    def last_log(self, characters=2000):
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def kill(self):
        """kill -9."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)

    def stop(self, within=30):
        """SIGTERM, and kill -9 when that takes too long; returns the exit code."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(within)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode if self.process else None

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def memory(self):
        """The resident memory of the process in bytes."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def client(self, username=USER, login=True):
        client = Client(self.port, username=username)
        return client.login() if login else client

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


# Talking to it

class NoAnswer(Exception):
    """The connection failed or ended before an answer: the request may or may not have arrived."""


class Answer(namedtuple("Answer", "status headers raw")):
    @property
    def json(self):
        """The body as JSON, or None."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None

    @property
    def request_id(self):
        body = self.json
        return body.get("requestId") if isinstance(body, dict) else None


class Client:
    """One connection, one bearer token, one session. Not for two threads at once: see `twin`."""

    def __init__(self, port, key=KEY, secret=SECRET, username=USER, password=PASSWORD, host="127.0.0.1",
                 within=ANSWER_WITHIN):
        self.host, self.port, self.within = host, port, within
        self.key, self.secret = key, secret
        self.username, self.password = username, password
        self.token = self.session = None
        self.connection = None

    def twin(self):
        """Another connection with the same token and session."""
        twin = Client(self.port, self.key, self.secret, self.username, self.password, self.host, self.within)
        twin.token, twin.session = self.token, self.session
        return twin

    def login(self):
        self.token = self.fetch_token()
        answer = self.call("POST", "/api/m2m/v1/session/login",
                           {"username": self.username, "password": self.password})
        if answer.status != 200:
            raise RuntimeError(f"login: {answer.status} {answer.raw[:300]!r}")
        self.session = answer.json["sessionToken"]
        return self

    def fetch_token(self):
        answer = self.send("POST", "/api/ts/v1/oauth2/token", b"grant_type=client_credentials",
                           {"Authorization": basic(self.key, self.secret),
                            "Content-Type": "application/x-www-form-urlencoded"})
        if answer.status != 200:
            raise RuntimeError(f"token: {answer.status} {answer.raw[:300]!r}")
        return answer.json["access_token"]

    def headers(self):
        headers = {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.session:
            headers["VZ-M2M-Token"] = self.session
        return headers

    def call(self, method, path, body=None, headers=None):
        """Sends with token and session; `body` is JSON, or bytes. A header given as None is left out."""
        all_headers = self.headers()
        if body is not None:
            all_headers["Content-Type"] = "application/json"
            if not isinstance(body, bytes):
                body = json.dumps(body, separators=(",", ":")).encode()
        all_headers |= headers or {}
        return self.send(method, path, body,
                         {name: value for name, value in all_headers.items() if value is not None})

    def send(self, method, path, body, headers):
        """Sends exactly this, once. Raises `NoAnswer`."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.host, self.port, timeout=self.within)
        try:
            self.connection.request(method, path, body=body, headers=headers)
            response = self.connection.getresponse()
            answer = Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        if response.will_close:
            self.close()
        return answer

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # The actions

    def act(self, action, account, iccids, key=None, plan=None):
        headers = {"Idempotency-Key": key} if key else None
        return self.call("POST", ACTIONS + action, action_body(account, iccids, plan), headers)

    def resume(self, account, iccids, key=None, plan=None):
        return self.act("profile_resume", account, iccids, key, plan)

    # Reveille's own surface

    def get(self, path):
        answer = self.call("GET", path)
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {answer.raw[:300]!r}")
        return answer.json

    def pages(self, path, member):
        """All entries of a list that comes in pages."""
        after = None
        joint = "&" if "?" in path else "?"
        while True:
            page = self.get(f"{path}{joint}limit={PAGE}" + (f"&after={after}" if after is not None else ""))
            yield from page[member]
            after = page.get("next")
            if after is None:
                return

    def request(self, request_id):
        return self.get(f"{OWN}/requests/{request_id}")

    def requests(self, account, query=""):
        return list(self.pages(f"{OWN}/requests?account={account}{query}", "requests"))

    def subrequests(self, request_id, query=""):
        return list(self.pages(f"{OWN}/requests/{request_id}/subrequests{query}", "subrequests"))

    def profiles(self, account, query=""):
        return list(self.pages(f"{OWN}/profiles?account={account}{query}", "profiles"))

    def callbacks(self, account, query=""):
        return list(self.pages(f"{OWN}/callbacks?account={account}{query}", "callbacks"))

    def carrier(self, network):
        return next(one for one in self.get(f"{OWN}/carriers")["carriers"] if one["network"] == network)

    def on_network(self, iccid):
        """What the profile's network says of it."""
        return self.get(f"{OWN}/profiles/{iccid}/network")

    def called(self, iccid):
        """What the calls to the carrier came to, by the profile's timeline."""
        return [event["detail"] for entry in self.get(f"{OWN}/profiles/{iccid}/timeline")["timeline"]
                for event in entry["events"] if event["event"] == "called"]

    def get_many(self, paths):
        """GETs many paths over a few connections, pipelined; the JSON bodies in order."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            parts = pool.map(self.get_some, (paths[first::CONNECTIONS] for first in range(CONNECTIONS)))
            bodies = [iter(part) for part in parts]
        return [next(bodies[place % CONNECTIONS]) for place in range(len(paths))]

    def get_some(self, paths):
        """The same over one connection."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())
        bodies = []
        with socket.create_connection((self.host, self.port), timeout=ANSWER_WITHIN) as connection:
            answers = connection.makefile("rb")
            for first in range(0, len(paths), PIPELINED):
                some = paths[first:first + PIPELINED]
                connection.sendall("".join(
                    f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{head}\r\n"
                    for path in some).encode())
                for path in some:
                    status, raw = read_answer(answers)
                    if status != 200:
                        raise RuntimeError(f"GET {path}: {status} {raw[:300]!r}")
                    bodies.append(json.loads(raw))
        return bodies

    def wait_ended(self, account, within, callbacks=True):
        """Waits until every request (and every callback) of the account ended; returns the requests."""
        deadline = time.monotonic() + within
        while True:
            requests = self.requests(account)
            open_ones = [request for request in requests if request["state"] != "ended" or
                         callbacks and request["callbacks"]["waiting"]]
            if not open_ones:
                return requests
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(open_ones)} requests not ended after {within} s, such as {open_ones[0]}")
            time.sleep(0.05)

    def wait_told(self, account, listener, within):
        """Waits until nothing waits for a further listener of the account."""
        deadline = time.monotonic() + within
        while waiting := self.get(f"{OWN}/callbacks?account={account}&listener={listener}&state=waiting&limit=1")["callbacks"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{waiting[0]} waits still after {within} s")
            time.sleep(0.05)


def read_answer(stream):
    """Status and body of one answer with Content-Length."""
    status = int(stream.readline().split(b" ", 2)[1])
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"transfer-encoding":
            raise RuntimeError("a chunked answer where Content-Length was expected")
    return status, stream.read(length)


def basic(key, secret):
    return "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()


def action_body(account, iccids, plan=None):
    body = {"devices": [{"deviceIds": [{"kind": "iccid", "id": iccid}]} for iccid in iccids],
            "accountName": account}
    if plan is not None:
        body["servicePlan"] = plan
    return body


# What every proof does

@contextlib.contextmanager
def scratch(report, name, keep=True):
    """A temporary folder: removed when no check failed, kept and named otherwise."""
    folder = Path(tempfile.mkdtemp(prefix=f"reveille-{name}-"))
    failed_before = report.failed
    try:
        yield folder
    except BaseException:
        if keep:
            print(f"kept: {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if keep and report.failed > failed_before:
        print(f"kept: {folder}", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def arguments_of(description, *adding, seed=True):
    """The command line that the proofs share."""
    parser = argparse.ArgumentParser(description=description.strip(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.environ.get("REVEILLE_BINARY") or str(BINARY),
                        help="the server (default: target/release/reveille, or $REVEILLE_BINARY)")
    if seed:
        parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32),
                            help="of the random numbers (default: a new one, printed)")
    for names, options in adding:
        parser.add_argument(*names, **options)
    arguments = parser.parse_args()
    if not os.access(arguments.binary, os.X_OK):
        sys.exit(f"there is no server at {arguments.binary}: build it with cargo build --release, or name it with --binary")
    if seed:
        print(f"seed {arguments.seed}", flush=True)
    return arguments


def argument(*names, **options):
    return names, options


def run_proof(report, proof, *arguments):
    """Runs `proof`; an exception is a failed check. Ends the process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        proof(report, *arguments)
    except KeyboardInterrupt:
        report.check("not interrupted", False)
    except Exception as error:  # whatever it was, the proof did not run to its end
        import traceback
        traceback.print_exc()
        report.check("the proof ran to its end", False, f"{type(error).__name__}: {error}")
    sys.exit(report.end())


def main():
    from listener import Listener
    from report import Report

    arguments = arguments_of(__doc__, argument("--profiles", type=int, default=1000, help="in the fleet (default: 1000)"),
                             argument("--for", dest="seconds", type=float, default=600,
                                      help="seconds to serve (default: 600)"), seed=False)
    report = Report()
    with scratch(report, "server") as folder, Listener(folder / "callbacks.log") as listener, \
            Server(folder, arguments.binary) as server:
        server.apply(apply_text({ACCOUNT: listener.url("/ok")}))
        server.import_fleet(fleet(ACCOUNT, arguments.profiles))
        server.start()
        client = server.client()
        print(f"http://127.0.0.1:{server.port}   files in {folder}\n"
              f"Authorization: Bearer {client.token}\nVZ-M2M-Token: {client.session}\n"
              f"account {ACCOUNT}, suspended ICCIDs such as {fleet(ACCOUNT, 1)[0].iccid}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            deadline = time.monotonic() + arguments.seconds
            while server.alive() and time.monotonic() < deadline:
                time.sleep(0.2)
        report.check("the server served until it was stopped", server.alive(), server.last_log())
        report.equal("it stops in order", server.stop(), 0)
    sys.exit(report.end())


if __name__ == "__main__":
    main()
