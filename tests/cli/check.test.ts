import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runIn, startFakeFleet } from "./fleet-fixture.ts";

test("walb check asks the servers, says what is wrong and what to do, and exits with 1", async () => {
  const fleet = await startFakeFleet();
  try {
    const before = await fleet.run(["check"]);
    expect(before.code).toBe(1);
    expect(before.out).toContain("walb init");
    const json = await fleet.run(["check", "--json"]);
    expect(JSON.parse(json.out)).toMatchObject({ isGood: false });
    const file = await fleet.run(["check", "--file-only"]);
    expect(file).toMatchObject({ code: 0 });
    expect(file.out).toMatch(/walb.toml: all is well\n$/);
  } finally {
    await fleet.close();
  }
});

test("a fleet file that cannot be read is named", async () => {
  const directory = mkdtempSync(join(tmpdir(), "walb-check-"));
  try {
    mkdirSync(join(directory, "walb.toml"));
    for (const verb of ["check", "status"]) {
      const { code, err } = await runIn(directory, [verb]);
      expect([code, err]).toEqual([
        2,
        expect.stringContaining(`file ${directory}/walb.toml: the fleet file cannot be`),
      ]);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("walb check tells to repeat init, as it can be typed, where a proxy or archive does not know a volume", async () => {
  const fleet = await startFakeFleet();
  try {
    fleet.states.storage = "Target";
    const { out } = await fleet.run(["check"]);
    expect(out).toMatch(/the proxy p0 does not know it\n +walb init vol0 --device NAME\n/);
    expect(out).toMatch(/the archive a0 does not know it\n +walb init vol0 --device NAME\n/);
  } finally {
    await fleet.close();
  }
});

test("walb check names a key file that is missing or open to others, and every mistake of a file at once", async () => {
  const directory = mkdtempSync(join(tmpdir(), "walb-check-"));
  const text = `cluster-key = "walb.key"
    [servers.s0]
    role = "storage"
    address = "127.0.0.1:1"
    [servers.p0]
    role = "proxy"
    address = "127.0.0.1:2"
    [servers.a0]
    role = "archive"
    address = "127.0.0.1:3"
    [volumes.vol0]
    storage = "nobody"
    replicate = ["nowhere"]`;
  try {
    writeFileSync(join(directory, "walb.toml"), text);
    const missing = await runIn(directory, ["check", "--timeout", "2s"]);
    expect(missing.out).toContain("error: cluster-key: there is no");
    expect(missing.out).toContain('error: volumes.vol0.storage: there is no storage "nobody"');
    expect(missing.out).toContain('error: volumes.vol0.replicate: there is no archive "nowhere"');
    expect(missing.out).toContain("error: server s0: 127.0.0.1:1 does not answer");
    // A wrong type hides none of it; only the servers are not asked, for who they are is not sure.
    writeFileSync(join(directory, "walb.toml"), text.replace('"127.0.0.1:2"', "2"));
    const typed = await runIn(directory, ["check", "--timeout", "2s"]);
    expect(typed.out).toContain("error: servers.p0.address: it must be a string");
    expect(typed.out).toContain("error: cluster-key: there is no");
    expect(typed.out).toContain('error: volumes.vol0.storage: there is no storage "nobody"');
    expect(typed.out).not.toContain("does not answer");
    writeFileSync(join(directory, "walb.toml"), text);
    writeFileSync(join(directory, "walb.key"), "x", { mode: 0o644 });
    const open = await runIn(directory, ["check", "--timeout", "2s"]);
    expect(open.out).toContain("chmod 600");
    expect((await runIn(directory, ["check", "--fleet", "nothing.toml"])).code).toBe(2);
    // The key is a part of the file's rights and wrongs: no server is asked for it.
    chmodSync(join(directory, "walb.key"), 0o600);
    const damaged = await runIn(directory, ["check", "--file-only"]);
    expect(damaged.out).toMatch(/error: cluster-key: \S+walb.key: .* no cluster key, or is damaged\n/);
    rmSync(join(directory, "walb.key"));
    mkdirSync(join(directory, "walb.key"));
    const folder = await runIn(directory, ["check", "--file-only"]);
    expect(folder.out).toMatch(/error: cluster-key: .* is not a file\n/);
    expect(folder.out).not.toContain("chmod");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
