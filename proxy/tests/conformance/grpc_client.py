"""A client of grpcio: `grpc_client.py PORT`, where a sidecar listens."""

import sys
import threading
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from checks import check, equal, pattern, run, sha, within

LIMIT = 30


class Echo:
    """A channel of its own, with a connection of its own."""

    def __init__(self, *options):
        options = [("grpc.use_local_subchannel_pool", 1), *options]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options=options)

    def unary(self, method):
        return self.channel.unary_unary(f"/aviary.Echo/{method}")

    def unary_stream(self, method):
        return self.channel.unary_stream(f"/aviary.Echo/{method}")

    def stream_unary(self, method):
        return self.channel.stream_unary(f"/aviary.Echo/{method}")

    def stream_stream(self, method):
        return self.channel.stream_stream(f"/aviary.Echo/{method}")


echo = Echo(("grpc.max_receive_message_length", -1))


def failure(call):
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"{answer!r} where an error should be")


@check
def unary_messages_of_every_size():
    for size in (0, 1, 5, 16_379, 16_384, 65_530, 65_536, 1_000_000):
        message = pattern(size)
        equal(sha(echo.unary("Unary")(message, timeout=LIMIT)), sha(message))


@check
def a_message_of_twenty_mebibytes():
    message = pattern(20 << 20)
    equal(sha(echo.unary("Unary")(message, timeout=LIMIT)), sha(message))


@check
def compressed_both_ways():
    for method in ("Unary", "Compressed"):
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
            message = b"compressible " * 20_000
            answer = echo.unary(method)(message, timeout=LIMIT, compression=compression)
            equal(sha(answer), sha(message))


@check
def a_stream_down():
    answers = list(echo.unary_stream("Download")(b"200 50000", timeout=LIMIT))
    equal(len(answers), 200)
    for n, answer in enumerate(answers):
        equal(sha(answer), sha(pattern(50_000, n)))


@check
def a_stream_up():
    messages = [pattern(50_000, n) for n in range(200)]
    answer = echo.stream_unary("Upload")(iter(messages), timeout=LIMIT)
    equal(answer.decode(), f"200 {sha(b''.join(messages))}")


@check
def a_stream_of_nothing():
    equal(echo.stream_unary("Upload")(iter([]), timeout=LIMIT).decode(), f"0 {sha(b'')}")
    equal(list(echo.unary_stream("Download")(b"0 0", timeout=LIMIT)), [])
    equal(list(echo.stream_stream("Chat")(iter([]), timeout=LIMIT)), [])


@check
def ping_and_pong():
    """Each message leaves only after the answer to the one before."""
    turn = threading.Semaphore(1)

    def messages():
        for n in range(100):
            turn.acquire()
            yield f"{n}".encode()

    answers = []
    for answer in echo.stream_stream("Chat")(messages(), timeout=LIMIT):
        answers.append(answer.decode())
        turn.release()
    equal(answers, [f"to {n}" for n in range(100)])


@check
def a_deadline_reaches_the_server():
    within(25, float(echo.unary("Remaining")(b"", timeout=LIMIT)), LIMIT + 1)


@check
def a_deadline_ends_the_call_here_and_there():
    began = time.monotonic()
    error = failure(lambda: list(echo.unary_stream("Wait")(b"", timeout=0.5)))
    within(0.4, time.monotonic() - began, 5)
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    equal(echo.unary("Ended")(b"1", timeout=LIMIT), b"1")


@check
def a_cancelled_call_ends_here_and_there():
    call = echo.unary_stream("Wait")(b"", timeout=LIMIT)
    equal(next(call), b"waiting")
    call.cancel()
    error = failure(lambda: next(call))
    equal(error.code(), grpc.StatusCode.CANCELLED)
    equal(echo.unary("Ended")(b"2", timeout=LIMIT), b"2")


@check
def many_cancelled_calls_leave_the_others_alone():
    chat = echo.stream_stream("Chat")
    other = echo.unary("Unary")
    calls = [echo.unary_stream("Wait")(b"", timeout=LIMIT) for _ in range(40)]
    for call in calls:
        equal(next(call), b"waiting")
    for call in calls:
        call.cancel()
        equal(other(b"alone", timeout=LIMIT), b"alone")
    equal(echo.unary("Ended")(b"42", timeout=LIMIT), b"42")
    equal(list(chat(iter([b"you"]), timeout=LIMIT)), [b"to you"])


@check
def metadata_ascii_binary_and_repeated():
    sent = [
        ("x-echo", "one, two"),
        ("x-echo", "three"),
        ("x-echo-bin", bytes(range(256))),
        ("x-echo-large", "v" * 7000),
    ]
    answer, call = echo.unary("Metadata").with_call(b"", timeout=LIMIT, metadata=sent)
    equal([(key, value) for key, value in call.initial_metadata() if key.startswith("x-")], sent)
    trailing = [(key, value) for key, value in call.trailing_metadata() if key.startswith("x-")]
    equal(trailing, [(key.replace("echo", "trailing"), value) for key, value in sent])
    equal(sorted(set(answer.decode().split(","))), ["user-agent", "x-echo", "x-echo-bin", "x-echo-large"])


@check
def a_status_with_details():
    for code in range(1, 17):
        error = failure(lambda: echo.unary("Details")(str(code).encode(), timeout=LIMIT))
        status = rpc_status.from_call(error)
        equal((status.code, status.message), (code, "não: \u2603 100%\t"))
        info, debug = error_details_pb2.ErrorInfo(), error_details_pb2.DebugInfo()
        equal([status.details[0].Unpack(info), status.details[1].Unpack(debug)], [True, True])
        equal((info.reason, info.domain, dict(info.metadata)), ("STOCK", "shop.example", {"item": "7"}))
        equal(debug.detail, "x" * 4000)


@check
def what_nobody_implements():
    for method in ("/aviary.Echo/Nothing", "/aviary.Nobody/Unary"):
        error = failure(lambda: echo.channel.unary_unary(method)(b"", timeout=LIMIT))
        equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)


@check
def a_status_comes_before_the_upload_has_ended():
    def endless():
        while True:
            yield pattern(30_000)

    for _ in range(10):
        error = failure(lambda: echo.stream_unary("Enough")(endless(), timeout=LIMIT))
        equal((error.code(), error.details()), (grpc.StatusCode.RESOURCE_EXHAUSTED, "enough"))


@check
def an_answer_that_is_too_large_for_the_client():
    small = Echo(("grpc.max_receive_message_length", 1_000_000))
    error = failure(lambda: small.unary("Unary")(pattern(2_000_000), timeout=LIMIT))
    equal(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
    small.channel.close()


@check
def a_quiet_stream_with_keepalive_stays():
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    quiet = Echo(*options)

    def messages():
        yield b"before"
        time.sleep(2)
        yield b"after"

    equal(list(quiet.stream_stream("Chat")(messages(), timeout=LIMIT)), [b"to before", b"to after"])
    quiet.channel.close()


@check
def many_calls_at_once():
    calls = [(n, echo.unary("Unary").future(pattern(10_000, n), timeout=LIMIT)) for n in range(500)]
    for n, call in calls:
        equal(sha(call.result()), sha(pattern(10_000, n)))


run()
echo.channel.close()
