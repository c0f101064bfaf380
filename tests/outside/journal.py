"""The client's own journal: what was sent, what was answered, what was seen, when the server died.

JSON lines, written as things happen. Every request has a line from before it was sent, and a second
one with its answer or with the fact that none came:

    {"sent": 7, "at": …, "account": …, "action": …, "iccids": […], "plan"?: …, "key"?: …, "refused"?: true}
    {"answered": 7, "at": …, "status": 200, "requestId"?: …, "message"?: …}
    {"unanswered": 7, "at": …, "why": …}
    {"saw": {"requestId": …, "number": …, "state": …, "fault"?: …}}      an outcome the server told of
    {"cancelling": requestId, "at": …}                                    and, when that was answered,
    {"cancelled": requestId, "at": …, "status": …, "ended"?: true}        if the answer said that it had ended before
    {"killed": …}                                                         an instant
    {"trouble": what, "from": …, "until": …}                              of a node, or its way to the database

`refused` marks a request that must be refused; its ICCIDs are markers that no other request names.
"""

import json
import threading
import time

from server import OWN, NoAnswer

MAYBE_ACCEPTED = "may have been accepted"


class Journal:
    def __init__(self, path):
        self.path = path
        self.file = open(path, "a")
        self.lock = threading.Lock()
        self.number = 0

    def write(self, entry):
        with self.lock:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()

    def act(self, client, action, account, iccids, key=None, plan=None, send=None, refused=False):
        """Sends one action and journals it; the answer, or None when none came.

        `send` may replace the sending (for a request that is to be refused)."""
        with self.lock:
            self.number += 1
            number = self.number
        entry = {"sent": number, "at": time.time(), "account": account, "action": action, "iccids": list(iccids)}
        entry |= {name: value for name, value in (("plan", plan), ("key", key), ("refused", refused)) if value}
        self.write(entry)
        try:
            answer = send() if send else client.act(action, account, iccids, key, plan)
        except NoAnswer as error:
            self.write({"unanswered": number, "at": time.time(), "why": str(error)})
            return None
        entry = {"answered": number, "at": time.time(), "status": answer.status}
        if answer.status == 200:
            entry["requestId"] = answer.request_id
        else:
            entry["message"] = answer.raw[:500].decode(errors="replace")
        self.write(entry)
        return answer

    def saw(self, request_id, subrequest):
        outcome = {"requestId": request_id, "number": subrequest["number"], "state": subrequest["state"]}
        if "fault" in subrequest:
            outcome["fault"] = subrequest["fault"]["code"]
        self.write({"saw": outcome})

    def cancel(self, client, request_id):
        """Cancels a request and journals it."""
        self.write({"cancelling": request_id, "at": time.time()})
        answer = client.call("POST", f"{OWN}/requests/{request_id}/cancel")
        entry = {"cancelled": request_id, "at": time.time(), "status": answer.status}
        if answer.status == 200 and answer.json["state"] == "ended" and not answer.json["cancelled"]:
            entry["ended"] = True
        self.write(entry)
        return answer

    def killed(self):
        self.write({"killed": time.time()})

    def trouble(self, what, began, ended):
        self.write({"trouble": what, "from": began, "until": ended})

    def close(self):
        self.file.close()


class Sent:
    """One request of the journal and what became of it."""

    def __init__(self, entry):
        self.number = entry["sent"]
        self.at = entry["at"]
        self.account = entry["account"]
        self.action = entry["action"]
        self.iccids = tuple(dict.fromkeys(entry["iccids"]))  # distinct, in order of first mention
        self.plan = entry.get("plan")
        self.key = entry.get("key")
        self.must_be_refused = entry.get("refused", False)
        self.answered_at = None
        self.status = None
        self.request_id = None
        self.message = ""

    @property
    def accepted(self):
        return self.status == 200

    @property
    def uncertain(self):
        """No answer came, or one that says that the request may have been accepted."""
        return self.status is None or self.status == 503 and MAYBE_ACCEPTED in self.message

    def __str__(self):
        return f"request {self.number} of the journal ({len(self.iccids)} profiles, key {self.key}, status {self.status})"


def read_journal(path):
    """`(sent, saw, kills, cancels, troubles)` of a journal; a cancel is (requestId, status or None, whether the answer said
    that the request had ended before), a trouble (what, from, until)."""
    sent, saw, kills, cancels, troubles = {}, [], [], [], []
    with open(path) as file:
        for line in file:
            entry = json.loads(line)
            if "sent" in entry:
                sent[entry["sent"]] = Sent(entry)
            elif "answered" in entry:
                one = sent[entry["answered"]]
                one.answered_at, one.status = entry["at"], entry["status"]
                one.request_id, one.message = entry.get("requestId"), entry.get("message", "")
            elif "saw" in entry:
                saw.append(entry["saw"])
            elif "cancelling" in entry:
                cancels.append((entry["cancelling"], None, False))
            elif "cancelled" in entry:
                cancels.append((entry["cancelled"], entry["status"], entry.get("ended", False)))
            elif "killed" in entry:
                kills.append(entry["killed"])
            elif "trouble" in entry:
                troubles.append((entry["trouble"], entry["from"], entry["until"]))
    return list(sent.values()), saw, kills, cancels, troubles
