"""Checks that run one after the other, each with a line when it has passed; the first that fails ends the program."""

import hashlib

_checks = []


def check(function):
    _checks.append(function)
    return function


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"{str(actual)[:500]!r} is not {str(expected)[:500]!r}")


def within(low, actual, high):
    if not low <= actual <= high:
        raise AssertionError(f"{actual} is not within {low} and {high}")


def sha(data):
    return hashlib.sha256(data).hexdigest()


def pattern(size, seed=0):
    """Bytes that differ from place to place."""
    block = b"".join(hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(257))
    return (block * (size // len(block) + 1))[:size]


def run():
    for function in _checks:
        try:
            function()
        except BaseException:
            print(f"FAILED {function.__name__}", flush=True)
            raise
        print(f"passed {function.__name__}", flush=True)
