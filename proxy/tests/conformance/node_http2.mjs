// Node's HTTP/2 client: `node_http2.mjs PORT SERVER_PORT`, where a sidecar and the server listen.
import { equal, deepEqual } from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";

import { check, eventually, pattern, run, seen, sha } from "./checks.mjs";

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;
// Node closes sessions that hold more than 10 MB, by itself.
const connect = (options) => http2.connect(`http://127.0.0.1:${process.argv[2]}`, { maxSessionMemory: 500, ...options });
const session = connect();

async function whole(stream) {
  const pieces = [];
  for await (const piece of stream) {
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

async function get(path, on = session) {
  const stream = on.request({ ":path": path });
  const head = once(stream, "response");
  const body = await whole(stream);
  return { headers: (await head)[0], body };
}

async function post(path, body, on = session) {
  const stream = on.request({ ":path": path, ":method": "POST" });
  const head = once(stream, "response");
  stream.end(body);
  const answer = await whole(stream);
  return { headers: (await head)[0], body: answer };
}

// The code with which a stream ends, and what came before.
async function ending(stream) {
  let text = "";
  stream.on("data", (piece) => (text += piece));
  stream.on("error", () => {});
  await new Promise((resolve) => stream.on("close", resolve));
  return [stream.rstCode, text];
}

check("settings", async () => {
  await once(session, "remoteSettings");
  equal(session.remoteSettings.maxConcurrentStreams, 1000);
});

check("answers of every status", async () => {
  for (const code of [200, 201, 204, 302, 304, 404, 418, 500, 503]) {
    const { headers, body } = await get(`/status?code=${code}`);
    deepEqual([headers[":status"], headers.location, body.length], [code, "/elsewhere", 0]);
  }
});

check("HEAD has a length and no body", async () => {
  const stream = session.request({ ":path": "/bytes?size=12345", ":method": "HEAD" });
  const [headers] = await once(stream, "response");
  deepEqual([headers["content-length"], (await whole(stream)).length], ["12345", 0]);
});

check("methods", async () => {
  for (const method of ["PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"]) {
    const stream = session.request({ ":path": "/digest", ":method": method }, { endStream: false });
    stream.end("body");
    deepEqual(JSON.parse(await whole(stream)), { method, size: 4, sha: sha("body") });
  }
});

check("cookies, in and out", async () => {
  const stream = session.request({ ":path": "/cookies", cookie: ["a=1", "b=2"] });
  const [headers] = await once(stream, "response");
  stream.resume();
  deepEqual(headers["set-cookie"], ["a=1; Path=/", "b=2; HttpOnly"]);
  equal(headers["x-cookie"], "a=1; b=2");
});

check("trailers of an answer, and no push", async () => {
  session.on("stream", () => {
    throw new Error("a pushed stream");
  });
  const stream = session.request({ ":path": "/trailers" });
  const [head, trailers] = [once(stream, "response"), once(stream, "trailers")];
  equal((await whole(stream)).toString(), "with trailers");
  equal((await head)[0]["x-push"], "false");
  const { "x-count": count, "x-name": name } = (await trailers)[0];
  deepEqual([count, name], ["3", "one, two"]);
});

check("trailers of a request", async () => {
  const stream = session.request({ ":path": "/sent-trailers", ":method": "POST" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-sent": "at the end" }));
  stream.end("body");
  equal((await whole(stream)).toString(), "at the end");
});

check("early hints", async () => {
  const stream = session.request({ ":path": "/hints" });
  const [hints] = await once(stream, "headers");
  const [headers] = await once(stream, "response");
  stream.resume();
  deepEqual([hints[":status"], hints.link, headers[":status"]], [103, "</style.css>; rel=preload", 200]);
});

check("resets by the server, before and after the head", async () => {
  for (const code of [NGHTTP2_INTERNAL_ERROR, NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM]) {
    deepEqual(await ending(session.request({ ":path": `/reset/${code}` })), [code, ""]);
  }
  deepEqual(await ending(session.request({ ":path": "/late-reset" })), [NGHTTP2_INTERNAL_ERROR, "begun"]);
});

check("a broken answer is not whole", async () => {
  const [code, text] = await ending(session.request({ ":path": "/broken" }));
  equal(code, NGHTTP2_INTERNAL_ERROR);
  equal(text.length <= 10_000, true);
});

check("resets by the client reach the server", async () => {
  const before = await seen();
  const resets = [];
  const reach = () => eventually(async () => (await seen()).resets.slice(before.resets.length), resets);
  for (const code of [NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR]) {
    const held = session.request({ ":path": "/hold" });
    const [data] = await once(held, "data");
    equal(data.toString(), "held");
    held.on("error", () => {});
    held.close(code);
    resets.push(code);
    await reach();
    const silent = session.request({ ":path": "/silent" });
    silent.on("error", () => {});
    await eventually(async () => (await seen()).silent - before.silent, (resets.length + 1) / 2);
    silent.close(code);
    resets.push(code);
    await reach();
  }
});

check("big bodies both ways", async () => {
  const body = pattern(16 << 20);
  const echo = await post("/echo", body);
  deepEqual([echo.headers[":status"], sha(echo.body)], [200, sha(body)]);
  const down = await get("/bytes?size=33554432");
  equal(sha(down.body), sha(pattern(32 << 20)));
});

check("a reader that stops stops nobody else", async () => {
  const stalled = session.request({ ":path": "/bytes?size=8000000" });
  await once(stalled, "response");
  stalled.pause();
  for (let n = 0; n < 20; n++) {
    equal((await get("/bytes?size=200000")).body.length, 200_000);
  }
  equal(sha(await whole(stalled)), sha(pattern(8_000_000)));
});

check("small windows", async () => {
  const small = connect({ settings: { initialWindowSize: 1000, maxFrameSize: 16_384 } });
  const { body } = await get("/bytes?size=300000", small);
  equal(sha(body), sha(pattern(300_000)));
  small.close();
  await once(small, "close");
});

check("pieces come when they are sent", async () => {
  const stream = session.request({ ":path": "/pieces?count=5&size=100&pause=200" });
  const times = [];
  const pieces = [];
  stream.on("data", (piece) => (times.push(Date.now()), pieces.push(piece)));
  await once(stream, "end");
  equal(sha(Buffer.concat(pieces)), sha(Buffer.concat([0, 1, 2, 3, 4].map((n) => pattern(100, n)))));
  equal(times.length, 5);
  equal(times[4] - times[0] >= 600, true);
});

check("a conversation", async () => {
  const stream = session.request({ ":path": "/echo", ":method": "POST" });
  for (let n = 0; n < 50; n++) {
    stream.write(`turn ${n}`);
    const [data] = await once(stream, "data");
    equal(data.toString(), `turn ${n}`);
  }
  stream.end();
  stream.resume();
  await once(stream, "end");
});

check("an answer before the upload has ended", async () => {
  for (let n = 0; n < 10; n++) {
    const stream = session.request({ ":path": "/early", ":method": "POST" });
    stream.on("error", () => {});
    stream.write(pattern(1 << 20));
    const [headers] = await once(stream, "response");
    let text = "";
    stream.on("data", (piece) => (text += piece));
    await once(stream, "end");
    deepEqual([headers[":status"], text], [413, "too large"]);
    stream.close(NGHTTP2_NO_ERROR);
  }
});

check("a thousand requests at once", async () => {
  const requests = Array.from({ length: 1000 }, async (_, n) => {
    const body = pattern(5000, n % 10);
    equal(sha((await post("/echo", body)).body), sha(body));
  });
  await Promise.all(requests);
});

check("a ping is answered, and no connection was lost", async () => {
  const payload = Buffer.from("12345678");
  const echo = await new Promise((resolve, reject) => {
    session.ping(payload, (error, _, data) => (error ? reject(error) : resolve(data)));
  });
  deepEqual(echo, payload);
  deepEqual([session.closed, session.destroyed], [false, false]);
});

await run();
session.close();
