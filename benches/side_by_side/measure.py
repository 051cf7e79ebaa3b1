"""Runs one command and writes what it cost to descriptor 9, in one line:
exit code, wall s, CPU s, peak memory MB, s to the first result (or -), CPU s of the broker.

measure.py OUT BROKER_PID TIMEOUT COMMAND...   (OUT: the folder in which the command puts results)
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_of(pid):
    """CPU seconds, user and system, of one process so far."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def descendants(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in children.read().split():
                    found += [int(child), *descendants(int(child))]
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has just ended
    return found


def resident(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as statm:
                total += int(statm.read().split()[1]) * PAGE
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def has_results(folder):
    """Whether a file holds bytes, also one that the engine still hides from readers. Spark's check
    sums and logs are no results."""
    for path, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith("_")]
        for name in files:
            try:
                if not name.startswith("_") and not name.endswith(".crc") and os.path.getsize(os.path.join(path, name)):
                    return True
            except FileNotFoundError:
                pass  # it has just been renamed
    return False


def stop(*_):
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def main():
    out, broker, timeout, *command = sys.argv[1:]
    # Processes whose parent ends before them come here, so that none is left out or left over.
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("measure.py: cannot become the reaper of the command's processes")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, stop)
    signal.alarm(int(timeout))

    peak, first = 0, None
    ended = threading.Event()
    broker_before = cpu_of(broker)
    # `python3` may be a script that ran other programs before it became this process.
    before = cpu_of_children()
    start = time.monotonic()
    child = subprocess.Popen(command)  # which closes descriptor 9 for it

    def sample():
        nonlocal peak, first
        while not ended.wait(0.05):
            peak = max(peak, resident(descendants(os.getpid())))
            if first is None and has_results(out):
                first = time.monotonic() - start

    sampler = threading.Thread(target=sample)
    sampler.start()
    code = 1
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - start
    ended.set()
    sampler.join()
    if first is None and has_results(out):
        first = wall

    # The largest process alone, sampled or not.
    peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    with open(9, "w") as cost:
        print(
            code,
            f"{wall:.2f}",
            f"{cpu_of_children() - before:.2f}",
            round(peak / 1e6),
            "-" if first is None else f"{first:.1f}",
            f"{cpu_of(broker) - broker_before:.2f}",
            file=cost,
        )


main()
