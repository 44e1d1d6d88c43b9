"""The samples as Markdown: medians over the rounds with their spread, ratios to a reference within each round."""

import statistics

REFERENCE = "haproxy"


class Samples:
    def __init__(self, samples, scenario):
        self.samples = [sample for sample in samples if sample["scenario"] == scenario]
        self.candidates = list(dict.fromkeys(sample["candidate"] for sample in self.samples))

    def by_round(self, candidate, value):
        found = {
            sample["round"]: value(sample) for sample in self.samples if sample["candidate"] == candidate
        }
        return {number: each for number, each in found.items() if each is not None}

    def median(self, candidate, value, digits):
        each = self.by_round(candidate, value).values()
        return number(statistics.median(each), digits) if each else "-"

    def spread(self, candidate, value, digits):
        each = self.by_round(candidate, value).values()
        middle = self.median(candidate, value, digits)
        return f"{middle} ({number(min(each), digits)}..{number(max(each), digits)})" if len(each) > 1 else middle

    def ratio(self, candidate, value):
        own, other = self.by_round(candidate, value), self.by_round(REFERENCE, value)
        ratios = [own[round] / other[round] for round in own if other.get(round)]
        return number(statistics.median(ratios), 2) if ratios else "-"

    def total(self, candidate, value):
        return number(sum(self.by_round(candidate, value).values()), 0)


def number(value, digits):
    return f"{value:,.{digits}f}"


def of(key):
    return lambda sample: sample.get(key)


def per_100k(key):
    """CPU seconds for 100,000 requests."""
    return lambda sample: sample[key] / sample["requests"] * 1e5


def full(samples, name):
    return {
        "requests/s": samples.spread(name, of("per_second"), 0),
        "x": samples.ratio(name, of("per_second")),
    } | cpu(samples, name)


def rate(samples, name):
    return {
        "p50 us": samples.spread(name, of("p50_us"), 0),
        "x": samples.ratio(name, of("p50_us")),
        "p99 us": samples.spread(name, of("p99_us"), 0),
        "x ": samples.ratio(name, of("p99_us")),
    } | cpu(samples, name)


def cpu(samples, name):
    return {
        "CPU s / 100k": samples.spread(name, per_100k("cpu_s"), 2),
        "x   ": samples.ratio(name, per_100k("cpu_s")),
        "user": samples.median(name, per_100k("user_s"), 2),
        "system": samples.median(name, per_100k("system_s"), 2),
        "failed": samples.total(name, of("failed")),
    }


def idle(samples, name):
    return {
        "RSS at start, MiB": samples.spread(name, of("before_mib"), 1),
        "with 1,000, MiB": samples.spread(name, of("after_mib"), 1),
        "x": samples.ratio(name, of("after_mib")),
        "of its own, MiB": samples.median(name, of("own_mib"), 1),
        "KiB each": samples.median(name, of("kib_each"), 1),
        "closed": samples.total(name, of("failed")),
    }


def flips(samples, name):
    return {
        "flips": samples.total(name, of("flips")),
        "seen before the next": samples.total(name, of("seen")),
        "old answers for, ms": samples.spread(name, of("effect_ms"), 1),
        "p50 us": samples.spread(name, of("p50_us"), 0),
        "p99 us": samples.spread(name, of("p99_us"), 0),
        "requests": samples.total(name, of("requests")),
        "failed": samples.total(name, of("failed")),
    }


KINDS = {"full": full, "rate": rate, "idle": idle, "flips": flips}


def markdown(meta, samples, scenarios):
    lines = ["# The sidecar beside other proxies", ""]
    lines += [f"- {key}: {value}" for key, value in meta.items()]
    others = [sample["others"] for sample in samples if "others" in sample]
    if others:
        median, most = 100 * statistics.median(others), 100 * max(others)
        lines.append(f"- other work on the proxy's CPU: {median:.0f} % (median), {most:.0f} % (most)")
    lines += ["", f"Medians over the rounds (min..max); x: to {REFERENCE}, within a round."]
    for scenario in scenarios:
        of_scenario = Samples(samples, scenario.name)
        rows = {name: KINDS[scenario.kind](of_scenario, name) for name in of_scenario.candidates}
        if rows:
            lines += ["", f"## {scenario.name}: {scenario.title}", ""] + table(rows)
    return "\n".join(lines) + "\n"


def table(rows):
    columns = list(next(iter(rows.values())))
    lines = [["", *(column.strip() for column in columns)], ["---", *("--:" for _ in columns)]]
    lines += [[name, *(row[column] for column in columns)] for name, row in rows.items()]
    return ["| " + " | ".join(line) + " |" for line in lines]
