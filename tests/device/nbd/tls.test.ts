/** @module TLS of the NBD server: what is asked before it, and clients of other makes with certificates of a cluster key. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NbdServer, openNbdServer } from "../../../src/device/user/nbd/server.ts";
import type { WalbError } from "../../../src/errors.ts";
import { type Address, addressText } from "../../../src/platform/net.ts";
import { authoritiesPem, issueClient, ServerCertificates } from "../../../src/secure/authority.ts";
import type { ClusterKeys } from "../../../src/secure/key.ts";
import { context, testKeys } from "../../secure/fixture.ts";
import { MemoryVolume, PlainPool } from "./doubles.ts";
import { goData, metaData, optionBytes, RawNbd, u32 } from "./raw.ts";
import { ManualClock, platform, until } from "./setup.ts";

const [startTls, exportName, abort, list, structured, go] = [5, 1, 2, 3, 8, 7];
const [ack, unsup, invalid, tlsRequired] = [1, 0x8000_0001, 0x8000_0003, 0x8000_0005];

const keys = testKeys(1);
const client = issueClient(keys, "qemu1", 30, context);
const problems: WalbError[] = [];
const volume = new MemoryVolume("vol0", 64 * 1024 * 1024);
const pool = new PlainPool(128 * 1024 * 1024);
let server: NbdServer;
let directory: string;

function openServer(clock = platform.clock as typeof platform.clock | ManualClock): Promise<NbdServer> {
  const certificates = new ServerCertificates(keys, ["localhost", "127.0.0.1"], context);
  return openNbdServer({
    net: platform.net,
    clock,
    memory: pool,
    listeners: [
      { kind: "tcp", host: "127.0.0.1", port: 0 },
      { kind: "unix", path: join(directory, `${Math.random()}.sock`) },
    ],
    tls: { certificate: () => certificates.current(), authoritiesPem: authoritiesPem(keys) },
    exports: { names: () => ["vol0"], find: (name) => (name === "vol0" ? volume : undefined) },
    onProblem: (error) => problems.push(error),
  });
}

/** A directory as libnbd and qemu want it. */
function writeCertificates(name: string, theirs: ClusterKeys, trusted: ClusterKeys = theirs): string {
  const path = join(directory, name);
  mkdirSync(path);
  const pair = issueClient(theirs, name, 30, context);
  writeFileSync(join(path, "ca-cert.pem"), authoritiesPem(trusted));
  writeFileSync(join(path, "client-cert.pem"), pair.certificatePem);
  writeFileSync(join(path, "client-key.pem"), pair.keyPem);
  return path;
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "walb-nbd-tls-"));
  server = await openServer();
});
afterAll(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const tcp = (): Address => server.addresses[0]!;
const lastType = (replies: { type: number }[]): number => replies.at(-1)!.type;

async function greeted(at: Address = tcp()): Promise<RawNbd> {
  const raw = await RawNbd.open(platform.net, at);
  await raw.greet();
  return raw;
}

/** Asks for TLS and goes through it. */
async function secured(): Promise<RawNbd> {
  const raw = await greeted();
  expect(lastType(await raw.option(startTls))).toBe(ack);
  await raw.connection.startTls({ isServer: false, certificate: client, timeoutMs: 5000 });
  raw.connection.resume();
  return raw;
}

describe("an NBD server that requires TLS", () => {
  test("answers everything before it with ERR_TLS_REQD, but for ABORT and EXPORT_NAME, which has no answer", async () => {
    const raw = await greeted();
    for (const option of [list, structured, 6, 9, 10, 99]) expect(lastType(await raw.option(option))).toBe(tlsRequired);
    expect(lastType(await raw.option(go, goData("vol0")))).toBe(tlsRequired);
    expect(lastType(await raw.option(startTls, u32(1)))).toBe(invalid);
    expect(lastType(await raw.option(abort))).toBe(ack);
    await raw.gone();
    const old = await greeted();
    old.send(optionBytes(exportName, Buffer.from("vol0")));
    await old.gone();
    expect(server.connectionsOf("vol0")).toBe(0);
  });

  test("serves behind TLS all that it serves in plain elsewhere, once", async () => {
    const raw = await secured();
    expect(lastType(await raw.option(startTls))).toBe(invalid);
    expect(lastType(await raw.option(list))).toBe(ack);
    expect(lastType(await raw.option(structured))).toBe(ack);
    expect(lastType(await raw.option(10, metaData("vol0", ["base:allocation"])))).toBe(ack);
    expect(lastType(await raw.option(go, goData("vol0")))).toBe(ack);
    expect(server.connectionsOf("vol0")).toBe(1);
    raw.connection.close();
    await until("it is closed", () => server.connectionsOf("vol0") === 0);
  });

  test("takes no option that somebody slipped in before TLS began", async () => {
    const before = problems.length;
    const raw = await greeted();
    raw.send(Buffer.concat([optionBytes(startTls, new Uint8Array(0)), optionBytes(structured, new Uint8Array(0))]));
    await raw.gone();
    expect(problems.slice(before).map(({ what }) => what)).toEqual([expect.stringContaining("before TLS began")]);
  });

  test("lets in nobody without a certificate, nor with one of another key, and says so", async () => {
    for (const certificate of [undefined, issueClient(testKeys(2), "stranger", 30, context)]) {
      const before = problems.length;
      const raw = await greeted();
      await raw.option(startTls);
      await raw.connection
        .startTls({ isServer: false, timeoutMs: 5000, ...(certificate === undefined ? {} : { certificate }) })
        .then(() => raw.connection.resume())
        .catch(() => undefined);
      await raw.gone();
      await until("it is told", () => problems.length > before);
      expect(problems[before]?.what).toContain("certificate was not accepted");
      expect(problems[before]?.hint).toContain("walb key certificates");
    }
  });

  test("leaves unix sockets in plain", async () => {
    const raw = await greeted(server.addresses[1]!);
    expect(lastType(await raw.option(startTls))).toBe(unsup);
    expect(lastType(await raw.option(go, goData("vol0")))).toBe(ack);
    raw.connection.close();
  });

  test("cuts off who does not come to TLS within ten seconds, and makes room when 128 do not", async () => {
    const clock = new ManualClock();
    const other = await openServer(clock);
    const first = await greeted(other.addresses[0]!);
    const more: RawNbd[] = [];
    for (let number = 1; number < 128; number += 1) more.push(await greeted(other.addresses[0]!));
    expect(first.hasEnded || first.isClosed).toBe(false);
    const before = problems.length;
    more.push(await greeted(other.addresses[0]!));
    await first.gone();
    expect(problems[before]).toMatchObject({ code: "busy" });
    expect(clock.fire(10_000)).toBe(128);
    await Promise.all(more.map((raw) => raw.gone()));
    await other.close();
  });
});

async function run(...command: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe", timeout: 30_000 });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

/** A test that needs programs, or says why it is skipped. */
function testWith(programs: readonly string[], name: string, body: () => Promise<void>): void {
  const missing = programs.filter((program) => Bun.which(program) === null);
  if (missing.length > 0) console.log(`skipped, ${missing.join(", ")} not installed: ${name}`);
  test.skipIf(missing.length > 0)(name, body, 60_000);
}

describe("clients of other makes", () => {
  const uri = (scheme: string, certificates: string): string =>
    `${scheme}://${addressText(tcp())}/vol0?tls-certificates=${certificates}`;

  testWith(["nbdinfo", "nbdcopy"], "libnbd comes in with certificates of the key, and not without", async () => {
    const good = writeCertificates("good", keys);
    const info = await run("nbdinfo", uri("nbds", good));
    expect(info.out).toContain("with TLS");
    const image = join(directory, "image");
    writeFileSync(image, context.randomBytes(volume.sizeBytes));
    expect(await run("nbdcopy", image, uri("nbds", good))).toMatchObject({ code: 0 });
    const copy = join(directory, "copy");
    expect(await run("nbdcopy", uri("nbds", good), copy)).toMatchObject({ code: 0 });
    expect(await run("cmp", image, copy)).toMatchObject({ code: 0 });
    // Strangers to us, strangers to them, and no TLS at all.
    const [strange, deceived] = [
      writeCertificates("strange", testKeys(2), keys),
      writeCertificates("deceived", testKeys(2)),
    ];
    for (const at of [uri("nbds", strange), uri("nbds", deceived), `nbd://${addressText(tcp())}/vol0`]) {
      expect((await run("nbdinfo", "--size", at)).code).toBe(1);
    }
  });

  testWith(["qemu-img"], "qemu comes in with tls-creds-x509, and is told when it does not ask for TLS", async () => {
    const { host, port } = tcp() as Address & { kind: "tcp" };
    const export_ = `driver=nbd,host=${host},port=${port},export=vol0`;
    const credentials = `tls-creds-x509,id=t,endpoint=client,dir=${writeCertificates("qemu", keys)}`;
    const good = await run("qemu-img", "info", "--object", credentials, "--image-opts", `${export_},tls-creds=t`);
    expect(good.out).toContain("virtual size: 64 MiB");
    const plain = await run("qemu-img", "info", "--image-opts", export_);
    expect([plain.code, plain.err]).toEqual([1, expect.stringContaining("TLS")]);
  });
});
