/**
 * @module An archive whose file system becomes read-only; started by read-only-start.test.ts in a mount namespace of its
 * own, with the directory of that file system. Prints what happened as JSON.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { createPlatform } from "../../../src/platform/real/index.ts";
import { failureOf } from "../../helpers/errors.ts";
import { expectSame, gidsOf, openTestArchive, run } from "../harness.ts";
import { History } from "../model.ts";
import { sendDiff, sendImage } from "../peers.ts";

const directory = process.argv[2]!;
const data = `${directory}/data`;
const mib = 1024 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 1000 * mib, threads: 2 });
const peerPlatform = { ...platform, memory: platform.memory.carve(64 * mib) };
const history = new History(2000, 7);
for (let i = 0; i < 3; i++) history.step();
let role = await openTestArchive(platform, data);
const peer = { platform: peerPlatform, address: role.address };
await run(role.control, "init", { volume: "vol0" });
await sendImage(peer, history.at(0), { gidE: 0n });
for (const gid of [1, 2, 3]) await sendDiff(peer, gid - 1, gid, history.diff(gid - 1, gid), { sizeLb: 2000 });
await role.close("graceful");
const files = () => readdirSync(`${data}/vol0`).map((name) => [name, readFileSync(`${data}/vol0/${name}`).toBase64()]);
const before = JSON.stringify(files());
spawnSync("mount", ["--bind", directory, directory]);
spawnSync("mount", ["-o", "remount,bind,ro", directory]);
const { code, hint } = await failureOf(openTestArchive(platform, data));

// A file system of its own for what is written, as the namespace has no other that is not the same.
const spare = mkdtempSync(`${tmpdir()}/walb-spare-`);
spawnSync("mount", ["-t", "tmpfs", "walb", spare]);
const [make, mount] = /: (mkdir .*); (mount -t overlay .*); walb archive/.exec(`${hint}`)!.slice(1);
const commands = [make!, mount!].map((command) => command.replaceAll("DIR", spare));
const statuses = commands.map((command) => spawnSync("sh", ["-c", command], { stdio: ["ignore", 2, 2] }).status);
role = await openTestArchive(platform, `${spare}/data`);
const gids = await gidsOf(role.control);
mkdirSync(`${spare}/out`);
for (const gid of gids) {
  const to = `${spare}/out/${gid}.img`;
  await run(role.control, "restore", { volume: "vol0", to, gid });
  expectSame(readFileSync(to), history.at(gid), `gid ${gid}`);
}
await role.close("graceful");
console.log(JSON.stringify({ code, hint, statuses, gids, isUnchanged: JSON.stringify(files()) === before }));
