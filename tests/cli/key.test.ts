import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dir, "../../src/main.ts");
let directory: string;
let key: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-key-test-"));
  key = join(directory, "etc/key");
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function start(words: readonly string[], env: Record<string, string> = {}) {
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith("WALB_"));
  return Bun.spawn([process.execPath, "run", main, ...words], {
    cwd: directory,
    env: { ...Object.fromEntries(clean), ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}

async function walb(words: readonly string[], env: Record<string, string> = {}) {
  const child = start(words, env);
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, err };
}

describe("walb key", () => {
  test("new makes a file for its owner alone, and says what it is called and what to type next", async () => {
    const made = await walb(["key", "new", key]);
    expect([made.code, made.err]).toEqual([0, ""]);
    expect(made.out).toMatch(/cluster key ([0-9a-f]{4}-){3}[0-9a-f]{4}\n/);
    for (const next of [`scp -p ${key} HOST:${key}`, `--cluster-key ${key}`, `cluster-key = "${key}"`]) {
      expect(made.out).toContain(next);
    }
    expect(statSync(key).mode & 0o777).toBe(0o600);
    const before = readFileSync(key, "utf8");
    const again = await walb(["key", "new", key]);
    expect([again.code, again.err]).toEqual([4, expect.stringContaining("left as it is")]);
    expect(readFileSync(key, "utf8")).toBe(before);
    expect(made.out + made.err).not.toContain(before.split("walb-key-1:")[1]!.slice(0, 20));
  });

  test("show names the key, by argument, flag or environment; --print prints another one each time", async () => {
    const { out } = await walb(["key", "show", key]);
    expect(out).toMatch(/^([0-9a-f]{4}-){3}[0-9a-f]{4}\n$/);
    expect((await walb(["key", "show"], { WALB_CLUSTER_KEY: key })).out).toBe(out);
    expect(JSON.parse((await walb(["key", "show", "--json", key])).out)).toEqual({
      file: key,
      fingerprints: [out.trim()],
    });
    const printed = await Promise.all([walb(["key", "new", "--print"]), walb(["key", "new", "--print"])]);
    expect(printed[0].out).toContain("walb-key-1:");
    expect(printed[0].out).not.toBe(printed[1].out);
  });

  test("certificates writes what libnbd and qemu look for, good for one another", async () => {
    const at = join(directory, "certificates");
    const made = await walb(["key", "certificates", at, "--cluster-key", key, "--name", "qemu1", "--days", "30"]);
    expect([made.code, made.err]).toEqual([0, ""]);
    expect(readdirSync(at).sort()).toEqual(["ca-cert.pem", "client-cert.pem", "client-key.pem"]);
    expect(statSync(join(at, "client-key.pem")).mode & 0o777).toBe(0o600);
    const [authority, client] = ["ca-cert.pem", "client-cert.pem"].map(
      (name) => new X509Certificate(readFileSync(join(at, name))),
    );
    expect([authority!.ca, client!.ca, client!.subject]).toEqual([true, false, "CN=qemu1"]);
    expect(client!.verify(authority!.publicKey)).toBe(true);
    // Again, for another host: the authority is the same.
    await walb(["key", "certificates", at, "--cluster-key", key, "--ca-only"]);
    const second = new X509Certificate(readFileSync(join(at, "ca-cert.pem")));
    expect(second.publicKey.equals(authority!.publicKey)).toBe(true);
    expect(client!.verify(second.publicKey)).toBe(true);
  });

  test("a daemon cannot have a key and be insecure", async () => {
    const { code, err } = await walb(["proxy", "--insecure", "--cluster-key", key, "--data", join(directory, "p")]);
    expect([code, err]).toEqual([2, expect.stringContaining("contradict")]);
  });
});

test("walb status says which server runs with --insecure", async () => {
  const proxy = start(["proxy", "--port", "0", "--insecure", "--data", join(directory, "p0"), "--node", "p0"]);
  const reader = proxy.stdout.getReader();
  const line = new TextDecoder().decode((await reader.read()).value);
  const address = line.trim().split(" ").at(-1)!;
  const { code, out } = await walb(["status", "--server", address]);
  expect([code, out]).toEqual([0, expect.stringContaining(`it runs with --insecure: whoever reaches ${address}`)]);
  const { servers } = JSON.parse((await walb(["status", "--json", "--server", address])).out) as { servers: object[] };
  expect(servers).toEqual([expect.objectContaining({ security: "insecure" })]);
  proxy.kill("SIGTERM");
  expect(await proxy.exited).toBe(0);
});
