import { dlopen } from "bun:ffi";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { notifySystemd } from "../../src/cli/daemon/notify.ts";
import { commonCommands } from "../../src/control/common.ts";
import { Client } from "../../src/http/client.ts";

const main = join(import.meta.dir, "../../src/main.ts");
let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-process-test-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function walb(words: readonly string[], env: Record<string, string> = {}) {
  return Bun.spawn([process.execPath, "run", main, ...words], {
    cwd: directory,
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}

async function finish(child: ReturnType<typeof walb>): Promise<{ code: number; out: string; err: string }> {
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, err };
}

/** Reads stdout until the ready line has come. */
async function ready(child: ReturnType<typeof walb>): Promise<string> {
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (!text.includes("\n")) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`no ready line: ${text}${await new Response(child.stderr).text()}`);
    text += decoder.decode(value, { stream: true });
  }
  reader.releaseLock();
  return text;
}

describe("the process", () => {
  test("version prints one line and exits 0", async () => {
    const { code, out, err } = await finish(walb(["version"]));
    expect([code, err]).toEqual([0, ""]);
    expect(out).toMatch(/^walb \d+\.\d+\.\d+\n$/);
  });

  test("wrong command lines exit 2 with a correct example and no stack trace", async () => {
    const cases = [[], ["nope"], ["restore", "vol0", "--tx"], ["backup", "vol0", "vol1"], ["device", "create"]];
    for (const words of cases) {
      const { code, out, err } = await finish(walb(words));
      expect([words, code]).toEqual([words, 2]);
      expect(out + err).toContain("walb");
      expect(err).not.toMatch(/\bat .*\.ts:\d+/);
    }
  });

  test("no server is exit 3, a device daemon that does not run too", async () => {
    const [server, device] = await Promise.all([
      finish(walb(["kick", "--server", "127.0.0.1:1"])),
      finish(walb(["device", "list", "--device-data", join(directory, "none")])),
    ]);
    expect([server.code, device.code]).toEqual([3, 3]);
  });

  test("a daemon refuses to listen for everybody unless that is asked for", async () => {
    const [listen, nbd, key] = await Promise.all([
      finish(walb(["proxy", "--port", "0", "--listen", "0.0.0.0", "--data", join(directory, "x")])),
      finish(walb(["device", "--nbd", "0.0.0.0:0", "--data", join(directory, "x")])),
      finish(walb(["proxy", "--port", "0", "--cluster-key", "key", "--data", join(directory, "x")])),
    ]);
    for (const { code, err } of [listen, nbd]) {
      expect([code, err]).toEqual([2, expect.stringMatching(/--cluster-key FILE.*--insecure/)]);
    }
    expect([key.code, key.err]).toEqual([2, expect.stringMatching(/the key file is not there[\s\S]*walb key new /)]);
    expect(listen.out + nbd.out + key.out).toBe("");
  });
});

describe("a daemon", () => {
  test("says when it is ready, answers on its port, and stops at SIGTERM with 0", async () => {
    const child = walb([
      "proxy",
      "--port",
      "0",
      "--data",
      join(directory, "p0"),
      "--node",
      "p0",
      "--log-format",
      "json",
    ]);
    const line = await ready(child);
    expect(line).toMatch(/^walb proxy p0 listening on 127\.0\.0\.1:\d+\n$/);
    const address = line.trim().split(" ").at(-1)!;
    const info = await new Client({ name: "p0", address }, commonCommands).call("version", {});
    expect(info).toMatchObject({ role: "proxy", nodeId: "p0", security: "loopback" });
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    const logged = (await new Response(child.stderr).text()).trim().split("\n");
    expect(logged.map((text) => (JSON.parse(text) as { message: string }).message)).toContain("stopping");
  });

  test("stops on request over HTTP", async () => {
    const child = walb(["proxy", "--port", "0", "--data", join(directory, "p1"), "--node", "p1"]);
    const address = (await ready(child)).trim().split(" ").at(-1)!;
    await new Client({ name: "p1", address }, commonCommands).call("shutdown", { mode: "force" });
    expect(await child.exited).toBe(0);
  });

  test("of devices makes, shows, freezes, grows and deletes them through the verbs", async () => {
    const data = join(directory, "dev");
    const child = walb(["device", "--data", data, "--node", "h0"]);
    expect(await ready(child)).toBe(`walb device h0 listening on unix:${data}/nbd.sock\n`);
    const run = (...words: string[]) => finish(walb(["device", ...words], { WALB_DEVICE_DATA: data }));
    const created = await run("create", "vol0", "--size", "8M", "--log-size", "4M", "--overflow", "stop", "--json");
    expect([created.code, created.err]).toEqual([0, ""]);
    expect(JSON.parse(created.out)).toMatchObject({ name: "vol0", sizeBytes: 8 * 1024 ** 2, overflow: "stop" });
    expect((await run("create", "vol0", "--size", "8M")).code).toBe(4);
    expect((await run("freeze", "vol0", "--timeout", "1m")).code).toBe(0);
    expect((await run("list")).out).toMatch(/\nvol0 +frozen +8\.00M /);
    expect((await run("melt", "vol0")).code).toBe(0);
    expect((await run("resize", "vol0", "16M")).out).toBe("vol0 is 16.0M large\n");
    expect((await run("checkpoint", "vol0")).code).toBe(0);
    expect((await run("delete", "vol0")).code).toBe(2);
    expect((await run("delete", "vol0", "--yes")).code).toBe(0);
    expect(JSON.parse((await run("list", "--json")).out)).toEqual({ devices: [] });
    // A log that somebody named outlives its device, and can be taken over with what is in it.
    const stores = ["--data", join(directory, "own.data"), "--log", join(directory, "own.log")];
    const own = await run("create", "own", "--size", "8M", "--log-size", "4M", ...stores, "--json");
    const { info } = JSON.parse(own.out) as { info: { uuid: string } };
    expect((await run("delete", "own", "--yes")).code).toBe(0);
    expect((await run("create", "own", "--size", "8M", ...stores)).code).not.toBe(0);
    for (const bad of [[], ["--data", "x"], ["--log", "x"], [...stores, "--log-size", "4M"]]) {
      expect([bad, (await run("create", "own", "--reuse-log", ...bad)).code]).toEqual([bad, 2]);
    }
    const again = await run("create", "own", ...stores, "--reuse-log", "--json");
    expect([again.code, again.err]).toEqual([0, ""]);
    expect(JSON.parse(again.out)).toMatchObject({ sizeBytes: 8 * 1024 ** 2, info: { uuid: info.uuid } });
    const attached = await run("attach", "own", "/dev/sda");
    expect([attached.code, attached.err]).toEqual([2, expect.stringContaining("is not an NBD block device")]);
    child.kill("SIGINT");
    expect(await child.exited).toBe(0);
  }, 300_000);
});

test("systemd is told over its datagram socket, in the file system and abstract", async () => {
  const { symbols, close } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "buffer", "u32"], returns: "i32" },
    recv: { args: ["i32", "buffer", "u64", "i32"], returns: "i64" },
    close: { args: ["i32"], returns: "i32" },
  });
  for (const path of [join(directory, "notify.sock"), `@walb-notify-${process.pid}`]) {
    const socket = symbols.socket(1, 2, 0);
    const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : path);
    const address = Buffer.concat([Buffer.from([1, 0]), name]);
    expect(symbols.bind(socket, address, address.length)).toBe(0);
    await notifySystemd(path, "READY=1");
    const buffer = Buffer.alloc(64);
    const dontWait = 0x40;
    const sizeBytes = Number(symbols.recv(socket, buffer, 64, dontWait));
    expect(buffer.subarray(0, sizeBytes).toString()).toBe("READY=1");
    symbols.close(socket);
  }
  close();
  await notifySystemd(undefined, "READY=1");
  await notifySystemd("/nowhere/at/all", "READY=1");
});
