/** @module HTTP of a daemon with a cluster key: with the proof, with tokens, with neither. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Control } from "../../src/control/control.ts";
import type { JobInfo } from "../../src/control/job.ts";
import { silentLogger } from "../../src/control/logger.ts";
import type { HttpService } from "../../src/control/role.ts";
import { Client } from "../../src/http/client.ts";
import { createHttpFactory } from "../../src/http/server.ts";
import { addressText, type Listener } from "../../src/platform/net.ts";
import { writeSecretFile } from "../../src/platform/real/secret.ts";
import { authoritiesPem } from "../../src/secure/authority.ts";
import { formatKeyFile } from "../../src/secure/key.ts";
import { Tokens, tokenOf } from "../../src/secure/token.ts";
import { createTestControl, testCommands } from "../control/fixtures.ts";
import { failureOf } from "../helpers/errors.ts";
import { anyPort, netWith, testKey, testKeys } from "../secure/fixture.ts";

const keys = testKeys(1);
const net = netWith(keys);
let directory: string;
let control: Control;
let service: HttpService;
let listener: Listener;
let address: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "walb-http-secure-"));
  for (const number of [1, 2]) writeSecretFile(join(directory, `key${number}`), formatKeyFile(testKey(number)));
  control = createTestControl();
  service = createHttpFactory(net, new Tokens(keys))(control, silentLogger);
  listener = await net.listen(anyPort, (connection) => {
    connection.setReader({ data: (chunk) => service.accept(connection, chunk), end() {}, closed() {} });
  });
  address = addressText(listener.address);
});
afterAll(async () => {
  await control.close();
  await service.close();
  await listener.close();
  rmSync(directory, { recursive: true, force: true });
});

const clientWith = (keyFile?: string): Client<typeof testCommands> =>
  new Client(
    { name: "a0", address, ...(keyFile === undefined ? {} : { clusterKey: join(directory, keyFile) }) },
    testCommands,
  );

describe("a client with the key", () => {
  test("calls, follows jobs and gets errors as over plain HTTP", async () => {
    const client = clientWith("key1");
    expect(await client.call("echo", { volume: "v", gid: 12n })).toEqual({ gid: 13n });
    const seen: JobInfo[] = [];
    await client.run("work", { volume: "v", steps: 3 }, { onProgress: (job) => seen.push(job) });
    expect(seen.length).toBeGreaterThan(1);
    const many = await Promise.all(
      Array.from({ length: 40 }, (_, gid) => client.call("echo", { volume: "v", gid: BigInt(gid) })),
    );
    expect(many.map(({ gid }) => Number(gid))).toEqual(Array.from({ length: 40 }, (_, gid) => gid + 1));
  });

  test("of another cluster, or with no key, is told in the daemon's and its own words", async () => {
    const wrong = await failureOf(clientWith("key2").call("echo", { volume: "v", gid: 1n }));
    expect([wrong.code, wrong.where.host]).toEqual(["wrong-key", "a0"]);
    expect(wrong.what).toContain("none in common");
    const none = await failureOf(clientWith().call("echo", { volume: "v", gid: 1n }));
    expect([none.code, none.hint]).toEqual(["wrong-key", expect.stringContaining("--cluster-key FILE")]);
  });

  test("does not connect with a key file that others can read", async () => {
    writeSecretFile(join(directory, "open"), formatKeyFile(testKey(1)));
    chmodSync(join(directory, "open"), 0o644);
    const error = await failureOf(clientWith("open").call("echo", { volume: "v", gid: 1n }));
    expect([error.code, error.hint]).toEqual(["usage", expect.stringContaining("chmod 600")]);
  });

  test("hears that nobody listens as such", async () => {
    const dead = new Client({ name: "a9", address: "127.0.0.1:1", clusterKey: join(directory, "key1") }, testCommands);
    expect((await failureOf(dead.call("echo", { volume: "v", gid: 1n }))).code).toBe("unreachable");
  });

  test("leaves no socket behind when its process ends", async () => {
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith("walb-http-")).length;
    const main = join(import.meta.dir, "../../src/main.ts");
    const words = ["kick", "--server", address, "--cluster-key", join(directory, "key1")];
    await Bun.spawn([process.execPath, "run", main, ...words], { stdout: "ignore", stderr: "ignore" }).exited;
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith("walb-http-")).length).toBeLessThanOrEqual(before);
  });
});

describe("https without the proof", () => {
  const ask = (path: string, token: string | undefined, init: RequestInit = {}): Promise<Response> =>
    fetch(`https://${address}${path}`, {
      ...init,
      headers: { ...init.headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
      tls: { ca: authoritiesPem(keys) },
    } as RequestInit);
  const post = { method: "POST", body: '{"volume":"v","gid":7}', headers: { "content-type": "application/json" } };

  test("takes nothing without a token, not even /health", async () => {
    for (const token of [undefined, "", "walb-", tokenOf(testKey(2), "full")]) {
      for (const path of ["/health", "/metrics", "/api/status", "/nothing"]) {
        expect([token, path, (await ask(path, token)).status]).toEqual([token, path, 401]);
      }
      expect((await ask("/api/echo", token, post)).status).toBe(401);
    }
    const response = await ask("/metrics", undefined);
    expect(response.headers.get("www-authenticate")).toContain("Basic");
    expect(await response.json()).toMatchObject({ error: { code: "no-token" } });
  });

  test("lets the monitor look and nothing else, and the full token do everything", async () => {
    const [monitor, full] = [tokenOf(testKey(1), "monitor"), tokenOf(testKey(1), "full")];
    expect((await ask("/health", monitor)).status).toBe(200);
    expect((await ask("/api/jobs", monitor)).status).toBe(200);
    expect((await ask("/api/echo", monitor, post)).status).toBe(401);
    expect((await ask("/api/jobs/x", monitor, { method: "DELETE" })).status).toBe(401);
    const done = await ask("/api/echo", full, post);
    expect([done.status, await done.json()]).toEqual([200, { ok: { gid: 8 } }]);
    const page = await ask("/api/echo", full, { ...post, headers: { ...post.headers, origin: "https://elsewhere" } });
    expect(page.status).toBe(400);
  });

  test("has room of its own: idle connections without the proof do not keep the commands out", async () => {
    const idle: Promise<unknown>[] = [];
    const abort = new AbortController();
    const token = tokenOf(testKey(1), "full");
    const started = (await (await ask("/api/work", token, { ...post, body: '{"volume":"v","steps":200}' })).json()) as {
      job: { id: string };
    };
    for (let number = 0; number < 80; number += 1) {
      const events = ask(`/api/jobs/${started.job.id}/events`, token, { signal: abort.signal, keepalive: false });
      idle.push(events.catch(() => undefined));
    }
    await Bun.sleep(100);
    expect(await clientWith("key1").call("echo", { volume: "v", gid: 3n })).toEqual({ gid: 4n });
    abort.abort();
    await Promise.all(idle);
    await clientWith("key1").cancel(started.job.id);
  });
});
