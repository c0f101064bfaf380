#!/usr/bin/env python3
"""The full circle on a real FreeRADIUS with PostgreSQL: what a customer asks of Reveille is what a device meets.

1. One profile: suspended by the API, its device is refused by FreeRADIUS, seen by `radclient`; resumed it is let in; the
   callbacks say so, the timeline says from when on, and FreeRADIUS is told to end the session.
2. What a RADIUS server cannot do is refused before it is accepted; whom it does not know fails, and it is said so; what
   others change is seen.
3. Hundreds of profiles, while the database and the server are restarted and killed: nothing is lost, and FreeRADIUS,
   inventory and callbacks agree profile by profile.
4. Suspensions and resumes of the same profiles behind each other, while the database is frozen and the server killed: what
   was asked for last is so.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from cluster import Cluster, readable
from listener import Listener
from report import Report
from server import ACCOUNT, Server, apply_text, argument, arguments_of, fleet, run_proof, scratch

KEEPER = Path(__file__).resolve().parent.parent / "radius.sh"
SCHEMA = Path("/etc/freeradius/3.0/mods-config/sql/main/postgresql/schema.sql")
SECRET, PASSWORD = "testing123", "a password"
REALM = "@apn.example"
TIMEOUT = 1.0  # seconds: the carrier's, so that a frozen database is soon past it
READY_WITHIN = 60.0
ENDED_WITHIN = 60.0


class FreeRadius:
    """FreeRADIUS with its users in a database of the cluster. `../radius.sh` keeps it."""

    def __init__(self, cluster, address):
        self.address, self.cluster = address, cluster
        self.url = cluster.database()
        cluster.psql(SCHEMA.read_text(), self.url)
        name = self.url.rsplit("/", 1)[1]
        self.keeper = subprocess.Popen([KEEPER, address, "postgresql", str(cluster.port), name], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True, process_group=0)
        if not readable(self.keeper.stdout, READY_WITHIN):
            raise TimeoutError("FreeRADIUS is not ready in time")
        line = self.keeper.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"FreeRADIUS: {line}{self.keeper.stdout.read()}")
        self.folder = Path(line.split(" ", 1)[1].strip())

    def create(self, *users):
        rows = ", ".join(f"('{user}', 'Cleartext-Password', ':=', '{PASSWORD}')" for user in users)
        self.sql(f"INSERT INTO radcheck (username, attribute, op, value) VALUES {rows}")

    def sql(self, text):
        return self.cluster.psql(text, self.url)

    def lets_in(self, *users):
        """What radclient is told of each user, in turn: whether he is let in."""
        asked = "\n".join(f'User-Name = "{user}", User-Password = "{PASSWORD}"\n' for user in users)
        done = subprocess.run(["radclient", "-r", "10", "-t", "1", self.address, "auth", SECRET], input=asked, text=True,
                              capture_output=True, timeout=60)
        answers = [line.split(" ", 2)[1] for line in done.stdout.splitlines() if line.startswith("Received ")]
        if len(answers) != len(users) or not {*answers} <= {"Access-Accept", "Access-Reject"}:
            raise RuntimeError(f"radclient: {len(answers)} of {len(users)} are answered: {done.stderr[-300:]}")
        return {user: answer == "Access-Accept" for user, answer in zip(users, answers)}

    def ended(self):
        """Users whom it was told to end, each with the session that was named."""
        return [line.split(" ")[:2] for line in (self.folder / "ended.log").read_text().splitlines()]

    def close(self):
        self.keeper.stdin.close()
        self.keeper.wait(30)
        self.keeper.stdout.close()


class Circle:
    """A server before a FreeRADIUS that knows its Global profiles, and a listener."""

    def __init__(self, folder, arguments, cluster, profiles, disconnect=False):
        self.fleet = [one for one in fleet(ACCOUNT, 2 * profiles, state="ACTIVE") if one.network == "global"][:profiles]
        self.users = {one.iccid: one.imsi + REALM for one in self.fleet}
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self.radius = FreeRadius(cluster, arguments.address)
            stack.callback(self.radius.close)
            self.radius.create(*self.users.values())
            self.listener = stack.enter_context(Listener(folder / "callbacks.log"))
            carriers = {"global": self.carrier(folder, disconnect), "verizon-us": 'kind = "simulated"\n'}
            self.server = stack.enter_context(Server(folder, arguments.binary, carriers=carriers))
            self.server.apply(apply_text({ACCOUNT: self.listener.url("/ok")}))
            self.server.import_fleet(self.fleet)
            self.server.start()
            self.client = self.server.client()
            self.stack = stack.pop_all()

    def carrier(self, folder, disconnect):
        secret = folder / "secret"
        secret.write_text(f"{SECRET}\n")
        ends = f'disconnect = "{self.radius.address}:3799"\ndisconnect_secret_file = "{secret}"\n' if disconnect else ""
        return (f'kind = "radius"\ntimeout = "{TIMEOUT}s"\nretry_first = "50ms"\nretry_longest = "500ms"\n'
                f'[carriers.global.radius]\ndatabase = "{self.radius.url}"\nusername = "{{imsi}}{REALM}"\n{ends}')

    def ask(self, action, iccids):
        return self.client.act(action, ACCOUNT, iccids)

    def do(self, report, action, iccids):
        """Asks, waits until all has ended and was told; what the callbacks said, counted."""
        answer = self.ask(action, iccids)
        if not report.check(f"{action} is accepted", answer.status == 200, answer.status, answer.raw[:300]):
            return Counter()
        self.client.wait_ended(ACCOUNT, ENDED_WITHIN)
        return self.told(answer.request_id)

    def told(self, request_id):
        bodies = [json.loads(received.body) for received in self.listener.received()]
        once = {body["deviceIds"][-1]["id"]: body for body in bodies if body["requestId"] == request_id}
        return Counter(body.get("faultResponse", body).get("faultcode", body["status"]) for body in once.values())

    def let_in(self, iccid):
        return self.radius.lets_in(self.users[iccid])[self.users[iccid]]

    def restart(self):
        self.server.kill()
        self.server.start()
        self.client = self.server.client()

    def agree(self, report, name, state):
        """FreeRADIUS and inventory, profile by profile; and nothing is left in the database but what shall be."""
        recorded = {one.iccid: one.state for one in self.server.fleet()}
        let_in = self.radius.lets_in(*self.users.values())
        report.none(f"{name}: the inventory has every profile as {state}",
                    (iccid for iccid in self.users if recorded[iccid] != state))
        report.none(f"{name}: FreeRADIUS agrees, profile by profile",
                    (iccid for iccid, user in self.users.items() if let_in[user] != (state == "ACTIVE")))
        rows = self.radius.sql("SELECT count(*), count(DISTINCT username) FROM radcheck WHERE value = 'Reject'")
        refused = str(len(self.users)) if state == "SUSPEND" else "0"
        report.equal(f"{name}: one refusal for each that is refused", rows, [[refused, refused]])

    def close(self):
        self.stack.close()


def proof(report, arguments):
    if shutil.which("radclient") is None or not SCHEMA.exists():
        raise RuntimeError("FreeRADIUS is missing: apt-get install --no-install-recommends freeradius freeradius-utils "
                           "freeradius-postgresql")
    dice = random.Random(arguments.seed)
    with Cluster("fsync = off") as cluster:  # a crash of its processes loses nothing by that
        for name, part in (("one", one_profile), ("faults", what_cannot_be), ("many", many), ("order", order)):
            if arguments.only in (None, name):
                with scratch(report, f"radius-{name}") as folder:
                    part(report, arguments, folder, dice, cluster)


def one_profile(report, arguments, folder, dice, cluster):
    for name, disconnect in (("without disconnect", False), ("with disconnect", True)):
        circle = Circle(folder / name.replace(" ", "-"), arguments, cluster, 3, disconnect)
        try:
            iccid, user = next(iter(circle.users.items()))
            circle.radius.sql("INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime) "
                              f"VALUES ('81a2f3', '81a2f3', '{user}', '10.0.0.7', now())")
            report.check(f"{name}: let in", circle.let_in(iccid))
            report.equal(f"{name}: suspended", circle.do(report, "profile_suspend", [iccid]), Counter({"SUCCESS": 1}))
            report.check(f"{name}: refused", not circle.let_in(iccid))
            report.equal(f"{name}: whose session is to be ended", circle.radius.ended(), [[user, "81a2f3"]] * disconnect)
            report.equal(f"{name}: the timeline is honest about when",
                         ["at_next_registration" in one for one in circle.client.called(iccid)], [not disconnect])
            report.equal(f"{name}: the others are let in", [circle.let_in(other) for other in list(circle.users)[1:]],
                         [True, True])
            report.equal(f"{name}: resumed", circle.do(report, "profile_resume", [iccid]), Counter({"SUCCESS": 1}))
            report.check(f"{name}: let in again", circle.let_in(iccid))
        finally:
            circle.close()


def what_cannot_be(report, arguments, folder, dice, cluster):
    circle = Circle(folder, arguments, cluster, 3)
    try:
        first, stranger = list(circle.users)[0], list(circle.users)[-1]
        before = len(circle.client.requests(ACCOUNT))
        refused = circle.ask("enable", [first])
        report.check("what a RADIUS server cannot do is refused", refused.status == 400
                     and "[INPUT_INVALID.Action.NotSupported]" in refused.json["errorMessage"], refused.raw[:300])
        report.equal("and leaves nothing behind", len(circle.client.requests(ACCOUNT)), before)
        report.equal("the network says what is recorded", circle.client.on_network(first),
                     {"network": "global", "answer": "seen", "inService": True, "agrees": True})
        circle.radius.sql("INSERT INTO radcheck (username, attribute, op, value) "
                          f"VALUES ('{circle.users[first]}', 'Auth-Type', ':=', 'Reject')")
        report.equal("what others changed is seen", circle.client.on_network(first),
                     {"network": "global", "answer": "seen", "inService": False, "agrees": False})
        circle.radius.sql(f"DELETE FROM radcheck WHERE username = '{circle.users[stranger]}'")
        report.equal("and whom it does not know", circle.client.on_network(stranger)["answer"], "no_such_profile")
        report.equal("a user whom the server does not know fails", circle.do(report, "profile_suspend", [first, stranger]),
                     Counter({"SUCCESS": 1, "UnifiedWebService.REQUEST_FAILED.CarrierRejected": 1}))
        checked = circle.server.command("check")
        report.check("reveille check asks it", "global: radius, which answers" in checked, checked)
    finally:
        circle.close()


def many(report, arguments, folder, dice, cluster):
    circle = Circle(folder, arguments, cluster, arguments.profiles)
    try:
        for action, state in (("profile_suspend", "SUSPEND"), ("profile_resume", "ACTIVE")):
            answer = circle.ask(action, list(circle.users))
            for number in range(arguments.kills):
                time.sleep(dice.uniform(0.0, 0.1))
                cluster.restart(dice.choice(("fast", "immediate")))
                if number % 2:
                    circle.restart()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            report.equal(f"{action}: every profile is told of once, as done", circle.told(answer.request_id),
                         Counter({"SUCCESS": len(circle.users)}))
            circle.agree(report, action, state)
    finally:
        circle.close()


def order(report, arguments, folder, dice, cluster):
    """What was left on a connection must not come after what was asked for later."""
    circle = Circle(folder, arguments, cluster, 64)
    try:
        for turn in range(arguments.turns):
            suspended = circle.ask("profile_suspend", list(circle.users))
            time.sleep(dice.uniform(0.0, 0.02))
            cluster.freeze()
            circle.ask("profile_resume", list(circle.users))
            time.sleep(dice.uniform(0.0, 1.5 * TIMEOUT))
            thaw = threading.Timer(dice.uniform(0.0, 0.2), cluster.thaw)
            thaw.start()
            circle.restart()
            thaw.join()
            circle.client.wait_ended(ACCOUNT, ENDED_WITHIN)
            report.equal(f"turn {turn + 1}: suspended", circle.told(suspended.request_id), 
                         Counter({"SUCCESS": len(circle.users)}))
            circle.agree(report, f"turn {turn + 1}", "ACTIVE")
    finally:
        circle.close()


def main():
    arguments = arguments_of(__doc__, argument("--address", default=f"127.79.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}",
                                               help="a loopback address for FreeRADIUS"),
                             argument("--profiles", type=int, default=500), argument("--kills", type=int, default=2),
                             argument("--turns", type=int, default=2),
                             argument("--only", choices=("one", "faults", "many", "order")))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
