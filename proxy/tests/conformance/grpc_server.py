"""A server of grpcio. Messages are bytes; `aviary.Echo/Ended` tells how calls of `aviary.Echo/Wait` ended."""

import argparse
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from checks import pattern, sha

ended = {"cancelled": 0}
changed = threading.Condition()


def unary(message, context):
    return message


def compressed(message, context):
    context.set_compression(grpc.Compression.Gzip)
    return message


def download(message, context):
    count, size = map(int, message.split())
    for n in range(count):
        yield pattern(size, n)


def upload(messages, context):
    count, whole = 0, []
    for message in messages:
        count += 1
        whole.append(message)
    return f"{count} {sha(b''.join(whole))}".encode()


def chat(messages, context):
    for message in messages:
        yield b"to " + message


def enough(messages, context):
    """Ends the call while the client goes on sending."""
    next(messages)
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


def wait(message, context):
    """One message, and then nothing until the client leaves."""
    left = threading.Event()
    context.add_callback(left.set)
    yield b"waiting"
    if left.wait(30):
        with changed:
            ended["cancelled"] += 1
            changed.notify_all()


def how_ended(message, context):
    with changed:
        changed.wait_for(lambda: ended["cancelled"] >= int(message), 10)
        return str(ended["cancelled"]).encode()


def remaining(message, context):
    return str(context.time_remaining()).encode()


def metadata(message, context):
    echo = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-echo")]
    context.send_initial_metadata(echo)
    context.set_trailing_metadata([(key.replace("echo", "trailing"), value) for key, value in echo])
    return b",".join(key.encode() for key, _ in context.invocation_metadata())


def details(message, context):
    status = status_pb2.Status(code=int(message), message="não: \u2603 100%\t")
    for detail in (
        error_details_pb2.ErrorInfo(reason="STOCK", domain="shop.example", metadata={"item": "7"}),
        error_details_pb2.DebugInfo(detail="x" * 4000),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-age", type=int, help="milliseconds that a connection lives")
    arguments = parser.parse_args()
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    if arguments.max_age:
        options += [
            ("grpc.max_connection_age_ms", arguments.max_age),
            ("grpc.max_connection_age_grace_ms", 10_000),
        ]
    server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Compressed": grpc.unary_unary_rpc_method_handler(compressed),
        "Download": grpc.unary_stream_rpc_method_handler(download),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Enough": grpc.stream_unary_rpc_method_handler(enough),
        "Wait": grpc.unary_stream_rpc_method_handler(wait),
        "Ended": grpc.unary_unary_rpc_method_handler(how_ended),
        "Remaining": grpc.unary_unary_rpc_method_handler(remaining),
        "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
        "Details": grpc.unary_unary_rpc_method_handler(details),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("aviary.Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on {port}", flush=True)
    server.wait_for_termination()


main()
