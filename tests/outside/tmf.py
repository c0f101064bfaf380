"""Service activation servers for the outside proofs: PyPI's tmf-mock, which somebody else wrote, and one of our own for
what that has not: changes that are accepted for later, with monitors, and a hub that sends events.
"""

import contextlib
import http.client
import http.server
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
PORT = 8638
BASE = "/tmf-api/serviceInventoryManagement/v4"
JSON = {"Content-Type": "application/json"}
READY_WITHIN = 30.0


def program():
    """tmf-mock, in a virtual environment that is made once."""
    made = subprocess.run(["bash", HERE / "environment.sh", "tmf-mock", "tmf-mock==0.1.1"], stdout=subprocess.PIPE,
                          text=True, check=True)
    return Path(made.stdout.strip()).with_name("tmf-mock")


def call(address, port, method, path, body=None):
    """One call over a connection of its own: status and JSON."""
    connection = http.client.HTTPConnection(address, port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), JSON)
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None
    finally:
        connection.close()


class Mock:
    """tmf-mock on a loopback address of its own. It forgets everything when it is killed."""

    def __init__(self, folder, address):
        self.log, self.address, self.process = Path(folder) / "tmf-mock.log", address, None
        self.ids = {}  # by ICCID, which stands in the service's category

    def call(self, method, path, body=None):
        return call(self.address, PORT, method, BASE + path, body)

    def create(self, iccids, state):
        def one(iccid):
            status, service = self.call("POST", "/service", {"name": "esim", "category": iccid, "state": state})
            assert status == 201, service
            return iccid, service["id"]
        with ThreadPoolExecutor(4) as pool:
            self.ids |= dict(pool.map(one, iccids))

    def states(self):
        """Every service's state, by ICCID."""
        states, offset = {}, 0
        while True:
            _, page = self.call("GET", f"/service?limit=100&offset={offset}")
            states |= {service["category"]: service["state"] for service in page}
            offset += len(page)
            if not page:
                return states

    def set(self, iccid, state):
        assert self.call("PATCH", f"/service/{self.ids[iccid]}", {"state": state})[0] == 200

    def freeze(self):
        """Stops it where it is: it is connected to all the same, and what is sent waits in the kernel."""
        self.process.send_signal(signal.SIGSTOP)
        while ") T" not in Path(f"/proc/{self.process.pid}/stat").read_text():
            time.sleep(0.001)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [program(), "start", "--host", self.address, "--port", str(PORT), "--apis", "638", "--no-seed"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.call("GET", "/service?limit=1")
                return self
            time.sleep(0.02)
        self.__exit__()
        raise RuntimeError(f"tmf-mock is not ready: {self.log.read_text(errors='replace')[-2000:]}")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Later:
    """A server that accepts every change for later, and has it done when it is told to. Services are called by their
    ICCID."""

    def __init__(self, iccids, state):
        self.services = dict.fromkeys(iccids, state)
        self.monitors = {}  # id → (its body, the service, the state that is wanted)
        self.hubs, self.changes, self.asked = [], Counter(), Counter()
        self.tells = True  # whether it sends events
        self.lock = threading.Lock()
        later = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with later.lock:
                    status, body, location = later.answer(self.command, self.path, json.loads(raw) if raw else None)
                out = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json;charset=utf-8")
                self.send_header("Content-Length", str(len(out)))
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                self.wfile.write(out)

            do_GET = do_POST = do_PATCH = do

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):  # the server under test was killed on the way
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method, path, body):
        _, _, kind, *rest = path.partition("?")[0].split("/")
        id = rest[0] if rest else None
        if kind == "hub" and method == "POST":
            self.hubs.append(body)
            return 201, {"id": str(len(self.hubs)), **body}, None
        if kind == "hub":
            return 405, {"code": "405", "reason": "no list"}, None
        if kind == "monitor" and id in self.monitors:
            self.asked[id] += 1
            return 200, self.monitors[id][0], None
        if kind == "service" and id is None:
            return 200, [], None
        if kind == "service" and id in self.services and method == "GET":
            return 200, {"id": id, "state": self.services[id]}, None
        if kind == "service" and id in self.services:
            self.changes[id] += 1
            name = f"{len(self.monitors)}-{id}"
            monitor = {"id": name, "sourceHref": f"http://oss.internal/tmf/service/{id}", "state": "InProgress"}
            self.monitors[name] = (monitor, id, body["state"])
            return 202, {}, f"http://oss.internal/tmf/monitor/{name}"  # whose name means nothing outside
        return 404, {"code": "60", "reason": "Resource not found"}, None

    def under_way(self):
        with self.lock:
            return {id for monitor, id, _ in self.monitors.values() if monitor["state"] == "InProgress"}

    def have_done(self, ids, error=None):
        """Has what is under way on these services done, or failed, and tells who is registered."""
        done = []
        with self.lock:
            for monitor, id, state in self.monitors.values():
                if id in ids and monitor["state"] == "InProgress":
                    monitor["state"] = "InError" if error else "Completed"
                    monitor["response"] = error or {"statusCode": "200"}
                    self.services[id] = self.services[id] if error else state
                    done.append((id, monitor))
        for id, monitor in done if self.tells else ():
            if error:
                self.tell("monitorStateChangeEvent", {"monitor": monitor})
            else:
                self.tell("serviceStateChangeEvent", {"service": {"id": id, "state": self.services[id]}})

    def tell(self, kind, event):
        """Sends an event; what the last one that is registered answered."""
        address, _, path = self.hubs[-1]["callback"].removeprefix("http://").partition("/")
        host, _, port = address.partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("POST", f"/{path}/listener/{kind}",
                               json.dumps({"eventId": os.urandom(8).hex(), "eventType": kind, "event": event}), JSON)
            return connection.getresponse().status
        finally:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
