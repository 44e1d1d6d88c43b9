// HTTP/1.1, HTTP/2 with prior knowledge and WebSocket, on one port, by Node.
import { createHash } from "node:crypto";
import http from "node:http";
import http2 from "node:http2";
import { createRequire } from "node:module";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { pattern } from "./checks.mjs";

// Packages are where they were installed, not beside this file.
const { WebSocketServer } = createRequire(`${process.env.AVIARY_CONFORMANCE}/`)("ws");

const seen = { resets: [], silent: 0, aborted: 0, connections: 0 };

async function digest(request) {
  const hash = createHash("sha256");
  let size = 0;
  for await (const piece of request) {
    hash.update(piece);
    size += piece.length;
  }
  return { size, sha: hash.digest("hex") };
}

// What both versions of HTTP do.
async function answer(request, response) {
  const url = new URL(request.url, "http://web");
  const number = (name) => Number(url.searchParams.get(name) ?? 0);
  switch (url.pathname) {
    case "/echo": {
      const length = request.headers["content-length"];
      response.writeHead(200, length === undefined ? {} : { "content-length": length });
      request.pipe(response);
      return;
    }
    case "/digest": {
      const text = JSON.stringify({ method: request.method, ...(await digest(request)) });
      response.writeHead(200, { "content-type": "application/json" });
      response.end(text);
      return;
    }
    case "/bytes":
      response.writeHead(200, { "content-length": number("size") });
      response.end(request.method === "HEAD" ? undefined : pattern(number("size")));
      return;
    case "/pieces":
      response.writeHead(200);
      for (let n = 0; n < number("count"); n++) {
        if (!response.write(pattern(number("size"), n))) {
          await new Promise((resolve) => response.once("drain", resolve));
        }
        await sleep(number("pause"));
      }
      response.end();
      return;
    case "/status":
      response.writeHead(number("code"), { location: "/elsewhere" });
      response.end();
      return;
    case "/cookies":
      response.writeHead(200, { "set-cookie": ["a=1; Path=/", "b=2; HttpOnly"], "x-cookie": request.headers.cookie ?? "" });
      response.end();
      return;
    case "/early":
      // An answer to an upload that nobody reads.
      response.writeHead(413, { "content-length": 9 });
      response.end("too large");
      return;
    case "/broken":
      response.writeHead(200, { "content-length": 1_000_000 });
      response.write(pattern(10_000), () => (request.stream ?? request.socket).destroy(new Error("on purpose")));
      return;
    case "/seen":
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(seen));
      return;
    default:
      response.writeHead(404);
      response.end();
  }
}

const one = http.createServer({ keepAliveTimeout: 20_000 }, answer);
one.on("checkContinue", (request, response) => {
  if (new URL(request.url, "http://web").pathname === "/early") {
    return answer(request, response);
  }
  response.writeContinue();
  answer(request, response);
});

// What HTTP/2 alone has.
// Node closes sessions that hold more than 10 MB, by itself.
const two = http2.createServer({ maxSessionMemory: 500, settings: { maxConcurrentStreams: 200 } });
two.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  switch (headers[":path"]) {
    case "/trailers":
      stream.respond({ ":status": 200, "x-push": String(stream.pushAllowed) }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-count": "3", "x-name": ["one", "two"] }));
      stream.end("with trailers");
      return;
    case "/sent-trailers":
      stream.on("trailers", (trailers) => {
        stream.respond({ ":status": 200 });
        stream.end(trailers["x-sent"]);
      });
      stream.resume();
      return;
    case "/hints":
      stream.additionalHeaders({ ":status": 103, link: "</style.css>; rel=preload" });
      stream.respond({ ":status": 200 });
      stream.end();
      return;
    case "/hold":
      stream.on("close", () => seen.resets.push(stream.rstCode));
      stream.respond({ ":status": 200 });
      stream.write("held");
      return;
    case "/late-reset":
      stream.respond({ ":status": 200 });
      stream.write("begun", () => stream.destroy(new Error("on purpose")));
      return;
    case "/silent":
      seen.silent++;
      stream.on("close", () => seen.resets.push(stream.rstCode));
      return;
    default:
      if (headers[":path"].startsWith("/reset/")) {
        stream.close(Number(headers[":path"].slice(7)));
      } else {
        const request = new http2.Http2ServerRequest(stream, headers, {}, []);
        answer(request, new http2.Http2ServerResponse(stream));
      }
  }
});

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 1024 } });
one.on("upgrade", (request, socket, head) => {
  if (request.url === "/refused") {
    socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\nconnection: close\r\n\r\nstop");
    return;
  }
  sockets.handleUpgrade(request, socket, head, (socket) => {
    if (request.url === "/greets") {
      socket.send("welcome");
      socket.ping("are you there");
      socket.on("pong", (data) => socket.send(`pong ${data}`));
    }
    socket.on("message", (data, isBinary) => {
      const close = !isBinary && /^close (\d+) (.*)$/.exec(data);
      if (close) {
        socket.close(Number(close[1]), close[2]);
      } else if (!isBinary && data.toString() === "terminate") {
        socket.terminate();
      } else {
        socket.send(data, { binary: isBinary });
      }
    });
    socket.on("close", (code, reason) => seen.resets.push(`${code} ${reason}`));
  });
});

const server = net.createServer((socket) => {
  seen.connections++;
  socket.on("error", () => {});
  socket.once("readable", () => {
    const first = socket.read();
    if (first === null) {
      return;
    }
    socket.unshift(first);
    (first.toString("latin1", 0, 3) === "PRI" ? two : one).emit("connection", socket);
  });
});
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
