"""httpx over HTTP/1.1 and HTTP/2: `httpx_client.py PORT`, where a sidecar listens."""

import asyncio
import sys
import time

import httpx

from checks import check, equal, pattern, run, sha, within

URL = f"http://127.0.0.1:{sys.argv[1]}"
VERSIONS = {"HTTP/1.1": {}, "HTTP/2": {"http1": False, "http2": True}}


def each(function):
    """The check with a client of each version."""
    for version, options in VERSIONS.items():

        def with_client(version=version, options=options):
            with httpx.Client(base_url=URL, timeout=20, trust_env=False, **options) as client:
                function(client, version)

        with_client.__name__ = f"{function.__name__}, {version}"
        check(with_client)


def pieces(count, size):
    for n in range(count):
        yield pattern(size, n)


@each
def answers_of_every_status(client, version):
    for code in (200, 201, 204, 302, 304, 404, 418, 500, 503):
        answer = client.get(f"/status?code={code}")
        equal((answer.http_version, answer.status_code, answer.content), (version, code, b""))


@each
def methods_and_bodies(client, version):
    for method in ("POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"):
        for size in (0, 1, 65_535, 65_536, 3_000_000):
            body = pattern(size)
            answer = client.request(method, "/digest", content=body)
            equal(answer.json(), {"method": method, "size": size, "sha": sha(body)})


@each
def a_head_request(client, version):
    for _ in range(3):
        answer = client.head("/bytes?size=12345")
        equal((answer.headers["content-length"], answer.content), ("12345", b""))


@each
def a_body_of_known_length_down(client, version):
    for size in (0, 1, 16_384, 65_536, 10_000_000):
        answer = client.get(f"/bytes?size={size}")
        equal(sha(answer.content), sha(pattern(size)))
        equal(answer.headers["content-length"], str(size))


@each
def a_stream_down(client, version):
    with client.stream("GET", "/pieces?count=100&size=30000") as answer:
        equal("content-length" in answer.headers, False)
        body = b"".join(answer.iter_raw())
    equal(sha(body), sha(b"".join(pieces(100, 30_000))))


@each
def a_stream_down_comes_as_it_is_sent(client, version):
    times = []
    with client.stream("GET", "/pieces?count=4&size=100&pause=200") as answer:
        for _ in answer.iter_raw(100):
            times.append(time.monotonic())
    equal(len(times), 4)
    within(0.4, times[-1] - times[0], 10)


@each
def a_stream_up(client, version):
    answer = client.post("/digest", content=pieces(100, 30_000))
    body = b"".join(pieces(100, 30_000))
    equal(answer.json(), {"method": "POST", "size": len(body), "sha": sha(body)})


@each
def a_slow_stream_up(client, version):
    def slow():
        for piece in pieces(5, 1000):
            yield piece
            time.sleep(0.1)

    answer = client.post("/digest", content=slow())
    equal(answer.json()["sha"], sha(b"".join(pieces(5, 1000))))


@each
def an_echo_with_and_without_a_length(client, version):
    body = pattern(1_000_000)
    for content in (body, pieces(1, 1_000_000)):
        answer = client.post("/echo", content=content)
        equal(sha(answer.content), sha(body))


@each
def form_and_files(client, version):
    answer = client.post("/echo", data={"name": "value é"}, files={"file": ("a.bin", pattern(100_000))})
    equal(answer.content.count(pattern(100_000)), 1)
    equal("value é".encode() in answer.content, True)


@each
def repeated_headers(client, version):
    answer = client.get("/cookies", headers=[("cookie", "a=1"), ("cookie", "b=2")])
    equal(answer.headers.get_list("set-cookie"), ["a=1; Path=/", "b=2; HttpOnly"])
    equal(answer.headers["x-cookie"], "a=1; b=2")


@each
def a_broken_answer_is_an_error(client, version):
    try:
        client.get("/broken")
    except (httpx.RemoteProtocolError, httpx.ReadError):
        return
    raise AssertionError("a part of an answer was taken for the whole")


@each
def a_timeout_here_leaves_the_next_request_alone(client, version):
    for _ in range(5):
        try:
            client.get("/pieces?count=2&size=10&pause=1000", timeout=0.2)
            raise AssertionError("it came in time")
        except httpx.ReadTimeout:
            pass
        equal(sha(client.get("/bytes?size=100").content), sha(pattern(100)))


@each
def a_connection_is_kept(client, version):
    ports = set()
    for _ in range(200):
        answer = client.get("/bytes?size=10")
        ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        equal(answer.content, pattern(10))
    equal(len(ports), 1)


@check
def many_at_once():
    async def all_of_them(options):
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=URL, timeout=30, trust_env=False, limits=limits, **options) as client:

            async def one(n):
                body = pattern(20_000, n % 7)
                answer = await client.post("/echo", content=body)
                equal((answer.status_code, sha(answer.content)), (200, sha(body)))

            await asyncio.gather(*(one(n) for n in range(300)))

    for options in VERSIONS.values():
        asyncio.run(all_of_them(options))


run()
