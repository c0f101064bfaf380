#!/usr/bin/env python3
"""A node and its database: TLS that checks whom it talks to, and what refuses the start.

A private PostgreSQL cluster that takes nothing but TLS, with a certificate of an authority made on the spot. With
sslmode=require, and SSL_CERT_FILE naming that authority, a node works, and every connection that it has is encrypted.
With another authority, a certificate for another host, or in plain text, `check` and `serve` end at once and say why. So
they do without a key, with another key than the first node's, and where the database runs with fsync = off.
"""

import os
import shutil
import subprocess
import time

from cluster import Cluster
from listener import Listener
from report import Report
from server import ACCOUNT, Server, apply_text, arguments_of, fleet, run_proof, scratch

REFUSED_WITHIN = 20.0  # seconds from the start of `serve` to its end
ENDED_WITHIN = 30.0
RELOADED_WITHIN = 10.0
PROFILES = 40
TLS_ONLY = "hostssl all all 127.0.0.1/32 trust\n"
DAYS = "2"


# Certificates

class Authority:
    """One that signs certificates, in a folder."""

    def __init__(self, folder, name):
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        request(self.certificate, self.key, f"/CN={name}", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")

    def sign(self, certificate, key, names):
        """Makes a server's certificate with these alternative names."""
        request(certificate, key, "/CN=database", "basicConstraints=critical,CA:FALSE", f"subjectAltName={names}",
                more=["-CA", self.certificate, "-CAkey", self.key])
        if os.geteuid() == 0:  # then the cluster runs as another user, who has to read it
            shutil.chown(key, "postgres")


def request(certificate, key, subject, *extensions, more=()):
    done = subprocess.run(["openssl", "req", "-x509", "-config", "/dev/null", "-newkey", "ec", "-pkeyopt",
                           "ec_paramgen_curve:prime256v1", "-nodes", "-days", DAYS, "-subj", subject, "-keyout", key, "-out",
                           certificate, *(part for extension in extensions for part in ("-addext", extension)), *more],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl: {done.stderr.strip()}")
    key.chmod(0o600)


# The proof

def proof(report, arguments):
    with scratch(report, "dbtls") as folder:
        folder.chmod(0o711)  # for the cluster's user
        ours, other = Authority(folder, "ours"), Authority(folder, "other")
        certificate, key = folder / "server.pem", folder / "server.key"
        ours.sign(certificate, key, "IP:127.0.0.1,DNS:localhost")
        hba = folder / "pg_hba.conf"
        hba.write_text(TLS_ONLY)
        settings = ["ssl = on", f"ssl_cert_file = '{certificate}'", f"ssl_key_file = '{key}'", f"hba_file = '{hba}'"]
        with Cluster(*settings, log=folder / "postgres.log") as cluster:
            report.say("the cluster runs")
            at = Place(report, folder, arguments.binary, cluster)
            works(report, at, ours)
            at.refused("another authority", "UnknownIssuer", authority=other)
            at.refused("plain text", "no encryption", authority=ours, sslmode=None)
            at.refused("a mode that is not there", "sslmode", authority=ours, sslmode="verify-nothing")
            keys(at, ours)
            ours.sign(certificate, key, "DNS:elsewhere.example,IP:192.0.2.1")
            at.reload(lambda: at.refused("a certificate for another host", "not valid for", authority=ours))
            ours.sign(certificate, key, "IP:127.0.0.1,DNS:localhost")
            at.reload(lambda: at.accepted("the right certificate again", authority=ours))
            cluster.psql("ALTER SYSTEM SET fsync = off")
            at.reload(lambda: at.refused("fsync = off", "fsync=off", authority=ours))
            cluster.psql("ALTER SYSTEM SET fsync = on")
            at.reload(lambda: at.accepted("fsync = on again", authority=ours))


class Place:
    """Where nodes are started: one database, one key, and a folder for each node."""

    def __init__(self, report, folder, binary, cluster):
        self.report, self.folder, self.binary, self.cluster = report, folder, binary, cluster
        self.url = cluster.database()
        self.key = os.urandom(32).hex()
        self.nodes = 0

    def node(self, authority, sslmode="require", key=..., host="127.0.0.1"):
        self.nodes += 1
        url = self.url.replace("127.0.0.1", host) + (f"?sslmode={sslmode}" if sslmode else "")
        return Server(self.folder / f"node-{self.nodes}", self.binary, database=url, key=self.key if key is ... else key,
                      environment={"SSL_CERT_FILE": str(authority.certificate)})

    def accepted(self, name, **options):
        done = check(self.node(**options))
        self.report.check(f"{name}: check says that all is well", done.returncode == 0, done.stdout, done.stderr)

    def refused(self, name, why, **options):
        """`check` and `serve` end with exit code 2, and name the reason."""
        node = self.node(**options)
        done = check(node)
        self.report.check(f"{name}: check ends with 2", done.returncode == 2, done.returncode, done.stdout, done.stderr)
        self.report.check(f"{name}: check says {why!r}, once", done.stderr.count(why) == 1, done.stderr)
        began = time.monotonic()
        try:
            code = node.start(wait=False).process.wait(REFUSED_WITHIN)
        except subprocess.TimeoutExpired:
            code = "none: it runs"
        finally:
            node.kill()
        self.report.equal(f"{name}: serve ends with 2", code, 2)
        self.report.check(f"{name}: serve says {why!r}", why in node.last_log(), node.last_log())
        self.report.say(f"{name}: refused after {time.monotonic() - began:.2f} s: {' '.join(done.stderr.split())}")

    def reload(self, then):
        """Has the cluster read its files again; `then` when it has: it does so between two of its own tasks."""
        before = self.loaded()
        self.cluster.psql("SELECT pg_reload_conf()")
        deadline = time.monotonic() + RELOADED_WITHIN
        while self.loaded() == before and time.monotonic() < deadline:
            time.sleep(0.02)
        then()

    def loaded(self):
        """When a new session's settings were read; the first process starts it after it has read certificates, too."""
        return self.cluster.psql("SELECT pg_conf_load_time()")


def check(node):
    return node.run("check", "--config", str(node.config))


def works(report, at, authority):
    """One node serves, by address and by name, and tells of what it was asked; all over TLS."""
    with Listener(at.folder / "callbacks.log") as listener, at.node(authority) as node:
        at.accepted("an empty database", authority=authority)
        node.apply(apply_text({ACCOUNT: listener.url("/ok")}))
        profiles = fleet(ACCOUNT, PROFILES)
        node.import_fleet(profiles)
        node.start()
        answer = node.client().resume(ACCOUNT, [one.iccid for one in profiles])
        report.equal("over TLS a request is accepted", answer.status, 200)
        ended = node.client().wait_ended(ACCOUNT, ENDED_WITHIN)
        report.equal("… and ends, and is told of",
                     [(one["succeeded"], one["callbacks"]["delivered"]) for one in ended], [(PROFILES, PROFILES)])
        sessions = at.cluster.psql("SELECT ssl, count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                                   "WHERE application_name = 'reveille' GROUP BY ssl")
        report.check("every connection of the node is encrypted", [row[0] for row in sessions] == ["t"], sessions)
        at.accepted("by name", authority=authority, host="localhost")
        report.equal("it stops in order", node.stop(), 0)
        report.say(f"served over {sessions[0][1]} connections, all encrypted" if sessions else "no connection is there")


def keys(at, authority):
    at.refused("no key", "REVEILLE_SERVER_KEY", authority=authority, key=None)
    at.refused("another key than the first node's", "this is not the key", authority=authority, key=os.urandom(32).hex())
    at.accepted("the first node's key", authority=authority)


def main():
    run_proof(Report(), proof, arguments_of(__doc__, seed=False))


if __name__ == "__main__":
    main()
