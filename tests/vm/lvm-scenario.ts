/**
 * @module An archive on real LVM, from an empty volume group to a cleared volume; run in the virtual machine:
 * `bun lvm-scenario.ts VG[/POOL]`. Prints WHOLE at its end.
 */
import { readFileSync } from "node:fs";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "../archive/harness.ts";
import { History } from "../archive/model.ts";
import { sendDiff, sendImage } from "../archive/peers.ts";

const place = process.argv[2] ?? "vg";
const group = place.split("/")[0]!;
const isThin = place.includes("/");
const dataDir = `/tmp/archive-${place.replace("/", "-")}`;
const volume = "vol0";
// More than one extent of 4 MiB, and no whole number of them.
const sizeLb = 8192 + 100;
const platform = createPlatform({ memoryBudgetBytes: 1024 << 20 });
const history = new History(sizeLb, 5);

const names = (): string[] => {
  const { stdout } = Bun.spawnSync(["lvs", "--noheadings", "--options=lv_name", group]);
  return stdout
    .toString()
    .split("\n")
    .map((line) => line.trim())
    .filter((name) => /^w[brc]_/.test(name))
    .toSorted();
};
const requireNames = (wanted: readonly string[], when: string): void => {
  const found = names().join(" ");
  if (found !== [...wanted].toSorted().join(" "))
    throw new Error(`${when}: there are ${found}, not ${wanted.join(" ")}`);
  console.log(`${when}: ${found}`);
};
const contentOf = (name: string, size = sizeLb): Uint8Array => {
  const { stdout } = Bun.spawnSync(["dd", `if=/dev/${group}/${name}`, "bs=512", `count=${size}`, "iflag=fullblock"]);
  return stdout;
};

let role = await openTestArchive(platform, dataDir, { images: `lvm:${place}`, socketTimeoutMs: 120_000 });
const command = (name: string, params: object = {}) => run(role.control, name, { volume, ...params });
const peer = () => ({ platform, address: role.address });
const diff = async (from: number, to: number): Promise<void> => {
  while (history.gid < to) history.step();
  const answer = await sendDiff(peer(), from, to, history.diff(from, to), { sizeLb, isMergeable: false });
  if (answer.kind !== "accept") throw new Error(`the diff was not taken: ${JSON.stringify(answer)}`);
};

history.step();
await command("init");
await sendImage(peer(), history.fuzzy(1), { gidE: 1n, bulkLb: 512 });
for (const [from, to] of [
  [0, 2],
  [2, 3],
  [3, 4],
] as const)
  await diff(from, to);
requireNames(["wb_vol0"], "after a full backup");

await command("restore", { gid: 3 });
requireNames(["wb_vol0", "wr_vol0_3", ...(isThin ? ["wc_vol0_3"] : [])], "after a restore");
expectSame(contentOf("wr_vol0_3"), history.at(3), "the restored volume");

// A volume whose origin moves on keeps its content.
await command("apply", { gid: 3 });
requireNames(["wb_vol0", "wr_vol0_3"], "after an apply");
expectSame(contentOf("wb_vol0"), history.at(3), "the base image");
expectSame(contentOf("wr_vol0_3"), history.at(3), "the restored volume after the apply");

await role.close("graceful");
role = await openTestArchive(platform, dataDir, { images: `lvm:${place}`, socketTimeoutMs: 120_000 });
if ((await gidsOf(role.control)).join(" ") !== "3 4") throw new Error("points were lost by a restart");
const { restoredCount } = await statusOf(role.control);
if (restoredCount !== 1) throw new Error(`${restoredCount} restored images`);
await command("restore", { gid: 4, to: "/tmp/out.img", overwrite: true });
expectSame(readFileSync("/tmp/out.img").subarray(0, sizeLb * 512), history.at(4), "a restore to a file");

await command("del-restored", { gid: 3 });
const grownLb = 3 * 8192;
await command("resize", { sizeLb: grownLb });
const grown = new Uint8Array(grownLb * 512);
grown.set(history.at(3));
expectSame(contentOf("wb_vol0", grownLb), grown, "the grown image");

await command("stop", { mode: "graceful" });
await command("clear");
requireNames([], "after clear");
await role.close("graceful");
await closePlatform(platform);
console.log("WHOLE");
