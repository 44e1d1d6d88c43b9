#!/usr/bin/env -S python3 -B
"""Measures the sidecar beside other proxies: `make bench`. README.md beside this says how to read it."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import candidates
import pairs
import report
from processes import LOAD_CPU, PROXY_CPU, Process
from scenarios import SCENARIOS, Load

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUTPUT = os.path.join(ROOT, "target", "bench")
SHARE = 25
TOLERANCE = 4
"""Of the share in percent, in the check: more than four standard deviations of a split by chance."""


def main():
    options = arguments()
    chosen = [SCENARIOS[name] for name in options.scenarios.split(",")]
    programs = build()
    os.makedirs(OUTPUT, exist_ok=True)
    os.sched_setaffinity(0, {LOAD_CPU})
    work = os.path.join(OUTPUT, "pairs")
    proxies = {
        False: [kind(OUTPUT, programs, 21100 + 10 * number) for number, kind in enumerate(candidates.ALL)],
        True: [kind(work, programs, 21200 + 10 * number) for number, kind in enumerate(pairs.ALL)],
    }
    load = Load(OUTPUT, programs["bench-load"], -(-options.flips // options.rounds))
    with backends(programs["bench-backend"]):
        for with_pairs in sorted({scenario.pairs for scenario in chosen}):
            check(load, proxies[with_pairs])
        meta, samples = about(options), []
        for sample in measure(load, proxies, chosen, options):
            samples.append(sample)
            keep(meta, samples)
    print("\n" + keep(meta, samples))
    print("target/bench/result.md, target/bench/result.json")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=int, default=3, help="length of a sample")
    parser.add_argument("--flips", type=int, default=1000, help="changes of the weights, over all rounds")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help=f"of {', '.join(SCENARIOS)}")
    options = parser.parse_args()
    unknown = set(options.scenarios.split(",")) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return options


def build():
    """The programs by name."""
    command = [
        "cargo", "build", "--release", "--manifest-path", f"{HERE}/Cargo.toml", "--target-dir", f"{ROOT}/target",
        "--message-format", "json-render-diagnostics",
    ]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit("the programs cannot be built")
    artifacts = map(json.loads, built.stdout.splitlines())
    return {each["target"]["name"]: each["executable"] for each in artifacts if each.get("executable")}


@contextmanager
def backends(program):
    process = Process([program, candidates.BACKENDS], LOAD_CPU, os.path.join(OUTPUT, "backend.log"))
    try:
        time.sleep(0.2)
        if not process.running():
            sys.exit(f"the backends do not serve: {process.said()}")
        yield
    finally:
        process.stop()


@contextmanager
def running(candidate, share=SHARE):
    try:
        candidate.start(share)
        yield
    finally:
        candidate.stop()


def check(load, proxies):
    """Every candidate carries every protocol and splits as it was told, or nothing is measured."""
    for candidate in proxies:
        with running(candidate):
            for protocol in ("h1", "h2", "grpc"):
                result = load.open_loop(candidate, protocol, 2)
                share = 100 * result["answers"].get("b", 0) / result["requests"]
                print(f"{candidate.name} {protocol}: {share:.1f} % to b, {result['failed']} failed", flush=True)
                wanted = SHARE if candidate.splits else 0
                if result["failed"] or abs(share - wanted) > TOLERANCE:
                    sys.exit(f"{candidate.name} does not do its work: {result}, and {wanted} % were wanted")


def measure(load, proxies, chosen, options):
    """Candidates take turns within a round, and another one begins in the next."""
    start = time.monotonic()
    for number in range(options.rounds):
        for scenario in chosen:
            taking_turns = proxies[scenario.pairs]
            first = number % len(taking_turns)
            for candidate in taking_turns[first:] + taking_turns[:first]:
                if scenario.kind == "flips" and not candidate.shifts:
                    continue
                with running(candidate):
                    sample = scenario.sample(load, candidate, options.secs)
                taken = time.monotonic() - start
                print(f"{taken:5.0f} s, round {number + 1}, {scenario.name}: {candidate.name} {brief(sample)}", flush=True)
                yield {"round": number, "scenario": scenario.name, "candidate": candidate.name} | sample


def brief(sample):
    """The line that shows how it goes on."""
    shown = ("per_second", "p50_us", "p99_us", "after_mib", "seen", "failed")
    return ", ".join(f"{key} {sample[key]:,.0f}" for key in shown if sample.get(key) is not None)


def about(options):
    def says(*command):
        output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        return output.strip().splitlines()[0]

    with open("/proc/cpuinfo") as cpuinfo:
        cpu = re.search(r"model name\s*:\s*(.*)", cpuinfo.read())[1]
    return {
        "when": time.strftime("%F %H:%M"),
        "machine": f"{cpu}, Linux {os.uname().release}, proxy on CPU {PROXY_CPU}, load and backends on CPU {LOAD_CPU}",
        "run": f"{options.rounds} rounds, samples of {options.secs} s, {options.flips:,} flips",
        "aviary": says("git", "describe", "--always", "--dirty"),
        "envoy": candidates.ENVOY_VERSION,
        "haproxy": says("haproxy", "-v"),
        "nginx": says("nginx", "-v"),
    }


def keep(meta, samples):
    text = report.markdown(meta, samples, SCENARIOS.values())
    with open(os.path.join(OUTPUT, "result.json"), "w") as file:
        json.dump({"about": meta, "samples": samples}, file, indent=1)
    with open(os.path.join(OUTPUT, "result.md"), "w") as file:
        file.write(text)
    return text


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
