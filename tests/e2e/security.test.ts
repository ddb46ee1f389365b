/** @module The whole path with a cluster key, over an address that others could reach. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { binary, eventually, Fleet, freePort, runBinary } from "../helpers/fleet.ts";

const mib = 1 << 20;
const sizeBytes = 24 * mib;
const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
const random = new Seeded(11);
const model = Buffer.alloc(sizeBytes);
let fleet: Fleet;
let nbd: NbdClient;
let nbdPort: number;

beforeAll(async () => {
  nbdPort = await freePort();
  fleet = await Fleet.start({ isProtected: true, flags: { device: ["--nbd", `0.0.0.0:${nbdPort}`] } });
  await fleet.must("device", "create", "vol0", "--size", "24M", "--log-size", "8M", ...device());
  await fleet.must("init", "vol0", "--device", "vol0");
  nbd = await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, "vol0");
}, 300_000);
afterAll(async () => {
  nbd?.close();
  await fleet?.close();
  await closePlatform(platform);
}, 300_000);

const device = (): string[] => ["--device-data", fleet.dataOf("device")];

async function write(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const length = 4096 * (1 + random.below(16));
    const offset = 4096 * random.below((sizeBytes - length) / 4096);
    const data = random.noise(length);
    await nbd.write(offset, data);
    model.set(data, offset);
  }
  await nbd.flush();
}

/** A snapshot that has arrived, restored over the wire protocol to a pipe and over HTTP to a file, is what was written. */
async function checkPoint(): Promise<void> {
  const { gid } = JSON.parse(await fleet.must("snapshot", "vol0", "--json", "--wait", "--timeout", "60s")) as {
    gid: number;
  };
  writeFileSync(fleet.path("model"), model);
  const [image, piped] = [fleet.path("image"), fleet.path("piped")];
  await fleet.must("restore", "vol0", "--to", image, "--snapshot", `${gid}`, "--server", "a0");
  const shell = Bun.spawnSync([
    "sh",
    "-c",
    `"$0" restore vol0 --to - --snapshot ${gid} --fleet "$1" > "$2"`,
    binary,
    fleet.path("walb.toml"),
    piped,
  ]);
  expect([shell.exitCode, shell.stderr.toString()]).toEqual([0, expect.any(String)]);
  for (const path of [image, piped]) {
    expect(await firstDifference(path, fleet.path("model"))).toBeUndefined();
    rmSync(path);
  }
}

test("a volume is backed up, shipped and restored, and its status says how it is protected", async () => {
  await write(40);
  await fleet.must("backup", "vol0", "--wait", "--timeout", "60s");
  await write(40);
  await checkPoint();
  const status = JSON.parse(await fleet.must("status", "--json")) as {
    volumes: { isProtected: boolean }[];
    servers: { security: string; address: string }[];
  };
  expect(status.volumes.map(({ isProtected }) => isProtected)).toEqual([true]);
  expect(status.servers.map(({ security }) => security)).toEqual(["cluster-key", "cluster-key", "cluster-key"]);
}, 300_000);

test("commands without the key, with another one or a key file open to others are told what to do", async () => {
  const at = `${fleet.host}:${fleet.ports.archive}`;
  const none = await runBinary(["status", "--server", at, "--fleet", "/dev/null"], {}, "/");
  expect(none.code).toBe(2);
  const plain = await runBinary(["status", "--server", at], {}, "/");
  expect([plain.code, plain.err]).toEqual([
    4,
    expect.stringMatching(/a0 takes connections .* by cluster key .* only[\s\S]*--cluster-key FILE/),
  ]);
  const other = fleet.path("other-key");
  await runBinary(["key", "new", other]);
  const wrong = await runBinary(["status", "--server", at, "--cluster-key", other], {}, "/");
  expect([wrong.code, wrong.err]).toEqual([
    4,
    expect.stringMatching(/has cluster key .*this side has cluster key .*none in common/),
  ]);
  // By the environment instead of the fleet file.
  const right = await runBinary(["status", "--server", at], { WALB_CLUSTER_KEY: fleet.keyFile }, "/");
  expect(right.code).toBe(0);
  expect(fleet.log("archive")).toContain("a peer came without a cluster key");
  expect(fleet.log("archive")).toContain("they have none in common");
}, 300_000);

test("a storage with another key is refused by its proxy, and both say so", async () => {
  await fleet.stop("storage");
  copyFileSync(fleet.keyFile, fleet.path("kept"));
  copyFileSync(fleet.path("other-key"), fleet.keyFile);
  await fleet.run("storage");
  await write(10);
  const status = await eventually("the reason", 30_000, async () => {
    const at = ["--server", `${fleet.host}:${fleet.ports.storage}`];
    const { out } = await fleet.verb("status", "--json", ...at, "--cluster-key", fleet.path("other-key"));
    return out.includes("none in common") ? out : undefined;
  });
  expect(status).toContain("wrong-key");
  expect(fleet.log("proxy")).toContain("they have none in common");
  copyFileSync(fleet.path("kept"), fleet.keyFile);
  await fleet.stop("storage");
  await fleet.run("storage");
  await checkPoint();
}, 300_000);

test("a key is changed while writes go on: a second key in every file, then the first one away", async () => {
  const old = readFileSync(fleet.keyFile, "utf8");
  const { out: fresh } = await runBinary(["key", "new", "--print"]);
  const restart = async (...roles: ("storage" | "proxy" | "archive")[]): Promise<void> => {
    for (const role of roles) {
      await fleet.stop(role);
      await fleet.run(role);
      await write(5);
    }
  };
  writeFileSync(fleet.keyFile, old + fresh);
  await restart("storage", "archive", "proxy");
  writeFileSync(fleet.keyFile, fresh + old);
  await restart("proxy", "archive", "storage");
  await checkPoint();
  writeFileSync(fleet.keyFile, fresh);
  await restart("archive", "storage", "proxy");
  await checkPoint();
  writeFileSync(fleet.path("old-key"), old, { mode: 0o600 });
  const refused = await fleet.verb("status", "--cluster-key", fleet.path("old-key"));
  expect([refused.code, refused.err]).toEqual([4, expect.stringContaining("none in common")]);
}, 240_000);

test("Prometheus and curl come in over https with a token and the authority's certificate", async () => {
  const { out: token } = await runBinary(["key", "token", "--monitor", fleet.keyFile]);
  await runBinary(["key", "certificates", "--ca-only", fleet.path("ca"), "--cluster-key", fleet.keyFile]);
  const ca = readFileSync(fleet.path("ca/ca-cert.pem"), "utf8");
  const ask = (host: string, header: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`https://${host}:${fleet.ports.archive}/metrics`, {
      ...init,
      headers: header === "" ? {} : { authorization: header },
      tls: { ca },
    } as RequestInit);
  for (const host of new Set([fleet.host, "127.0.0.1", "localhost", hostname()])) {
    const response = await ask(host, `Bearer ${token.trim()}`);
    expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("walb_")]);
  }
  const nobody = await ask(fleet.host, "");
  expect([nobody.status, nobody.headers.get("www-authenticate")]).toEqual([401, expect.stringContaining("Basic")]);
  expect((await ask(fleet.host, "Bearer walb-wrong")).status).toBe(401);
}, 300_000);

const hasNbdinfo = Bun.which("nbdinfo") !== null;
if (!hasNbdinfo) console.log("skipped, nbdinfo is not installed: an NBD client comes in over TLS");
test.skipIf(!hasNbdinfo)(
  "an NBD client comes in over TLS with certificates that the key made, and not without",
  async () => {
    await runBinary(["key", "certificates", fleet.path("nbd"), "--cluster-key", fleet.keyFile]);
    // The device daemon was not restarted since the key was changed: it still has the first one.
    await runBinary(["key", "certificates", fleet.path("old"), "--cluster-key", fleet.path("old-key")]);
    const ask = async (uri: string): Promise<string> => {
      const child = Bun.spawn(["nbdinfo", "--size", uri], { stdout: "pipe", stderr: "ignore", timeout: 30_000 });
      return `${await new Response(child.stdout).text()}${await child.exited}`;
    };
    const at = `${fleet.host}:${nbdPort}/vol0`;
    expect(await ask(`nbds://${at}?tls-certificates=${fleet.path("old")}`)).toBe(`${sizeBytes}\n0`);
    expect(await ask(`nbds://${at}?tls-certificates=${fleet.path("nbd")}`)).toBe("1");
    expect(await ask(`nbd://${at}`)).toBe("1");
    expect(await fleet.must("device", "show", "vol0", ...device())).toContain(`nbds://0.0.0.0:${nbdPort}/vol0`);
  },
  60_000,
);
