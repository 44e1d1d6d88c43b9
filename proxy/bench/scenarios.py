"""What is measured, and how one sample of it is taken."""

import json
import os
import re
import statistics
import threading
import time
from dataclasses import dataclass
from typing import Callable

from processes import LOAD_CPU, CpuTime, Process, memory_kib, run

RATE = 2000
FLIPS_PER_SECOND = 50
IDLE_CONNECTIONS = 1000
BODY = 64 * 1024
HEADERS = [f"x-header-{number:02}: a value of {number:02} bytes or so" for number in range(20)]
# What the load generators send, in their working folder.
FILES = {
    "body": b"x" * BODY,
    "body.lua": f'wrk.method = "POST"\nwrk.body = string.rep("x", {BODY})\n'.encode(),
    "grpc": b"\0\0\0\0\x80" + b"q" * 128,
}


@dataclass
class Scenario:
    name: str
    title: str
    kind: str
    """What is measured of it, and so which table it gets: full, rate, idle or flips."""
    sample: Callable
    """(load, candidate, seconds) -> a dictionary of numbers."""
    pairs: bool = False
    """Of two proxies with mutual TLS between them, the caller's and that of who is called."""


class Load:
    """The load generators. Each returns how many requests were answered and how many failed."""

    def __init__(self, work, program, flips):
        self.work, self.program, self.flips = work, program, flips
        self.log = os.path.join(work, "load.log")
        for name, content in FILES.items():
            with open(os.path.join(work, name), "wb") as file:
                file.write(content)

    def run(self, *command):
        return run(command, self.log, folder=self.work)

    def wrk(self, candidate, seconds, path="/1024", options=()):
        url = f"http://127.0.0.1:{candidate.port}{path}"
        output = self.run("wrk", "-t1", "-c64", f"-d{seconds}s", *options, url)
        answered = int(re.search(r"(\d+) requests in", output)[1])
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        failed = (int(refused[1]) if refused else 0) + (sum(map(int, broken.groups())) if broken else 0)
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
        return {"requests": answered, "failed": failed, "per_second": rate}

    def h2load(self, candidate, seconds, path="/1024", options=()):
        url = f"http://127.0.0.1:{candidate.port_h2}{path}"
        output = self.run("h2load", "-t1", "-c8", "-m32", f"-D{seconds}", *options, url)
        counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed", output)
        done, succeeded, failed = map(int, counts.groups())
        rate = float(re.search(r"finished in .*?, ([\d.]+) req/s", output)[1])
        return {"requests": done, "failed": failed, "per_second": rate, "succeeded": succeeded}

    def open_loop(self, candidate, protocol, seconds, answers=None):
        port, connections = (candidate.port, 32) if protocol == "h1" else (candidate.port_h2, 8)
        options = ["--answers", answers] if answers else []
        output = self.run(
            self.program, "--connections", connections, protocol, port,
            "rate", "--rate", RATE, "--seconds", seconds, *options,
        )
        sample = json.loads(output)
        sample["failed"] = sum(sample["failures"].values())
        return sample


def full(generator, **how):
    """As fast as it goes: a closed loop."""

    def sample(load, candidate, seconds):
        go = getattr(load, generator)
        go(candidate, 1, **how)
        time_spent = CpuTime(candidate.pids())
        result = go(candidate, seconds, **how)
        return result | time_spent.spent()

    return sample


def rate(protocol):
    def sample(load, candidate, seconds):
        load.open_loop(candidate, protocol, 1)
        time_spent = CpuTime(candidate.pids())
        result = load.open_loop(candidate, protocol, seconds)
        return result | time_spent.spent()

    return sample


def idle(protocol):
    def sample(load, candidate, _seconds):
        port = candidate.port if protocol == "h1" else candidate.port_h2
        before, _ = memory_kib(candidate.pids())
        holder = Process(
            [load.program, "--connections", IDLE_CONNECTIONS, protocol, port, "idle"], LOAD_CPU, load.log, pipes=True,
        )
        try:
            if holder.answer() != "held":
                raise RuntimeError(holder.said())
            time.sleep(0.5)
            after, own = memory_kib(candidate.pids())
            holder.end_input()
            open_still = int(holder.answer())
        finally:
            holder.stop()
        return {"before_mib": before / 1024, "after_mib": after / 1024, "own_mib": own / 1024,
                "kib_each": (after - before) / IDLE_CONNECTIONS, "failed": IDLE_CONNECTIONS - open_still}

    return sample


def flips(protocol):
    """All requests from one backend to the other and back, again and again."""

    def sample(load, candidate, _seconds):
        answers = os.path.join(load.work, "answers")
        candidate.shift(0)
        seconds = load.flips / FLIPS_PER_SECOND + 1
        made = []

        def flip():
            start = time.monotonic() + 0.5
            for number in range(load.flips):
                time.sleep(max(0.0, start + number / FLIPS_PER_SECOND - time.monotonic()))
                at, to = time.monotonic_ns(), "ab"[(number + 1) % 2]
                candidate.shift(100 if to == "b" else 0)
                made.append((at, time.monotonic_ns(), to))

        flipper = threading.Thread(target=flip)
        flipper.start()
        result = load.open_loop(candidate, protocol, seconds, answers)
        flipper.join()
        if len(made) < load.flips:
            raise RuntimeError(f"{candidate.name}: a weight could not be changed")
        with open(answers) as file:
            sent = sorted((int(at), backend) for at, backend in map(str.split, file))
        return result | {"flips": len(made)} | effect(made, sent)

    return sample


def effect(made, sent):
    """How many changes could be seen in the answers before the next change, and how long the old backend still answered."""
    position, seen, took_ms = 0, 0, []
    for number, (at, _, to) in enumerate(made):
        end = made[number + 1][0] if number + 1 < len(made) else at + 500_000_000
        while position < len(sent) and sent[position][0] < at:
            position += 1
        first, last_old = None, at
        while position < len(sent) and sent[position][0] < end:
            when, backend = sent[position]
            if backend == to and first is None:
                first = when
            if backend != to and first is None:
                last_old = when
            position += 1
        if first is not None:
            seen += 1
            took_ms.append((last_old - at) / 1e6)
    return {
        "seen": seen,
        "effect_ms": statistics.median(took_ms) if took_ms else None,
        "told_ms": statistics.median((done - at) / 1e6 for at, done, _ in made),
    }


def headers(names):
    return [word for header in names for word in ("-H", header)]


MANY = {"options": headers(HEADERS)}
LARGE = {"path": f"/{BODY}"}
GRPC = {
    "path": "/bench.Echo/Unary",
    "options": ["-d", "grpc", *headers(["content-type: application/grpc", "te: trailers"])],
}

SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        Scenario("h1idle", "1,000 idle HTTP/1.1 connections", "idle", idle("h1")),
        Scenario("h2idle", "1,000 idle HTTP/2 connections", "idle", idle("h2")),
        Scenario("h1max", "HTTP/1.1, 64 connections", "full", full("wrk")),
        Scenario("h2max", "HTTP/2, 8 connections of 32 streams", "full", full("h2load")),
        Scenario("grpcmax", "gRPC, 8 connections of 32 streams", "full", full("h2load", **GRPC)),
        Scenario("h1headers", "HTTP/1.1, 20 more headers", "full", full("wrk", **MANY)),
        Scenario("h2headers", "HTTP/2, 20 more headers", "full", full("h2load", **MANY)),
        Scenario("h1body", "HTTP/1.1, 64 KiB there and back", "full", full("wrk", **LARGE, options=["-s", "body.lua"])),
        Scenario("h2body", "HTTP/2, 64 KiB there and back", "full", full("h2load", **LARGE, options=["-d", "body"])),
        Scenario("h1rate", f"HTTP/1.1, {RATE:,} requests/s", "rate", rate("h1")),
        Scenario("h2rate", f"HTTP/2, {RATE:,} requests/s", "rate", rate("h2")),
        Scenario("grpcrate", f"gRPC, {RATE:,} requests/s", "rate", rate("grpc")),
        Scenario("h1mtls", "HTTP/1.1, 64 connections, mutual TLS between two proxies", "full", full("wrk"), pairs=True),
        Scenario("grpcmtls", "gRPC, 8 connections of 32 streams, mutual TLS between two proxies", "full", full("h2load", **GRPC), pairs=True),
        Scenario("h1mtlsrate", f"HTTP/1.1, {RATE:,} requests/s, mutual TLS between two proxies", "rate", rate("h1"), pairs=True),
        Scenario("grpcmtlsrate", f"gRPC, {RATE:,} requests/s, mutual TLS between two proxies", "rate", rate("grpc"), pairs=True),
        Scenario("h1flips", f"HTTP/1.1, {RATE:,} requests/s, weights 0 <-> 100 %", "flips", flips("h1")),
        Scenario("grpcflips", f"gRPC, {RATE:,} requests/s, weights 0 <-> 100 %", "flips", flips("grpc")),
    ]
}
