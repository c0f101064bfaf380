#!/usr/bin/env python3
"""Many nodes on one database: whatever dies, freezes or is cut off, nothing is lost, doubled or out of order.

Three nodes share a PostgreSQL cluster, each behind a proxy of its own; ten accounts have a listener each, and
eUICCs with four profiles. Customers suspend and resume at any node, thousands at once or a few, and repeat their
Idempotency-Keys at other nodes. Meanwhile one fault after the other is made, sometimes several at once: nodes die
or freeze for longer than their leases, are cut off from the database, or lose its answers; the database restarts
or crashes; listeners refuse or hang. Then all is healed, and when nothing is under way any more, the independent
checker compares the journal, the listeners' logs, the fleet and the API.

In between a node is killed just after it has accepted a request, while the others and the database are left in
peace: that work must be gone on with soon after the dead node's lease. In the end all but one are killed,
while the one that is left has later work on the same eUICCs.
"""

import contextlib
import http.client
import random
import re
import signal
import threading
import time
import uuid
from collections import Counter, namedtuple

from checker import check, check_further, instant
from cluster import Cluster
from journal import Journal
from listener import Listener, read_log
from proxy import Proxy
from report import Report
from server import (KEY, OWN, SECRET, Client, NoAnswer, apply_text, argument, arguments_of, basic, nodes, profile, run_proof,
                    scratch)

NODES = 3
LEASE = 4.0  # seconds; two more than any call or attempt may take
GONE_ON_WITHIN = LEASE + 5.0  # seconds after a node's death, in which others have noticed
CONFIGURATION = {
    "latency": "150ms",
    "retry_after": ("300ms", "1s", "2s", "4s"),
    "carrier": 'concurrency = 64\ntimeout = "2s"\nretry_first = "50ms"\nretry_longest = "400ms"\n'
               'retry_later_per_mille = 20\nunanswered_per_mille = 2',
    "before": f'database_lease = "{LEASE:.0f}s"\n',
    "environment": {"REVEILLE_CALLBACKS_TIMEOUT": "1s"},
}

SLOW_FOR_ALL, SLOW_MICROSECONDS = "commit_siblings = 0", 100_000  # a commit is slow also when nothing else commits

ACCOUNTS = tuple(f"0000{300_000 + number}-{number:05d}" for number in range(10))
LARGE, TIMED = ACCOUNTS[0], ACCOUNTS[-1]  # one has enough for the largest request, one is left to what is timed
PROFILES_OF_LARGE, PROFILES = 10_000, 1_200  # of the others
FURTHER, WITH_FURTHER = "further", ACCOUNTS[1:3]  # accounts whose outcomes are told to one more listener
PER_EUICC = 4
NEXT_BULK = 1_500  # profiles in a bulk request; the first one of the large account has all, the contract's limit
NEXT_BULK_BELOW = 3_000  # waiting profiles at which the next bulk request is sent
SENDERS = 4
REPEATS_WAITING = 20  # of them wait, so that some are sent after a fault
CANCELLED = 0.04  # of the looks at the requests cancel one
SEEN_AT_ONCE = 200  # outcomes noted in the journal at one look
ANSWERED_WITHIN = 10.0  # seconds until a client gives up; it may be answered by another node
TIMED_AT_ONCE = 39  # profiles of one request that is timed, all that can be suspended of 13 eUICCs
LEFT = 200  # profiles of each of the requests that the last node finds

FORGOTTEN_WITHIN = 1.5  # seconds after which no node takes what was ended at another
HEALED_WITHIN = 60.0
ENDED_WITHIN = 120.0  # seconds after the last fault
REPEATED_WITHIN = 60.0
ROAMER, ROAMERS_SECRET = "roaming-key", "roaming-secret"  # a client whose tokens come and go
LOGOUT, REVOKE = "/api/m2m/v1/session/logout", "/api/ts/v1/oauth2/revoke"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    until = time.monotonic() + 60 * arguments.minutes
    run(report, arguments, 1, dice)
    number = 2
    while time.monotonic() < until:
        run(report, arguments, number, dice)
        number += 1


def run(report, arguments, number, dice):
    with scratch(report, f"nodes-{number}") as folder:
        house = House(folder, arguments.binary)
        try:
            house.start()
            if arguments.failover:
                house.have_a_standby(arguments.failover == "synchronous")
            plan = plan_of(arguments.faults, dice)
            report.say(f"run {number}: {NODES} nodes serve {len(house.fleet)} profiles; {len(plan)} faults in "
                       f"{plan[-1].at if plan else 0:.0f} s")
            work = Work(house, dice)
            chaos = Chaos(house, folder / "faults.log", work)
            work.begin()
            chaos.make(plan)
            if arguments.failover:
                chaos.fail_over()
            chaos.heal(report)
            work.finish(report)
            wait_ended(report, work)
            leave_one(report, house, work, dice)
            judge(report, house, work, chaos)
        finally:
            house.close()


# What there is

class House:
    """The cluster, the nodes with their proxies, the accounts with their listeners."""

    def __init__(self, folder, binary):
        self.folder = folder
        self.over = threading.Event()  # nothing is revived any more
        self.stack = contextlib.ExitStack()
        self.listeners = {}
        try:
            self.cluster = self.stack.enter_context(Cluster(SLOW_FOR_ALL, log=folder / "postgresql.log"))
            self.database = self.cluster.database()
            self.proxies = [self.stack.enter_context(Proxy(self.cluster.port)) for _ in range(NODES)]
            self.nodes = nodes(folder, [proxy.url(self.database) for proxy in self.proxies], binary=binary, **CONFIGURATION)
            for node in self.nodes:
                self.stack.enter_context(node)
            for account in ACCOUNTS:
                self.listeners[account] = self.stack.enter_context(Listener(folder / f"callbacks-{account}.log"))
            self.further = {account: self.stack.enter_context(Listener(folder / f"further-{account}.log"))
                            for account in WITH_FURTHER}
        except BaseException:
            self.close()
            raise
        self.journal_path = folder / "journal.jsonl"
        self.journal = Journal(self.journal_path)
        self.fleets = fleets()
        self.fleet = [one for fleet in self.fleets.values() for one in fleet]

    def start(self):
        urls = {account: listener.url("/flaky") for account, listener in self.listeners.items()}
        further = [(account, FURTHER, listener.url("/flaky")) for account, listener in self.further.items()]
        self.nodes[0].apply(apply_text(urls, clients={KEY: SECRET, ROAMER: ROAMERS_SECRET}, further=further))
        self.nodes[1].import_fleet(self.fleet)
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait_ready()

    def revive(self, node):
        """Starts a node until it is ready, as whoever keeps services running would; it ends where it finds no database."""
        while not self.over.is_set():
            node.start(wait=False)
            with contextlib.suppress(RuntimeError):
                return node.wait_ready(HEALED_WITHIN)
            node.kill()
            time.sleep(0.2)

    def have_a_standby(self, is_synchronous):
        """From now on each commit waits until the standby has it on its disk too; or does not."""
        self.standby = self.stack.enter_context(Cluster(log=self.folder / "standby.log", standby_of=self.cluster))
        self.standby_lags = not is_synchronous
        if not is_synchronous:
            return
        self.cluster.psql("ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()")
        deadline = time.monotonic() + HEALED_WITHIN
        while not self.cluster.is_followed():
            if time.monotonic() > deadline:
                raise TimeoutError("the standby does not follow")
            time.sleep(0.1)

    def fail_over(self):
        """The database's machine is lost, a while after its standby; the standby comes back and takes its place.

        Before that the database crashes: started again, it shows also what waited for the standby, and is now
        forgotten with the machine. Where commits wait, nobody may have been told of it."""
        self.standby.stop("immediate")
        time.sleep(LAGS)
        if not self.standby_lags:
            self.cluster.kill9()
            self.cluster.start()
            time.sleep(SHOWN_ALONE)
        self.cluster.kill9()
        self.standby.start()
        for proxy in self.proxies:
            proxy.partition()
        self.standby.promote()
        self.cluster, self.database = self.standby, self.standby.url(self.database.rpartition("/")[2])
        for proxy in self.proxies:
            proxy.lead_to(self.cluster.port)
            proxy.resume()

    def slow_commits(self, is_slow):
        """From now on, as on a slow disk; what is under way then may not be."""
        self.cluster.psql(f"ALTER SYSTEM SET commit_delay = {SLOW_MICROSECONDS if is_slow else 0}; SELECT pg_reload_conf()")

    def close(self):
        self.over.set()
        self.stack.close()


def fleets():
    """Account → its profiles, on eUICCs with a leading US profile, and a local US one and two Global ones, all
    suspended."""
    made, number = {}, 0
    for account in ACCOUNTS:
        made[account] = []
        for _ in range((PROFILES_OF_LARGE if account == LARGE else PROFILES) // PER_EUICC):
            lead, first = profile(account, number, "verizon-us"), profile(account, number, "global")
            others = profile(account, number + 1, "verizon-us"), profile(account, number + 1, "global")
            local = others[0]._replace(role="LOCAL", profile_status="DISABLE", suspended_by="profile")
            number += 2
            made[account] += [one._replace(eid=lead.eid, imei=lead.imei) for one in (lead, first, local, others[1])]
    return made


# Faults

Kind = namedtuple("Kind", "name share hits lasts needs", defaults=[(0.0, 0.0), ()])  # `share` of 50; what must be well
Planned = namedtuple("Planned", "at kind target seconds is_timed")
KINDS = (
    Kind("kill -9", 9, "node", (0.1, 2.5)),
    Kind("freeze", 6, "node", (LEASE + 0.5, LEASE + 3)),
    Kind("cut", 3, "way"),
    Kind("cut commits", 5, "way", (0.02, 0.06), ("node", "database")),
    Kind("lose answers", 6, "way", (0.02, 1)),
    Kind("stall", 5, "way", (0.5, LEASE + 2)),
    Kind("partition", 4, "way", (0.5, LEASE + 2)),
    Kind("restart fast", 3, "database", (0, 1)),
    Kind("restart immediate", 2, "database", (0, 1)),
    Kind("kill -9 all", 2, "database", (0, 1)),
    Kind("refuse", 3, "listener", (1, 4)),
    Kind("hang", 2, "listener", (1, 4)),
)
LAGS = 0.7  # seconds by which a standby is behind
SHOWN_ALONE = 2.0  # seconds for which the database shows what its standby does not have
BEFORE_AND_AFTER = 3.0  # seconds of work before and after a failover
BETWEEN = (0.1, 0.9)  # seconds from one fault to the next
TAKES = {"node": 1.5, "way": 0.1, "database": 4.0, "listener": 0.1}  # seconds that a fault takes besides
ACCEPTED_MEANWHILE = 5  # requests, where commits are cut
CUTS_TAKE = 1.0  # seconds, with what they need
TIMED_KILLS = 0.25  # of all kills are timed
LEFT_ALONE = [(hits, number) for hits in ("node", "way") for number in range(NODES)] + [("database", 0)]  # meanwhile
LEFT_IN_PEACE = GONE_ON_WITHIN + 0.5


def plan_of(count, dice):
    """Which faults are made when, where and for how long; all of it follows from the dice."""
    whole, rest = divmod(count, sum(kind.share for kind in KINDS))
    kinds = [kind for kind in KINDS for _ in range(kind.share)]
    kinds = kinds * whole + dice.sample(kinds, rest)
    dice.shuffle(kinds)
    kills = [place for place, kind in enumerate(kinds) if kind.name == "kill -9"]
    timed = dice.sample(kills, round(TIMED_KILLS * len(kills)))
    waiting = [(kind, place in timed) for place, kind in enumerate(kinds)]
    busy_until, plan, at = Counter(), [], 1.0
    while waiting:
        next_timed = next((place for place, (_, is_timed) in enumerate(waiting) if is_timed), len(waiting))
        fitting = ((one, targets_of(*one, at, busy_until)) for one in waiting[:next_timed + 1])
        (kind, is_timed), targets = next(((one, targets) for one, targets in fitting if targets), ((None, False), None))
        if kind is None:
            at += 0.1
            continue
        waiting.remove((kind, is_timed))
        target, seconds = dice.choice(targets), dice.uniform(*kind.lasts)
        plan.append(Planned(at, kind, target, seconds, is_timed))
        busy_until[target] = at + seconds + TAKES[kind.hits]
        busy_until |= {one: at + CUTS_TAKE for one in needed(kind, target[1])}
        if is_timed:
            busy_until |= {one: at + LEFT_IN_PEACE for one in LEFT_ALONE}
        at += dice.uniform(*BETWEEN)
    return plan


def targets_of(kind, is_timed, at, busy_until):
    """Whom a fault may hit now: not whoever is hit already. One that is timed is made when nothing else is."""
    if is_timed and any(busy_until[one] > at for one in LEFT_ALONE):
        return []
    count = {"node": NODES, "way": NODES, "database": 1, "listener": len(ACCOUNTS) - 1}[kind.hits]
    return [(kind.hits, number) for number in range(count)
            if all(busy_until[one] <= at for one in ((kind.hits, number), *needed(kind, number)))]


def needed(kind, number):
    return [(hits, 0 if hits == "database" else number) for hits in kind.needs]


class Chaos:
    """Makes the faults that are planned, each in a thread of its own, and writes down when it did."""

    def __init__(self, house, log, work):
        self.house = house
        self.work = work
        self.log = open(log, "a", buffering=1)
        self.began = time.time()
        self.locks = {(hits, number): threading.Lock() for hits in TAKES for number in range(len(ACCOUNTS))}
        self.threads = []
        self.troubles = []  # (kind, target, from, until)
        self.deaths = []  # (node, when, the request that it had just accepted, one that another node accepted then)
        self.failures = []

    def make(self, plan):
        began = time.monotonic()
        for fault in plan:
            time.sleep(max(0.0, began + fault.at - time.monotonic()))
            thread = threading.Thread(target=self.make_one, args=(fault,), daemon=True)
            thread.start()
            self.threads.append(thread)
        for thread in self.threads:
            thread.join(2 * HEALED_WITHIN)

    def make_one(self, fault):
        hits, number = fault.target
        target = f"{hits} {ACCOUNTS[number] if hits == 'listener' else number + 1}"
        with self.locks[fault.target]:
            began = time.time()
            self.note(f"{target}: {fault.kind.name} for {fault.seconds:.2f} s{', timed' if fault.is_timed else ''}")
            try:
                make = Chaos.time_death if fault.is_timed else FAULTS[fault.kind.name]
                make(self, number, fault.seconds)
            except Exception as error:
                self.failures.append(f"{target}: {fault.kind.name}: {type(error).__name__}: {error}")
            ended = time.time()
            self.note(f"{target}: over, {ended - began:.2f} s after {fault.kind.name}")
        self.troubles.append((fault.kind.name, fault.target, began, ended))
        if hits != "listener":
            self.house.journal.trouble(f"{target}: {fault.kind.name}", began, ended)

    def note(self, text):
        self.log.write(f"{time.time():.3f} {time.time() - self.began:7.3f} {text}\n")

    def kill_node(self, number, seconds):
        self.house.journal.killed()
        self.house.nodes[number].kill()
        time.sleep(seconds)
        self.house.revive(self.house.nodes[number])

    def time_death(self, number, seconds):
        """Kills it when it has just accepted something, if it does. What another accepts then says how fast all is."""
        request_id = self.work.send_timed(number)
        died = time.time()
        self.house.journal.killed()
        self.house.nodes[number].kill()
        self.deaths.append((number, died, request_id, self.work.send_timed((number + 1) % NODES)))
        time.sleep(seconds)
        self.house.revive(self.house.nodes[number])

    def freeze_node(self, number, seconds):
        process = self.house.nodes[number].process
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    def cut(self, number, _):
        self.house.proxies[number].cut()

    def cut_commits(self, number, seconds):
        """Cuts it while it accepts one thing after the other and commits take long: one of them is under way then."""
        with contextlib.suppress(RuntimeError):  # the database may be away
            self.house.slow_commits(True)
        accepting = [threading.Thread(target=self.work.send_timed, args=(number,)) for _ in range(ACCEPTED_MEANWHILE)]
        for thread in accepting:
            thread.start()
            time.sleep(seconds)
        self.house.proxies[number].cut()
        with contextlib.suppress(RuntimeError):
            self.house.slow_commits(False)
        for thread in accepting:
            thread.join()

    def partition(self, number, seconds):
        self.house.proxies[number].partition()
        time.sleep(seconds)
        self.house.proxies[number].resume()

    def stall(self, number, seconds):
        self.house.proxies[number].stall()
        time.sleep(seconds)
        self.house.proxies[number].resume()

    def lose_answers(self, number, seconds):
        proxy = self.house.proxies[number]
        proxy.stall(answers_only=True)
        time.sleep(seconds)
        proxy.cut()
        proxy.resume()

    def restart_fast(self, _, seconds):
        self.restart("fast", seconds)

    def restart_immediate(self, _, seconds):
        self.restart("immediate", seconds)

    def restart(self, mode, seconds):
        self.house.cluster.stop(mode)
        time.sleep(seconds)
        self.house.cluster.start()

    def kill_database(self, _, seconds):
        self.house.cluster.kill9()
        time.sleep(seconds)
        self.house.cluster.start()

    def refuse(self, number, seconds):
        self.listener(number, 503, seconds)

    def hang(self, number, seconds):
        self.listener(number, 0, seconds)

    def listener(self, number, status, seconds):
        listener = self.house.listeners[ACCOUNTS[number]]
        listener.answer(status)
        time.sleep(seconds)
        listener.answer()

    def fail_over(self):
        """While customers are at work; they go on for a while after it."""
        time.sleep(BEFORE_AND_AFTER)
        began = time.time()
        self.note("the database's machine is lost")
        self.house.fail_over()
        self.note(f"its standby has taken its place, {time.time() - began:.2f} s after")
        self.troubles.append(("failover", ("database", 0), began, time.time()))
        self.house.journal.trouble("failover", began, time.time())
        time.sleep(BEFORE_AND_AFTER)

    def heal(self, report):
        """All faults are over: all nodes serve."""
        report.none("every fault was made and healed", self.failures)
        self.log.close()
        self.house.slow_commits(False)
        for node in self.house.nodes:
            node.wait_ready(HEALED_WITHIN)
        kinds = Counter(kind for kind, *_ in self.troubles)
        report.say("healed after " + ", ".join(f"{count} × {kind}" for kind, count in kinds.items()))


FAULTS = {"kill -9": Chaos.kill_node, "freeze": Chaos.freeze_node, "cut": Chaos.cut, "cut commits": Chaos.cut_commits,
          "partition": Chaos.partition, "stall": Chaos.stall, "lose answers": Chaos.lose_answers, "restart fast": Chaos.restart_fast,
          "restart immediate": Chaos.restart_immediate, "kill -9 all": Chaos.kill_database, "refuse": Chaos.refuse,
          "hang": Chaos.hang}


# Customers

class Customer:
    """Signed in once, at any node; calls whichever it likes."""

    def __init__(self, house):
        self.house = house
        self.clients = [Client(node.port, within=ANSWERED_WITHIN) for node in house.nodes]
        self.token = self.session = None

    def sign_in(self, dice):
        """Until it has worked, at one node after the other."""
        while True:
            client = dice.choice(self.clients)
            with contextlib.suppress(NoAnswer, RuntimeError):
                client.login()
                self.token, self.session = client.token, client.session
                return self
            time.sleep(0.05)

    def twin(self):
        twin = Customer(self.house)
        twin.token, twin.session = self.token, self.session
        return twin

    def at(self, number):
        client = self.clients[number]
        client.token, client.session = self.token, self.session
        return client

    def anywhere(self, dice, but=None):
        number = dice.choice([number for number in range(NODES) if number != but])
        return number, self.at(number)


def waits(node):
    """How many subrequests and callbacks wait, by a node's metrics; nothing where it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=ANSWERED_WITHIN)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return {name: int(float(count)) for name, count in re.findall(r"^reveille_(\w+)_waiting (\S+)$", text, re.MULTILINE)}
    return {}


class Work:
    """What customers do meanwhile."""

    def __init__(self, house, dice):
        self.house = house
        self.journal = house.journal
        self.dice = random.Random(dice.random())
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.repeats = []  # (action, account, ICCIDs, key, node): not answered yet, or by chance
        self.latest_bulk = {}  # account → action
        self.errors = []
        self.unknown = []  # who was not known, or still known
        self.threads = []
        self.signed_in = 0
        self.customer = None
        self.timed_iccids = [one.iccid for one in house.fleets[TIMED] if one.role == "LOCAL"]
        self.timed = 0
        self.some_accounts = ACCOUNTS[:-1]

    def begin(self):
        self.customer = Customer(self.house).sign_in(self.dice)
        for work in (self.send_bulks, *[self.send_some] * SENDERS, self.look, self.roam):
            thread = threading.Thread(target=self.until_over, args=(work, random.Random(self.dice.random())), daemon=True)
            thread.start()
            self.threads.append(thread)

    def until_over(self, work, dice):
        customer = self.customer.twin()
        while not self.over.is_set():
            try:
                work(customer, dice)
            except NoAnswer:
                time.sleep(0.01)
            except Exception as error:
                self.errors.append(f"{work.__name__}: {type(error).__name__}: {error}")
                time.sleep(0.1)

    def act(self, customer, number, action, account, iccids, key=None, again=False):
        """One call to one node. Whatever has a key and no certain answer is repeated, sometimes also what has one."""
        answer = self.journal.act(customer.at(number), action, account, iccids, key)
        if key and (again or answer is None or answer.status != 200):
            with self.lock:
                self.repeats.append((action, account, iccids, key, number))
        self.expect(answer, f"{action} of {len(iccids)}")
        return answer

    def expect(self, answer, what):
        """Anything may be answered late, or 503, but nothing else."""
        if answer is not None and answer.status not in (200, 503):
            self.errors.append(f"{what} was answered {answer.status}: {answer.raw[:200]!r}")

    def repeat(self, customer, dice):
        """Repeats one call at another node than before."""
        with self.lock:
            if not self.repeats:
                return
            action, account, iccids, key, before = self.repeats.pop(0)
        number, _ = customer.anywhere(dice, before)
        self.act(customer, number, action, account, iccids, key)

    def send_bulks(self, customer, dice):
        """Resumes many, or suspends what can be, when little waits."""
        account = dice.choice((LARGE, *self.some_accounts)) if self.latest_bulk else LARGE
        waiting = waits(self.house.nodes[dice.randrange(NODES)]).get("subrequests")
        if waiting is None or waiting > NEXT_BULK_BELOW:
            return time.sleep(0.05)
        action = "profile_suspend" if self.latest_bulk.get(account) == "profile_resume" else "profile_resume"
        fleet = self.house.fleets[account]
        iccids = [one.iccid for one in fleet if action == "profile_resume" or one.role == "LOCAL"]
        iccids = dice.sample(iccids, min(NEXT_BULK, len(iccids)) if self.latest_bulk else len(iccids))
        self.latest_bulk[account] = action
        key = str(uuid.UUID(int=dice.getrandbits(128)))
        before = answer = None
        while answer is None or answer.status != 200:
            if self.over.wait(0.02):
                return self.repeats.append((action, account, iccids, key, before))
            before, client = customer.anywhere(dice, before)
            answer = self.journal.act(client, action, account, iccids, key)
            self.expect(answer, f"{action} of {len(iccids)}")
        time.sleep(dice.uniform(0.1, 0.6))

    def send_some(self, customer, dice):
        """A few profiles, often several of one eUICC; mostly with a key, and then often at two nodes at once."""
        account = dice.choice(self.some_accounts)
        fleet = self.house.fleets[account]
        first = dice.randrange(0, len(fleet), PER_EUICC)
        of_one = [one.iccid for one in fleet[first:first + PER_EUICC]]
        iccids = dice.choice((of_one[1:2], of_one[1:], of_one, [one.iccid for one in dice.sample(fleet, 30)]))
        action = dice.choice(("profile_resume", "profile_suspend"))
        key = f"some-{dice.getrandbits(64):016x}" if dice.random() < 0.65 else None
        number, _ = customer.anywhere(dice)
        if key and dice.random() < 0.4:
            other, _ = customer.anywhere(dice, number)
            twin = threading.Thread(target=self.act, args=(customer.twin(), other, action, account, iccids, key))
            twin.start()
            self.act(customer, number, action, account, iccids, key)
            twin.join()
        else:
            self.act(customer, number, action, account, iccids, key, again=dice.random() < 0.3)
        if len(self.repeats) > REPEATS_WAITING:
            self.repeat(customer, dice)
        time.sleep(dice.uniform(0, 0.15))

    def look(self, customer, dice):
        """Notes outcomes that a node tells of: they may not change any more. Cancels a request now and then."""
        account = dice.choice(self.some_accounts)
        answer = customer.anywhere(dice)[1].call("GET", f"{OWN}/requests?account={account}&limit=100")
        self.expect(answer, "a list of requests")
        requests = answer.json["requests"] if answer.status == 200 else []
        if requests:
            request = dice.choice(requests)
            after = dice.randrange(max(1, request["subrequests"] - SEEN_AT_ONCE))
            path = f"{OWN}/requests/{request['requestId']}/subrequests?limit={SEEN_AT_ONCE}&after={after}"
            seen = customer.anywhere(dice)[1].call("GET", path)
            self.expect(seen, path)
            for subrequest in seen.json["subrequests"] if seen.status == 200 else ():
                if subrequest["state"] != "waiting":
                    self.journal.saw(request["requestId"], subrequest)
        running = [request["requestId"] for request in requests if request["state"] == "running"]
        if running and dice.random() < CANCELLED:
            self.expect(self.journal.cancel(customer.anywhere(dice)[1], dice.choice(running)), "a cancellation")
        time.sleep(0.1)

    def roam(self, _, dice):
        """A token and a session made at one node are known at all; ended at one, they are soon unknown at all."""
        guest = Customer(self.house)
        for client in guest.clients:
            client.key, client.secret = ROAMER, ROAMERS_SECRET
        maker, client = guest.anywhere(dice)
        token = client.send("POST", "/api/ts/v1/oauth2/token", b"grant_type=client_credentials", FORM | {"Authorization": basic(ROAMER, ROAMERS_SECRET)})
        if token.status != 200:
            return time.sleep(0.05)
        guest.token = client.token = token.json["access_token"]
        number, client = guest.anywhere(dice, maker)
        login = client.call("POST", "/api/m2m/v1/session/login", {"username": client.username, "password": client.password})
        if login.status != 200:
            if login.status != 503:
                self.unknown.append(f"a token made at node {maker + 1} was answered {login.status} at node {number + 1}: {login.raw[:200]!r}")
            return time.sleep(0.05)
        guest.session = login.json["sessionToken"]
        self.signed_in += 1
        self.roam_around(guest, 200, f"signed in at node {number + 1}")
        end = dice.choice(("logout", "revoke", "nothing"))
        number, client = guest.anywhere(dice)
        if end == "logout":
            answer = client.call("POST", LOGOUT)
        elif end == "revoke":
            answer = client.send("POST", REVOKE, f"grant_type=client_credentials&token={guest.token}".encode(),
                                 FORM | {"Authorization": basic(ROAMER, ROAMERS_SECRET)})
        else:
            return time.sleep(0.1)
        if answer.status in (200, 204):
            time.sleep(FORGOTTEN_WITHIN)
            self.roam_around(guest, 401, f"{end} at node {number + 1}")
        elif answer.status != 503:
            self.errors.append(f"{end} was answered {answer.status}: {answer.raw[:200]!r}")

    def roam_around(self, guest, expected, what):
        for number in range(NODES):
            with contextlib.suppress(NoAnswer):
                answer = guest.at(number).call("GET", f"{OWN}/requests?account={ACCOUNTS[0]}&limit=1")
                if answer.status not in (expected, 503):
                    self.unknown.append(f"{what}, then node {number + 1} answered {answer.status}: {answer.raw[:200]!r}")

    def send_timed(self, number):
        """Has a node accept a request that is timed; its requestId, if it did."""
        with self.lock:
            turn, first = divmod(self.timed, len(self.timed_iccids))
            self.timed += TIMED_AT_ONCE
        action = "profile_suspend" if turn % 2 else "profile_resume"
        iccids = self.timed_iccids[first:first + TIMED_AT_ONCE]
        answer = self.journal.act(self.customer.twin().at(number), action, TIMED, iccids)
        return answer.request_id if answer is not None and answer.status == 200 else None

    def finish(self, report):
        """Ends the sending, and repeats what has no answer yet."""
        self.over.set()
        for thread in self.threads:
            thread.join(4 * ANSWERED_WITHIN)
        customer = self.customer.twin()
        deadline = time.monotonic() + REPEATED_WITHIN
        while self.repeats and time.monotonic() < deadline:
            self.repeat(customer, self.dice)
        report.none("every request with a key was answered in the end",
                    (f"{action} of {account}, key {key}" for action, account, _, key, _ in self.repeats))
        report.none("the nodes answered as the contract says all the time", self.errors)
        report.none("who signed in at one node was known at all, until that ended at one", self.unknown)


# The end

def wait_ended(report, work):
    client, began = work.customer.twin().at(0), time.monotonic()
    try:
        for account in ACCOUNTS:
            client.wait_ended(account, max(1.0, began + ENDED_WITHIN - time.monotonic()))
        for account in WITH_FURTHER:
            client.wait_told(account, FURTHER, max(1.0, began + ENDED_WITHIN - time.monotonic()))
        report.say(f"nothing is under way any more, {time.monotonic() - began:.1f} s after")
    except TimeoutError as error:
        report.check("everything ended", False, error)


def leave_one(report, house, work, dice):
    """The only node that is left has later work on the eUICCs on which a dead one had earlier work; commits are slow."""
    first, left, other = dice.sample(range(NODES), NODES)
    customer = work.customer.twin()
    places = [place + 1 for place in dice.sample(range(0, PROFILES_OF_LARGE, PER_EUICC), LEFT)]  # a Global one, before a US one
    before = [house.fleets[LARGE][place].iccid for place in places]
    after = [house.fleets[LARGE][place + number % 2].iccid for number, place in enumerate(places)]
    house.slow_commits(True)
    house.journal.killed()
    house.nodes[other].kill()
    earlier = house.journal.act(customer.at(first), "profile_suspend", LARGE, before)
    house.journal.killed()
    house.nodes[first].kill()
    died = time.time()
    later = house.journal.act(customer.at(left), "profile_resume", LARGE, after)
    client, ended = customer.at(left), False
    while time.time() < died + 2 * GONE_ON_WITHIN and not ended:
        requests = [client.request(answer.request_id) for answer in (earlier, later)]
        ended = all(request["state"] == "ended" for request in requests)
        time.sleep(0.1)
    report.check(f"the last node went on with everything within {GONE_ON_WITHIN:.0f} s", ended and all(
        instant(request["endedAt"]) < died + GONE_ON_WITHIN for request in requests), *requests)
    report.say(f"the last node has gone on with {LEFT} profiles and {LEFT} more after "
               + ", ".join(f"{instant(request.get('endedAt')) - died:.2f} s" for request in requests))
    house.slow_commits(False)
    for number in (first, other):
        house.revive(house.nodes[number])
    house.journal.trouble("two nodes were dead", died, time.time())
    wait_ended(report, work)


def judge(report, house, work, chaos):
    customer = work.customer.twin()
    client = customer.at(0)
    house.journal.close()
    requests = {account: client.requests(account) for account in ACCOUNTS}
    report.none("every node tells the same of every request",
                (f"{account} at node {number + 1}" for number in range(1, NODES) for account in ACCOUNTS
                 if customer.at(number).requests(account) != requests[account]))
    for number, node in enumerate(house.nodes, 1):
        report.equal(f"node {number} counts nothing that waits", waits(node), {"subrequests": 0, "callbacks": 0})
    report.none("no account has a backlog", house.cluster.psql(
        "SELECT account, sum(waiting) FROM account_backlog GROUP BY account HAVING sum(waiting) <> 0", house.database))
    logs = [listener.log for listener in house.listeners.values()]
    subrequests = sum(request["subrequests"] for some in requests.values() for request in some)
    sends = [received for log in logs for received in read_log(log)]
    report.say(f"{sum(map(len, requests.values()))} requests with {subrequests} profiles, "
               f"{sum(request['cancelled'] for some in requests.values() for request in some)} cancelled, "
               f"{sum(request['callbacks']['archived'] for some in requests.values() for request in some)} callbacks archived; "
               f"{work.signed_in} sessions roamed")
    check_deaths(report, client, chaos, sends)
    world = check(report, client, ACCOUNTS, house.journal_path, logs, house.fleet)
    for account, listener in house.further.items():
        check_further(report, world, client, account, FURTHER, listener.log)
    doubled = sum(len(some) - len({body.get("callbackCount") for _, body in some}) for some in world.sends.values())
    report.say(f"{len(sends)} callbacks received, {doubled} of them once more under one callbackCount")
    report.equal("the nodes stop in order", [node.stop() for node in house.nodes], [0] * NODES)


def check_deaths(report, client, chaos, sends):
    """How long a dead node's work took, where the others and the database were well; beside that, how long what another
    accepted then took, which says how busy all were."""
    told = {}
    for received in sends:
        request_id = re.search(rb'"requestId":"([^"]+)"', received.body).group(1).decode()
        told[request_id] = max(told.get(request_id, 0), received.at)
    late, took, before, disturbed = [], [], 0, 0
    for number, died, request_id, usual_id in chaos.deaths:
        if request_id is None or usual_id is None or not is_left_in_peace(chaos.troubles, number, died):
            disturbed += 1
            continue
        after, usually = (max(instant(sub["endedAt"]) for sub in client.subrequests(one)) - died for one in (request_id, usual_id))
        if after < 0:
            before += 1
            continue
        took.append(f"{after:.2f} s (told {told.get(request_id, died) - died:.2f} s, others {usually:.2f} s)")
        if after > GONE_ON_WITHIN + 2 * usually:
            late.append(f"{after:.2f} s after node {number + 1} died at {died:.3f}, others {usually:.2f} s: {request_id}, {usual_id}")
    report.none(f"a dead node's work is gone on with within {GONE_ON_WITHIN:.0f} s and twice what others need", late)
    report.say(f"gone on with after {', '.join(took) or 'no death'}; {before} had ended before, {disturbed} were disturbed")


def is_left_in_peace(troubles, dead, died):
    """Whether only listeners and the dead node itself had trouble until then."""
    return all(target not in LEFT_ALONE or target == ("node", dead) or began > died + GONE_ON_WITHIN or ended < died
               for _, target, began, ended in troubles)


def main():
    arguments = arguments_of(
        __doc__,
        argument("--faults", type=int, default=50, help="of each run (default: 50)"),
        argument("--failover", choices=("synchronous", "asynchronous"),
                 help="behind the faults the database's machine is lost, and its standby takes its place; an asynchronous "
                      "one is behind, and the proof fails: what was confirmed last is gone"),
        argument("--minutes", type=float, default=0, help="repeat, with a new database each time, for so long (default: one run)"))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
