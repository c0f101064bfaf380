"""The work during which the server is killed: bulk requests, singles with keys, and refused ones.

`Workload` owns a store with a fleet, a listener, the client's journal and the threads that send; it
outlives every death of the server. Its user decides when the server dies, and what is lost then.
"""

import random
import threading
import time
import uuid

from checker import check, check_further
from journal import Journal
from listener import Listener, count_lines
from server import (ACCOUNT, ACTIONS, GLOBAL_PLAN, OWN, US_PLAN, NoAnswer, Server, action_body, apply_text, basic,
                    fleet, profile)

BULK = 10_000  # profiles in one bulk request, the contract's limit
ALREADY_ACTIVE = 300
FURTHER = "further"  # the name of a further listener
MARKERS = "8999900"  # ICCIDs that only refused requests name begin so
NEXT_BULK_BELOW = 3_000  # waiting profiles at which the next bulk request is sent
REPEATS_WAITING = 20  # of them wait, so that some are sent after a crash
CANCELLED = 0.05  # of the looks at the requests cancel one
SEEN_AT_ONCE = 200  # outcomes noted in the journal at one look
ENDED_WITHIN = 180.0  # seconds after the last restart
RETRIED_WITHIN = 90.0


class Workload:
    def __init__(self, folder, binary, seed, latency, environment=None, profiles=BULK, carrier="",
                 next_bulk_below=NEXT_BULK_BELOW, further=False):
        self.folder = folder
        self.random = random.Random(seed)
        self.listener = Listener(folder / "callbacks.log")
        self.further = Listener(folder / "further.log") if further else None
        self.journal_path = folder / "journal.jsonl"
        self.journal = Journal(self.journal_path)
        self.server = Server(folder, binary, latency=latency, carrier=carrier)
        self.suspended = fleet(ACCOUNT, profiles)
        self.active = fleet(ACCOUNT, ALREADY_ACTIVE, first=profiles, state="ACTIVE")
        further = [(ACCOUNT, FURTHER, self.further.url("/flaky/further"))] if further else []
        self.server.apply(apply_text({ACCOUNT: self.listener.url("/flaky/callbacks")}, further=further))
        self.server.import_fleet(self.suspended + self.active)
        self.server.environment |= environment or {}  # for `serve` only: the imports above are durable
        self.up = threading.Event()
        self.over = threading.Event()
        self.client = None  # logged in anew after every start
        self.lock = threading.Lock()
        self.repeats = []  # requests to be sent again with the same key: not answered yet, or by chance
        self.latest_bulk = None
        self.markers = iter(f"{MARKERS}{number:013d}" for number in range(10**9))
        self.errors = []
        self.threads = []
        self.deaths = self.deaths_during_work = 0
        self.suspends = False
        self.next_bulk_below = next_bulk_below

    # The server's lives

    def start(self):
        self.server.start()
        self.client = self.server.client()
        self.up.set()

    def begin(self):
        """Starts the server and the threads that send."""
        self.start()
        # profile_suspend gives the same profiles back to resume; a server without it has less to do.
        self.suspends = self.client.call("POST", ACTIONS + "profile_suspend", {}).status not in (404, 405)
        for work in (self.send_bulks, self.send_singles, self.send_singles, self.send_refused, self.look):
            thread = threading.Thread(target=self.until_over, args=(work, random.Random(self.random.random())), daemon=True)
            thread.start()
            self.threads.append(thread)

    def die(self, lose=None, await_moment=None):
        """kill -9, whatever is under way, after `await_moment`; `lose` is called while the server is dead."""
        working = self.is_working()
        time.sleep(self.random.uniform(0, 0.03))  # not at the same point after each answer
        if await_moment:
            await_moment()
        self.journal.killed()
        self.server.kill()
        self.up.clear()
        self.deaths += 1
        self.deaths_during_work += working
        if lose:
            lose()

    def die_while_starting(self, after, lose=None):
        """Starts the dead server and kills it `after` seconds."""
        self.server.start(wait=False)
        time.sleep(after)
        self.journal.killed()
        self.server.kill()
        self.deaths += 1
        self.deaths_during_work += 1  # what was not ended at the death before is not ended yet
        if lose:
            lose()

    def rest(self):
        """Stops the server with SIGTERM, whatever is under way; the exit code."""
        code = self.server.stop()
        self.up.clear()
        return code

    def is_working(self):
        client = self.client.twin()
        try:
            running = client.get(f"{OWN}/requests?account={ACCOUNT}&limit=20")["requests"]
        except NoAnswer:
            return False
        finally:
            client.close()
        return any(request["waiting"] or request["callbacks"]["waiting"] for request in running)

    def until_over(self, work, dice):
        """Runs one kind of work again and again, with a client of the server's present life."""
        base = client = None
        while not self.over.is_set():
            if not self.up.wait(0.1):
                continue
            if base is not self.client:
                base = self.client
                client = base.twin()
            try:
                work(client, dice)
            except NoAnswer:
                time.sleep(0.005)
            except Exception as error:
                if self.up.is_set() and self.server.alive():
                    self.errors.append(f"{work.__name__}: {type(error).__name__}: {error}")
                    time.sleep(0.1)

    # What is sent

    def act(self, client, action, iccids, key=None, plan=None, again=False):
        answer = self.journal.act(client, action, ACCOUNT, iccids, key, plan)
        if key and (again or answer is None or answer.status in (401, 429, 503)):
            with self.lock:
                self.repeats.append((action, iccids, key, plan))
        if answer is not None and answer.status not in (200, 401, 429, 503):
            self.errors.append(f"{action} of {len(iccids)} was answered {answer.status}: {answer.raw[:200]!r}")
        return answer

    def send_bulks(self, client, dice):
        """Resumes many and again, with a suspension of the Global ones in between, each when most of the last is done."""
        action, iccids = "profile_resume", [one.iccid for one in self.suspended]
        if self.latest_bulk is not None:
            last_action, _ = self.latest_bulk
            if sum(request["waiting"] for request in client.requests(ACCOUNT, "&state=running")) > self.next_bulk_below:
                time.sleep(0.02)
                return
            if self.suspends and last_action == "profile_resume":
                action, iccids = "profile_suspend", [one.iccid for one in self.suspended if one.role == "LOCAL"]
        iccids = dice.sample(iccids, min(BULK, len(iccids)))
        key = str(uuid.UUID(int=dice.getrandbits(128)))
        while not self.over.is_set():
            if not self.up.wait(0.1):
                continue
            if client.session != self.client.session:
                client = self.client.twin()
            answer = self.journal.act(client, action, ACCOUNT, iccids, key)
            if answer is not None and answer.status == 200:
                self.latest_bulk = action, answer.request_id
                return
            if answer is not None and answer.status not in (401, 429, 503):
                self.errors.append(f"a bulk request was answered {answer.status}: {answer.raw[:200]!r}")
            time.sleep(0.02)
        with self.lock:
            self.repeats.append((action, iccids, key, None))

    def send_singles(self, client, dice):
        """One or a few profiles; mostly with a key, and then often twice at the same moment."""
        iccids = [self.some_iccid(dice) for _ in range(dice.choice((1, 1, 1, 1, 2, 7)))]
        action = "profile_suspend" if self.suspends and dice.random() < 0.25 else "profile_resume"
        plan = dice.choice((None, None, None, US_PLAN, GLOBAL_PLAN, "No such plan"))
        key = f"single-{dice.getrandbits(64):016x}" if dice.random() < 0.8 else None
        if key and dice.random() < 0.5:
            barrier = threading.Barrier(2)
            other = threading.Thread(target=self.act_at_once, args=(barrier, client.twin(), action, iccids, key, plan))
            other.start()
            self.act_at_once(barrier, client, action, iccids, key, plan)
            other.join()
        else:
            self.act(client, action, iccids, key, plan, again=dice.random() < 0.3)
        with self.lock:
            repeat = self.repeats.pop(0) if len(self.repeats) > REPEATS_WAITING else None
        if repeat:
            action, iccids, key, plan = repeat
            self.act(client, action, iccids, key, plan)
        time.sleep(dice.uniform(0, 0.03))

    def act_at_once(self, barrier, client, *what):
        barrier.wait(60)
        self.act(client, *what)

    def some_iccid(self, dice):
        return dice.choice((
            lambda: dice.choice(self.suspended).iccid,
            lambda: dice.choice(self.suspended).iccid,
            lambda: dice.choice(self.active).iccid,
            lambda: profile(ACCOUNT, 5_000_000 + dice.randrange(1000), "global").iccid))()

    def send_refused(self, client, dice):
        """A request that must be refused, naming marker ICCIDs."""
        iccids = [next(self.markers) for _ in range(dice.choice((1, 3)))]
        body = action_body(ACCOUNT, iccids)
        headers = {}
        kind = dice.choice(("account", "kind", "id", "many", "empty", "key", "session", "bearer"))
        if kind == "account":
            body["accountName"] = "0000999999-00001"
        elif kind == "kind":
            body["devices"].append({"deviceIds": [{"kind": "colour", "id": "12345"}]})
        elif kind == "id":
            body["devices"].append({"deviceIds": [{"kind": "iccid", "id": "891480000000000000012345"}]})
        elif kind == "many":
            iccids = [next(self.markers) for _ in range(BULK + 1)]
            body = action_body(ACCOUNT, iccids)
        elif kind == "empty":
            body["devices"].append({"deviceIds": []})
        elif kind == "key":
            headers["Idempotency-Key"] = "a key with spaces, ended by nothing visible \t"
        elif kind == "session":
            headers["VZ-M2M-Token"] = str(uuid.UUID(int=dice.getrandbits(128)))
        elif kind == "bearer":
            headers["Authorization"] = basic("some", "body")
        path = "/api/m2m/v1//devices/profile/actions/profile_resume"
        answer = self.journal.act(client, "profile_resume", ACCOUNT, iccids, refused=True,
                                  send=lambda: client.call("POST", path, body, headers))
        if answer is not None and not (400 <= answer.status < 500 or answer.status == 503):
            self.errors.append(f"a request to be refused ({kind}) was answered {answer.status}")
        time.sleep(dice.uniform(0.02, 0.1))

    def look(self, client, dice):
        """Notes outcomes that the server tells of: they may not change any more. Cancels a request now and then."""
        requests = client.get(f"{OWN}/requests?account={ACCOUNT}&limit=100")["requests"]
        if requests:
            request = dice.choice(requests)
            after = dice.randrange(max(1, request["subrequests"] - SEEN_AT_ONCE))
            path = f"{OWN}/requests/{request['requestId']}/subrequests?limit={SEEN_AT_ONCE}&after={after}"
            for subrequest in client.get(path)["subrequests"]:
                if subrequest["state"] != "waiting":
                    self.journal.saw(request["requestId"], subrequest)
        running = [request["requestId"] for request in requests if request["state"] == "running"]
        if running and dice.random() < CANCELLED:
            answer = self.journal.cancel(client, dice.choice(running))
            if answer.status not in (200, 503):
                self.errors.append(f"a cancellation was answered {answer.status}: {answer.raw[:200]!r}")
        time.sleep(0.1)

    # The end

    def finish(self, report, last_work=None):
        """Ends the sending, repeats what has no answer yet, waits for the last callback, and checks all.

        `last_work` is called when nothing else is sent or cancelled any more."""
        self.over.set()
        for thread in self.threads:
            thread.join(120)
        client = self.client.twin()
        deadline = time.monotonic() + RETRIED_WITHIN
        while self.repeats and time.monotonic() < deadline:
            action, iccids, key, plan = self.repeats.pop(0)
            self.act(client, action, iccids, key, plan)
        if last_work:
            last_work()
        report.none("every request with a key was answered in the end",
                    (f"{action} {key}" for action, _, key, _ in self.repeats))
        report.none("the server answered as the contract says all the time", self.errors)
        self.journal.close()
        report.check("it was killed during work", self.deaths_during_work >= 0.6 * self.deaths,
                     f"{self.deaths_during_work} of {self.deaths} kills: change the carrier's latency")
        try:
            requests = client.wait_ended(ACCOUNT, ENDED_WITHIN)
        except TimeoutError as error:
            report.check("everything ended", False, error)
            requests = client.requests(ACCOUNT)
        profiles = sum(request["subrequests"] for request in requests)
        cancelled = sum(request["cancelled"] for request in requests)
        report.say(f"{len(requests)} requests with {profiles} profiles, {cancelled} cancelled, {count_lines(self.listener.log)} "
                   f"callbacks received, {self.deaths} kills, {self.deaths_during_work} of them during work")
        if self.further:
            client.wait_told(ACCOUNT, FURTHER, ENDED_WITHIN)
        world = check(report, client, [ACCOUNT], self.journal_path, [self.listener.log], self.suspended + self.active)
        if self.further:
            check_further(report, world, client, ACCOUNT, FURTHER, self.further.log)

    def close(self):
        self.over.set()
        self.up.set()
        self.server.kill()
        self.listener.stop()
        if self.further:
            self.further.stop()
