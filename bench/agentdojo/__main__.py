"""``python -m bench.agentdojo``: the anchors and remit, over the named suites; two processes at once.

--suites banking slack      --scopes role reads+writes task-exact      --variants first last disguise words
--anchors                   only the deciders that know names (any suite)
--questions 10              print so many questions as the approver would see them
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from bench.agentdojo.report import PUBLISHED, chosen, short, table
from bench.agentdojo.runs import SCOPES, anchors_job, measured_job
from bench.agentdojo.suites import BENCHMARK, SUITES, VARIANTS

_PROCESSES = 2


def main() -> int:
    """Run, print, and say by the exit code whether everything ran."""
    parser = argparse.ArgumentParser(prog="python -m bench.agentdojo")
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=["banking", "slack"])
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=list(SCOPES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--anchors", action="store_true")
    parser.add_argument("--questions", type=int, default=10)
    wanted = parser.parse_args()
    begin = time.monotonic()
    with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(anchors_job, suite) for suite in wanted.suites]
        if not wanted.anchors:
            jobs += [pool.submit(measured_job, suite, scope, wanted.variants) for scope in wanted.scopes for suite in wanted.suites]
        done = [job.result() for job in jobs]
    runs = [run for found, _ in done for run in found]
    questions = [question for _, asked in done for question in asked]
    print(f"AgentDojo {BENCHMARK}, {platform.machine()}, {os.cpu_count()} processors, {time.monotonic() - begin:.0f} s")
    for suites in [*([suite] for suite in wanted.suites), *([wanted.suites] if len(wanted.suites) > 1 else [])]:
        print(f"\n{' + '.join(suites)}\n\n{table([run for run in runs if run.suite in suites])}")
    print("\npublished, all four suites, ASR: " + "; ".join(f"{name} {share}" for name, share in PUBLISHED))
    if lines := short(runs):
        print("\nshort of the mark")
        print("\n".join(lines))
    for question in chosen(questions, wanted.questions):
        print(f"\n{'foe' if question.hostile else 'friend'}: {question.suite} {question.user}\n{question.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
