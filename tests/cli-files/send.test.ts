/** @module One diff sent by hand to a real archive, by our name and by the original's. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectSame, gidsOf, run } from "../archive/harness.ts";
import { sendImage } from "../archive/peers.ts";
import { restored, type Scene, withArchive } from "../archive/real.ts";
import type { Ran } from "../helpers/quiet-io.ts";
import { original, walb } from "./tools.ts";

const sizeBytes = 2 * 1024 * 1024;

async function good(...words: string[]): Promise<Ran> {
  const ran = await walb(...words);
  expect({ words, ...ran }).toMatchObject({ words, code: 0 });
  return ran;
}

interface Sending {
  readonly scene: Scene;
  readonly host: string;
  readonly port: string;
  readonly diff: string;
  /** What the volume is with the diff, and the uuid of the log it comes from. */
  readonly image: Buffer;
  readonly uuid: string;
}

/** An archive with an image of zeroes as gid 0 of a log, and a diff made of it. */
async function withDiff(kind: readonly string[], use: (sending: Sending) => Promise<void>): Promise<void> {
  await withArchive(async (scene) => {
    const at = (name: string): string => join(scene.directory, name);
    const generate = ["wlog", "generate", "--size", "2M", "--log-size", "256K", "--max-discard", "64K", "-q"];
    await good(...generate, "--seed", "1", "-o", at("all.wlog"));
    const { uuid } = JSON.parse((await good("wlog", "show", at("all.wlog"), "--json")).out.split("\n")[0]!);
    await good("wlog", "to-wdiff", "-i", at("all.wlog"), ...kind, "-o", at("a.wdiff"), "-q");
    writeFileSync(at("image"), Buffer.alloc(sizeBytes));
    await good("wlog", "redo", at("image"), "-i", at("all.wlog"), "-q");
    await run(scene.role.control, "init", { volume: "vol0" });
    await sendImage(scene.peer, new Uint8Array(sizeBytes), { gidE: 0n, uuid });
    const { address } = scene.peer;
    if (address.kind !== "tcp") throw new Error("the archive is not on TCP");
    const [host, port] = [address.host, String(address.port)];
    await use({ scene, host, port, diff: at("a.wdiff"), image: readFileSync(at("image")), uuid });
  });
}

test("a diff that is sent can be restored; sent again it is too old, and what does not fit is refused saying why", async () => {
  await withDiff(["--indexed"], async ({ scene, host, port, diff, image }) => {
    const to = ["--server", `${host}:${port}`];
    const send = (from: number, until: number, ...flags: string[]): Promise<Ran> =>
      walb("wdiff", "send", "vol0", diff, "--from", `${from}`, "--to", `${until}`, ...to, ...flags);
    expect((await send(0, 1, "--size", "2M")).out).toContain("has taken the diff of vol0 from gid 0 to 1");
    expect(await gidsOf(scene.role.control)).toEqual([0, 1]);
    expectSame(await restored(scene, { gid: 1 }), image, "the volume with the diff");
    const again = await send(0, 1);
    expect([again.code, again.err]).toEqual([4, expect.stringContaining("too-old-diff")]);
    expect(again.err).toContain("has what it holds already");
    const early = await send(7, 8, "--json");
    expect([early.code, JSON.parse(early.err).error.hint]).toEqual([4, expect.stringContaining("send those first")]);
    const foreign = await send(1, 2, "--uuid", "00000000-0000-0000-0000-000000000001");
    expect([foreign.code, foreign.err]).toEqual([4, expect.stringContaining("different-uuid")]);
    const large = await send(1, 2, "--size", "512");
    expect([large.code, large.err]).toEqual([1, expect.stringContaining("beyond the 1 blocks")]);
    const nameless = await walb("wdiff", "send", "vol0", diff, ...to);
    expect([nameless.code, nameless.err]).toEqual([2, expect.stringContaining("--from GID --to GID")]);
    const nobody = await walb("wdiff", "send", "vol0", diff, "--from", "1", "--to", "2", "--server", "127.0.0.1:1");
    expect(nobody.code).toBe(3);
    expect(await gidsOf(scene.role.control)).toEqual([0, 1]);
  });
}, 300_000);

test("its name says between which snapshots it lies, and whether it may be merged", async () => {
  await withDiff([], async ({ scene, host, port, diff, image }) => {
    const named = join(scene.directory, "20260102030405----0-3.wdiff");
    writeFileSync(named, readFileSync(diff));
    const { out } = await good("wdiff", "send", "vol0", named, "--server", `${host}:${port}`, "--json");
    expect(JSON.parse(out)).toMatchObject({ volume: "vol0", from: 0, to: 3 });
    const names = readdirSync(scene.data, { recursive: true }).map(String);
    expect(names.filter((name) => name.endsWith("20260102030405----0-3.wdiff")).length).toBe(1);
    expectSame(await restored(scene, { gid: 3 }), image, "the volume with the diff");
  });
}, 300_000);

test("the original's wdiff-send answers 0 when the archive answers as expected", async () => {
  await withDiff([], async ({ scene, host, port, diff, image, uuid }) => {
    const send = (...options: string[]): Promise<Ran> =>
      original("wdiff-send", host, port, "vol0", "2M", diff, "-g0", "0", "-g1", "1", "-uuid", uuid, ...options);
    expect(await send()).toEqual({ code: 0, out: "", err: "" });
    expect(await gidsOf(scene.role.control)).toEqual([0, 1]);
    expectSame(await restored(scene, { gid: 1 }), image, "the volume with the diff");
    expect(await send("-msg", "too-old-diff")).toEqual({ code: 0, out: "", err: "" });
    const unexpected = await send("-time", "20260102030405", "-merge", "0");
    expect([unexpected.code, unexpected.err]).toEqual([1, expect.stringContaining("too-old-diff, not accept")]);
  });
}, 300_000);
