// The WebSocket client `ws`: `node_websocket.mjs PORT SERVER_PORT`, where a sidecar and the server listen.
import { equal, deepEqual } from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import http from "node:http";

import { check, eventually, pattern, run, seen, sha } from "./checks.mjs";

const WebSocket = createRequire(`${process.env.AVIARY_CONFORMANCE}/`)("ws");
const port = process.argv[2];

async function open(path = "/", options = {}) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, options);
  await once(socket, "open");
  return socket;
}

async function closed(socket) {
  const [code, reason] = await once(socket, "close");
  return [code, reason.toString()];
}

async function echo(socket, message) {
  socket.send(message);
  const [data, isBinary] = await once(socket, "message");
  return [sha(data), isBinary];
}

check("text and binary", async () => {
  const socket = await open();
  for (const text of ["", "a", "\u{1f426} bird", "x".repeat(125), "x".repeat(126), "x".repeat(70_000)]) {
    deepEqual(await echo(socket, text), [sha(text), false]);
    deepEqual(await echo(socket, Buffer.from(text)), [sha(text), true]);
  }
  socket.close(1000, "done");
  deepEqual(await closed(socket), [1000, "done"]);
});

check("messages of a mebibyte", async () => {
  for (const perMessageDeflate of [false, true]) {
    const socket = await open("/", { perMessageDeflate });
    equal(socket.extensions, perMessageDeflate ? "permessage-deflate" : "");
    for (let n = 0; n < 16; n++) {
      const message = pattern(1 << 20, n);
      deepEqual(await echo(socket, message), [sha(message), true]);
    }
    socket.close(1000);
    equal((await closed(socket))[0], 1000);
  }
});

check("fragments", async () => {
  const socket = await open("/", { perMessageDeflate: false });
  const message = pattern(100_000);
  const reply = once(socket, "message");
  for (let at = 0; at < message.length; at += 1000) {
    socket.send(message.subarray(at, at + 1000), { binary: true, fin: at + 1000 === message.length });
    if (at === 50_000) {
      socket.ping("between");
      equal((await once(socket, "pong"))[0].toString(), "between");
    }
  }
  const [data, isBinary] = await reply;
  deepEqual([sha(data), isBinary], [sha(message), true]);
  socket.close(1000);
  equal((await closed(socket))[0], 1000);
});

check("ping and pong, both ways, and a server that speaks first", async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/greets`);
  const messages = [];
  socket.on("message", (data) => messages.push(data.toString()));
  const [ping] = await once(socket, "ping");
  equal(ping.toString(), "are you there");
  while (messages.length < 2) {
    await once(socket, "message");
  }
  deepEqual(messages, ["welcome", "pong are you there"]);
  socket.ping("and you");
  equal((await once(socket, "pong"))[0].toString(), "and you");
  socket.close(1000);
  equal((await closed(socket))[0], 1000);
});

check("codes of closing, both ways", async () => {
  for (const [code, reason] of [[1000, "bye"], [1001, ""], [1011, "sorry"], [3000, "app"], [4999, "x".repeat(120)]]) {
    const asked = await open();
    asked.send(`close ${code} ${reason}`);
    deepEqual(await closed(asked), [code, reason]);
    const leaving = await open();
    leaving.close(code, reason);
    deepEqual(await closed(leaving), [code, reason]);
    await eventually(async () => (await seen()).resets.at(-1), `${code} ${reason}`);
  }
});

check("a connection that breaks, both ways", async () => {
  const broken = await open();
  broken.on("error", () => {});
  broken.send("terminate");
  deepEqual(await closed(broken), [1006, ""]);
  const before = (await seen()).resets.length;
  (await open()).terminate();
  await eventually(async () => (await seen()).resets.slice(before), ["1006 "]);
});

check("an upgrade that is refused", async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/refused`);
  const [, response] = await once(socket, "unexpected-response");
  const connection = response.socket;
  equal(response.statusCode, 403);
  equal(Buffer.concat(await response.toArray()).toString(), "stop");
  connection.destroy();
});

check("many connections at once", async () => {
  const sockets = await Promise.all(Array.from({ length: 200 }, () => open()));
  for (let round = 0; round < 5; round++) {
    const echoes = await Promise.all(sockets.map((socket, n) => echo(socket, `${round} ${n}`)));
    deepEqual(echoes, sockets.map((_, n) => [sha(`${round} ${n}`), false]));
  }
  const codes = Promise.all(sockets.map(closed));
  sockets.forEach((socket) => socket.close(1000, "all"));
  deepEqual(await codes, sockets.map(() => [1000, "all"]));
});

await run();
