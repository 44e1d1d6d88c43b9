"""Processes on their CPUs, and what they take: time and memory."""

import os
import re
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
CPUS = sorted(os.sched_getaffinity(0))
LOAD_CPU, PROXY_CPU = CPUS[0], CPUS[-1]


class Process:
    """A program that was started here, with its children. Its log is a file."""

    def __init__(self, command, cpu, log, env=None, folder=None, pipes=False):
        self.log = log
        pipe = subprocess.PIPE if pipes else None
        with open(log, "w") as output:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or output,
                stderr=output,
                text=True,
                env={**os.environ, **(env or {})},
                cwd=folder,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
            )

    def ask(self, line):
        """Writes a line, returns the line that answers it."""
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.popen.args[0]} ended: {self.said()}")
        return line.strip()

    def end_input(self):
        self.popen.stdin.close()

    def running(self):
        return self.popen.poll() is None

    def said(self):
        with open(self.log) as log:
            return log.read()[-2000:]

    def pids(self):
        found, new = [], [self.popen.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            try:
                for thread in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{thread}/children") as children:
                        new += map(int, children.read().split())
            except OSError:
                pass  # it has just ended
        return found

    def stop(self):
        pids = self.pids()
        self.popen.terminate()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.popen.wait()


def run(command, log, folder):
    """Runs a load generator to its end; returns what it printed."""
    process = Process(command, LOAD_CPU, log, folder=folder, pipes=True)
    try:
        output, _ = process.popen.communicate()
    finally:
        process.stop()
    if process.popen.returncode:
        raise RuntimeError(f"{command[0]} failed: {output[-1000:]}{process.said()}")
    return output


class CpuTime:
    """CPU seconds of some processes, and of the proxy's CPU as a whole, since this was made."""

    def __init__(self, pids):
        self.pids = pids
        self.start = time.monotonic()
        self.before = self.now()

    def now(self):
        total, user, system = 0, 0, 0
        for pid in self.pids:
            # The kernel's clock of a process counts nanoseconds; its two parts are known in ticks only.
            total += time.clock_gettime((~pid << 3) | 2)
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            user += int(fields[11])
            system += int(fields[12])
        return total, user, system, busy(PROXY_CPU)

    def spent(self):
        total, user, system, cpu = (now - before for now, before in zip(self.now(), self.before))
        seconds = time.monotonic() - self.start
        share = user / (user + system) if user + system else 0.5
        return {
            "cpu_s": total,
            "user_s": total * share,
            "system_s": total * (1 - share),
            "utilisation": total / seconds,
            "others": max(0.0, cpu - total) / seconds,
        }


def busy(cpu):
    with open("/proc/stat") as stat:
        fields = re.search(rf"^cpu{cpu} (.*)$", stat.read(), re.M)[1].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICK


def memory_kib(pids):
    """What is resident, and how much of it is of their own: the rest are pages of files, which all that run the same program share."""
    resident, own = 0, 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            text = status.read()
        resident += int(re.search(r"VmRSS:\s+(\d+)", text)[1])
        own += int(re.search(r"RssAnon:\s+(\d+)", text)[1])
    return resident, own
