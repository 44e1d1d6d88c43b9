// Checks that run one after the other, each with a line when it has passed; the first that fails ends the program.
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

const checks = [];
export const check = (name, run) => checks.push([name, run]);

export const sha = (bytes) => createHash("sha256").update(bytes).digest("hex");

// Bytes that differ from place to place.
export function pattern(size, seed = 0) {
  const blocks = Array.from({ length: 257 }, (_, n) => createHash("sha256").update(`${seed} ${n}`).digest());
  return Buffer.alloc(size, Buffer.concat(blocks));
}

// What the server has seen, asked past the sidecars: `SCRIPT PORT SERVER_PORT`.
export async function seen() {
  return (await fetch(`http://127.0.0.1:${process.argv[3]}/seen`)).json();
}

// Asks again and again until the answer is this; a check has 30 s.
export async function eventually(ask, wanted) {
  while (!isDeepStrictEqual(await ask(), wanted)) {
    await sleep(20);
  }
}

export async function run() {
  for (const [name, run] of checks) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("no end after 30 s")), 30_000);
    });
    try {
      await Promise.race([run(), late]);
    } catch (error) {
      console.log(`FAILED ${name}`);
      console.error(error);
      process.exit(1);
    }
    clearTimeout(timer);
    console.log(`passed ${name}`);
  }
}
