#!/usr/bin/env python3
"""The crash test: kill -9 at random moments of much work, restart, and nothing is lost or doubled.

Each run has a fresh store with 10,000 suspended profiles on both networks and some active ones,
requests of 10,000 profiles one after the other, a stream of small requests with Idempotency-Keys
(pairs of equal keys at the same moment, repeated after a crash), and requests that must be refused.
Some kills hit a server that is still starting. In the end the independent checker compares the
journal, the listener's log, the fleet and the API.
"""

import random
import time

from report import Report
from server import argument, arguments_of, run_proof, scratch
from workload import BULK, Workload

KILLED_AFTER = (0.02, 0.8)  # seconds after the server was ready
STARTING_KILLED_AFTER = (0.0, 0.08)
STARTING_KILLS = 0.2  # of all


def run(report, arguments, number, kills, dice):
    report.say(f"run {number}: {kills} kills")
    with scratch(report, f"crash-{number}") as folder:
        workload = Workload(folder, arguments.binary, dice.random(), arguments.latency, profiles=arguments.profiles,
                            carrier=arguments.carrier)
        try:
            workload.begin()
            while kills:
                time.sleep(dice.uniform(*KILLED_AFTER))
                workload.die()
                kills -= 1
                while kills and dice.random() < STARTING_KILLS:
                    workload.die_while_starting(dice.uniform(*STARTING_KILLED_AFTER))
                    kills -= 1
                workload.start()
            time.sleep(0.5)
            workload.finish(report)
            report.equal("the server stops in order", workload.server.stop(), 0)
        finally:
            workload.close()


def proof(report, arguments):
    dice = random.Random(arguments.seed)
    runs, kills = (20, 400) if arguments.long else (arguments.runs, arguments.kills)
    for number in range(runs):
        run(report, arguments, number + 1, kills // runs + (number < kills % runs), dice)


def main():
    arguments = arguments_of(
        __doc__,
        argument("--kills", type=int, default=24, help="in all runs together (default: 24)"),
        argument("--runs", type=int, default=4, help="each with a fresh store (default: 4)"),
        argument("--profiles", type=int, default=BULK, help=f"suspended, in the fleet (default: {BULK})"),
        argument("--latency", default="20ms", help="of the simulated carriers (default: 20ms)"),
        argument("--carrier", default="", help="one more line for the carriers' configuration"),
        argument("--long", action="store_true", help="20 runs, 400 kills"))
    run_proof(Report(), proof, arguments)


if __name__ == "__main__":
    main()
