"""`grpc_steady.py PORT SECONDS`: calls of grpcio one after the other, each of which must be answered. Prints how many there were."""

import sys
import time

import grpc

from checks import equal

call = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}").unary_unary("/aviary.Echo/Unary")
end = time.monotonic() + float(sys.argv[2])
count = 0
while time.monotonic() < end:
    message = str(count).encode()
    equal(call(message, timeout=10), message)
    count += 1
print(count)
