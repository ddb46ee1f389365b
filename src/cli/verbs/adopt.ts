/** @module `walb adopt DIR`: takes over the data directory of a walb-tools daemon in place, and gives it back. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { resolve } from "node:path";
import { adoptArchiveVolume, planArchiveAdoption, releaseArchiveVolume } from "../../archive/adopt/adopt.ts";
import { openImages } from "../../archive/images.ts";
import { asWalbError, exitCodes, WalbError } from "../../errors.ts";
import { commandLockName } from "../../image/lvm/predecessor.ts";
import type { Platform } from "../../platform/platform.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { adoptProxyVolume, planProxyAdoption, releaseProxyVolume } from "../../proxy/adopt/adopt.ts";
import { adoptStorageVolume, planStorageAdoption, releaseStorageVolume } from "../../storage/adopt/adopt.ts";
import { peersFileName } from "../../storage/peers.ts";
import { type AdoptReport, keptName, leaveDataDirectory } from "../../volume/adopt.ts";
import { isVolumeId, lockDataDirectory, lockFileName, lockUsedDataDirectory } from "../../volume/directories.ts";
import { reserveName } from "../../volume/reserve.ts";
import { clientFlags, confirm, destructiveFlags, print } from "../common.ts";
import { asChoice, asText, asVolume, list, option, optionOr, toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";

const roles = ["storage", "proxy", "archive"] as const;
type Role = (typeof roles)[number];

export const verb = defineVerb({
  summary: "Takes over the data directory of a walb-tools daemon in place, or gives it back",
  description:
    "Stop the daemon first. What is going to happen is said, and every file checked, before anything changes; an adoption " +
    "that breaks off can be repeated. The original's small files are kept in walb-tools/ of each volume. With --back they " +
    "are written anew from what is known now, for as long as walb-tools can use it: devices of the kernel driver, images " +
    "in LVM.",
  positionals: [{ name: "DIR", help: "data directory, the -b of the daemon", isRequired: true }],
  flags: {
    role: option("ROLE", "storage, proxy or archive; found out without it", asChoice(roles)),
    volume: list("VOL", "only this volume; may be repeated", asVolume),
    images: option("lvm:VG[/POOL]", "of an archive: the -vg and -tp of the daemon", asText),
    device: optionOr(
      "KIND",
      "of a storage: whose /dev/walb/NAME is now, kernel or user (walb device)",
      asChoice(["kernel", "user"]),
      "kernel",
    ),
    back: toggle("give the directory back to walb-tools"),
    ...destructiveFlags,
    json: clientFlags.json,
  },
  examples: [
    "walb adopt /var/forest/walb/storage --dry-run",
    "walb adopt /var/forest/walb/archive --images lvm:vg0/tp0 --yes",
    "walb adopt /var/forest/walb/proxy --back",
  ],
  async run({ flags, args, io }) {
    const directory = resolve(io.cwd, args[0]!);
    const platform = createPlatform();
    try {
      requireNoDaemon(directory);
      if ((await platform.disk.info(directory))?.kind !== "directory") {
        throw new WalbError("not-found", {
          what: "there is no such directory",
          where: { file: directory },
          hint: "name the -b of the walb-tools daemon, e.g. /var/forest/walb/archive",
        });
      }
      const { disk } = platform;
      const isDry = flags["dry-run"];
      const wasLeft = (await disk.info(`${directory}/${lockFileName}`)) === undefined;
      const lock = await (isDry ? lockUsedDataDirectory(disk, directory) : lockDataDirectory(disk, directory));
      let isGivenBack = false;
      try {
        const names = await volumesOf(platform, directory, flags.volume);
        const role = flags.role ?? (await roleOf(platform, directory, names));
        const worker = await makeWorker(role, platform, directory, flags);
        if (!flags.back) {
          const plans = await each(names, (volume) => worker.plan(volume));
          io.err(planText(role, directory, plans));
          if (isDry) {
            print(flags, io, { role, volumes: plans }, "");
            return exitCodes.done;
          }
          await confirm(flags, io, `${names.length} volumes of this ${role} are taken over.`);
        } else if (isDry) {
          throw new WalbError("usage", {
            what: "--back has no dry run: what stands against it is said before anything changes",
          });
        } else await confirm(flags, io, `${names.length} volumes of this ${role} go back to walb-tools.`);
        const done = await each(names, (volume) => (flags.back ? worker.release(volume) : worker.adopt(volume)));
        isGivenBack = flags.back;
        const next = flags.back ? "" : `now start: ${startLine(role, directory, flags.images)}\n`;
        const text = `${done.length} volumes ${flags.back ? "given back" : "taken over"}\n${next}`;
        print(flags, io, { role, isBack: flags.back, volumes: done }, text);
        return exitCodes.done;
      } finally {
        // Of a directory that is the original's, before or again, it finds nothing but what it knows.
        if (isGivenBack) await leaveDataDirectory(disk, directory, [reserveName, peersFileName, commandLockName]);
        else if (wasLeft && !isDry) await leaveDataDirectory(disk, directory, [commandLockName]);
        await lock?.close();
      }
    } finally {
      await closePlatform(platform);
    }
  },
});

interface RoleWorker {
  plan(volume: string): Promise<AdoptReport>;
  adopt(volume: string): Promise<AdoptReport>;
  release(volume: string): Promise<AdoptReport>;
}

async function makeWorker(
  role: Role,
  platform: Platform,
  dataDir: string,
  flags: { readonly images: string | undefined; readonly device: "kernel" | "user" },
): Promise<RoleWorker> {
  const at = (volume: string) => ({ platform, directory: `${dataDir}/${volume}`, volume });
  if (role === "storage") {
    const parts = (volume: string) => ({ ...at(volume), deviceKind: flags.device });
    return {
      plan: (volume) => planStorageAdoption(parts(volume)),
      adopt: (volume) => adoptStorageVolume(parts(volume)),
      release: (volume) => releaseStorageVolume(parts(volume)),
    };
  }
  if (role === "proxy") {
    return {
      plan: (volume) => planProxyAdoption(at(volume)),
      adopt: (volume) => adoptProxyVolume(at(volume)),
      release: (volume) => releaseProxyVolume(at(volume)),
    };
  }
  if (flags.images?.startsWith("lvm:") !== true) {
    throw new WalbError("usage", {
      what: "the images of a walb-tools archive are in a volume group: which one is not said",
      where: { field: "images" },
      hint: "say its -vg and -tp: --images lvm:VG or --images lvm:VG/POOL",
    });
  }
  const images = await openImages(flags.images, { platform, dataDir, memory: platform.memory });
  const parts = (volume: string) => ({ ...at(volume), images });
  return {
    plan: (volume) => planArchiveAdoption(parts(volume)),
    adopt: (volume) => adoptArchiveVolume(parts(volume)),
    release: (volume) => releaseArchiveVolume(parts(volume)),
  };
}

/** Names of the volumes' directories, or those asked for. @throws WalbError `not-found`. */
async function volumesOf(platform: Platform, directory: string, asked: readonly string[]): Promise<string[]> {
  const { disk } = platform;
  const names: string[] = [];
  for (const name of await disk.list(directory)) {
    if (isVolumeId(name) && (await disk.info(`${directory}/${name}`))?.kind === "directory") names.push(name);
  }
  const missing = asked.find((name) => !names.includes(name));
  if (missing !== undefined || names.length === 0) {
    throw new WalbError("not-found", {
      what: missing === undefined ? "there are no volumes" : `there is no volume ${missing}`,
      where: { file: directory },
      hint: "name the -b of the walb-tools daemon, e.g. /var/forest/walb/archive",
    });
  }
  return asked.length === 0 ? names : [...asked];
}

/** The role by the files that only it has. @throws WalbError `bad-format`. */
async function roleOf(platform: Platform, directory: string, volumes: readonly string[]): Promise<Role> {
  const marks: Readonly<Record<Role, readonly string[]>> = {
    storage: ["queue"],
    proxy: ["size", "received"],
    archive: ["archive_uuid"],
  };
  const found = new Set<Role>();
  for (const volume of volumes) {
    for (const role of roles) {
      const paths = marks[role].flatMap((mark) => [mark, `${keptName}/${mark}`]);
      for (const path of paths) {
        if ((await platform.disk.info(`${directory}/${volume}/${path}`)) !== undefined) found.add(role);
      }
    }
  }
  const [role, ...others] = found;
  if (role !== undefined && others.length === 0) return role;
  throw new WalbError("bad-format", {
    what:
      role === undefined
        ? "these are no volumes of a walb-tools daemon"
        : `these are volumes of several roles: ${[...found].join(", ")}`,
    where: { file: directory },
    hint: "name the -b of one daemon; if you know whose it is, say --role",
  });
}

/** @throws WalbError `locked` when a daemon of walb-tools runs on the directory, as far as the processes tell. */
function requireNoDaemon(directory: string): void {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (!/^walb-(storage|proxy|archive)$/.test(readFileSync(`/proc/${pid}/comm`, "utf8").trim())) continue;
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      const at = words.indexOf("-b");
      const named = at < 0 ? undefined : words[at + 1];
      if (named === undefined || resolve(readlinkSync(`/proc/${pid}/cwd`), named) !== directory) continue;
    } catch {
      // The process has ended meanwhile.
      continue;
    }
    throw new WalbError("locked", {
      what: `a daemon uses this directory: process ${pid}`,
      where: { file: directory },
      hint: `end it first: walbc -a HOST -p PORT shutdown, or kill ${pid}`,
    });
  }
}

/** One after the other; an error names the volume. */
async function each(
  volumes: readonly string[],
  work: (volume: string) => Promise<AdoptReport>,
): Promise<AdoptReport[]> {
  const reports: AdoptReport[] = [];
  for (const volume of volumes) {
    try {
      reports.push(await work(volume));
    } catch (error) {
      throw asWalbError(error, { volume });
    }
  }
  return reports;
}

function planText(role: Role, directory: string, plans: readonly AdoptReport[]): string {
  const volumes = plans.map(({ volume, state, facts, warnings }) => {
    const lines = [...facts, ...warnings.map((warning) => `warning: ${warning}`)];
    return `${volume}, ${state}\n${lines.map((line) => `  ${line}\n`).join("")}`;
  });
  return `${role} at ${directory}\n${volumes.join("")}`;
}

function startLine(role: Role, directory: string, images: string | undefined): string {
  const others = {
    storage: " --archive HOST:PORT --proxy HOST:PORT",
    proxy: "",
    archive: ` --images ${images}`,
  }[role];
  return `walb ${role} --data ${directory}${others}`;
}
