import { dlopen, ptr } from "bun:ffi";
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Connection } from "../../src/platform/net.ts";
import { createNet, keepConnectionsAlive } from "../../src/platform/real/net.ts";
import { freePort } from "../helpers/fleet.ts";
import { runBinaryOfSource } from "../helpers/source-binary.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const libc = dlopen("libc.so.6", { getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" } });

function option(fd: number, level: number, name: number): number {
  const [value, size] = [new Int32Array(512), new Uint32Array(512)];
  size[0] = 4;
  return libc.symbols.getsockopt(fd, level, name, ptr(value), ptr(size)) === 0 ? value[0]! : -1;
}

/** SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT of all sockets of this process that have the idle time. */
function socketsWith(idleS: number): number[][] {
  return readdirSync("/proc/self/fd")
    .map(Number)
    .filter((fd) => option(fd, 6, 4) === idleS)
    .map((fd) => [option(fd, 1, 9), option(fd, 6, 4), option(fd, 6, 5), option(fd, 6, 6)]);
}

test("both ends of every TCP connection probe a silent peer once that is asked for", async () => {
  keepConnectionsAlive({ idleS: 77, intervalS: 13, count: 4 });
  const net = createNet();
  const accepted = Promise.withResolvers<Connection>();
  const listener = await net.listen({ kind: "tcp", host: "127.0.0.1", port: 0 }, accepted.resolve);
  const client = await net.connect(listener.address, { timeoutMs: 5000 });
  const server = await accepted.promise;
  expect(socketsWith(77)).toEqual([
    [1, 77, 13, 4],
    [1, 77, 13, 4],
  ]);
  client.close();
  server.close();
  await listener.close();
});

test("a daemon takes the times as flags, shows them, and refuses those that no system takes", async () => {
  await withTemporaryDirectory(async (directory) => {
    const words = ["proxy", "--data", join(directory, "p"), "--port", "0", "--node", "p0"];
    const start = (...more: string[]) =>
      Bun.spawn([...runBinaryOfSource, ...words, ...more], { stdout: "pipe", stderr: "pipe", stdin: "ignore" });
    const bad = start("--keep-alive", "20h");
    expect(await bad.exited).toBe(2);
    expect(await new Response(bad.stderr).text()).toContain("--keep-alive is to be between 1s and 32767s");
    const daemon = start("--keep-alive", "90s", "--keep-alive-interval", "7s", "--keep-alive-count", "3");
    try {
      let text = "";
      for await (const chunk of daemon.stdout) {
        text += new TextDecoder().decode(chunk);
        if (text.includes("listening on")) break;
      }
      const address = /listening on (\S+)/.exec(text)![1]!;
      const status = Bun.spawn([
        ...runBinaryOfSource,
        "walbc",
        "-a",
        "127.0.0.1",
        "-p",
        address.split(":")[1]!,
        "status",
      ]);
      const shown = await new Response(status.stdout).text();
      expect(shown).toContain("keepAlive ON (idle 90 intvl 7 cnt 3)");
    } finally {
      daemon.kill();
      await daemon.exited;
    }
  });
}, 60_000);

test("under the original's name its times are shown as the original does, beside the deadline that does not count", async () => {
  await withTemporaryDirectory(async (directory) => {
    const port = `${await freePort()}`;
    const words = [
      "walb-proxy",
      "-p",
      port,
      "-b",
      join(directory, "p"),
      "-to",
      "17",
      "-ka",
      "-kaidle",
      "90",
      "-kacnt",
      "3",
    ];
    const daemon = Bun.spawn([...runBinaryOfSource, ...words], { stdout: "ignore", stderr: "pipe", stdin: "ignore" });
    try {
      let text = "";
      for await (const chunk of daemon.stderr) {
        text += new TextDecoder().decode(chunk);
        if (text.includes("ready to accept")) break;
      }
      const status = Bun.spawn([...runBinaryOfSource, "walbc", "-a", "127.0.0.1", "-p", port, "status"]);
      const shown = await new Response(status.stdout).text();
      expect(shown).toContain("socketTimeout 17\nkeepAlive ON (idle 90 intvl 60 cnt 3)\n");
    } finally {
      daemon.kill();
      await daemon.exited;
    }
  });
}, 60_000);
