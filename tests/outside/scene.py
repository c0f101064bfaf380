"""A served account with a listener and a few profiles: where the proofs about single calls take place."""

import contextlib
import json
import time

from listener import Listener
from server import ACCOUNT, Server, apply_text, fleet, scratch
from upstream import Upstream, forwarding

TOLD_WITHIN = 60.0


class Scene:
    def __init__(self, folder, binary, profiles=40, active=2, accounts=None, registered=True, users=None,
                 clients=None, operator=False, listener_path="/ok", gateway=False, **options):
        """`registered`: whether the accounts' listeners are registered already. `gateway`: whether the server forwards
        to another, which has the networks."""
        self.accounts = accounts or [ACCOUNT]
        self.folder = folder
        self.listener = Listener(folder / "callbacks.log")
        self.upstream = Upstream(folder / "upstream", binary) if gateway else None
        if self.upstream:
            options["carriers"] = lambda door: forwarding(self.upstream.port, door)
        self.server = Server(folder, binary, **options)
        self.suspended = fleet(ACCOUNT, profiles)
        self.fleet = self.suspended[:]
        self.active = fleet(ACCOUNT, active, first=profiles, state="ACTIVE")
        url = self.listener.url(listener_path) if registered else None
        self.server.apply(apply_text({account: url for account in self.accounts}, users, operator, clients))
        self.import_fleet(self.suspended + self.active)
        if self.upstream:
            self.upstream.start()
        self.server.start()
        self.client = self.server.client()

    def import_fleet(self, profiles, name="fleet.csv"):
        if self.upstream:
            self.upstream.take(profiles, name)
        return self.server.import_fleet(profiles, name)

    def iccids(self, count, network=None):
        """Suspended profiles that were not handed out before."""
        taken = [one for one in self.suspended if network in (None, one.network)][:count]
        gone = {one.iccid for one in taken}
        self.suspended = [one for one in self.suspended if one.iccid not in gone]
        assert len(taken) == count, "the fleet is too small for this proof"
        return [one.iccid for one in taken]

    def told(self, request_id, count, within=TOLD_WITHIN):
        """The callbacks of a request by their last identifier, the ICCID of profiles, when there are `count` of them or
        time is up."""
        deadline = time.monotonic() + within
        while True:
            told = {}
            for received in self.listener.received():
                body = json.loads(received.body)
                if body["requestId"] == request_id:
                    told[body.get("deviceIds", [{"id": None}])[-1]["id"]] = body
            if len(told) >= count or time.monotonic() > deadline:
                return told
            time.sleep(0.05)

    def ended(self, request_id, within=TOLD_WITHIN):
        """The request, when it and its callbacks have ended or time is up."""
        deadline = time.monotonic() + within
        while True:
            request = self.client.request(request_id)
            if request["state"] == "ended" and not request["callbacks"]["waiting"] or time.monotonic() > deadline:
                return request
            time.sleep(0.05)

    def restart(self, kill=False):
        """Stops the server, or kills it, starts it again, and logs in anew; the exit code of the stop."""
        code = self.server.kill() if kill else self.server.stop()
        self.server.start()
        self.client = self.server.client()
        return code

    def close(self):
        self.server.kill()
        if self.upstream:
            self.upstream.kill()
        self.listener.stop()


@contextlib.contextmanager
def scene(report, binary, name, **options):
    with scratch(report, name) as folder:
        made = Scene(folder, binary, **options)
        try:
            yield made
        finally:
            made.close()
