/** @module Small file systems of several kinds, for programs that fill them up: each in a mount namespace of its own. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { missing } from "./device-process.ts";
import { withTemporaryDirectory } from "./temporary.ts";

/** Kinds with how to make them; XFS and Btrfs are not smaller. */
const kinds = {
  tmpfs: undefined,
  ext4: { sizeMib: 160, make: "mkfs.ext4" },
  xfs: { sizeMib: 304, make: "mkfs.xfs" },
  btrfs: { sizeMib: 256, make: "mkfs.btrfs" },
} as const;

export type FileSystemKind = keyof typeof kinds;
export const smallFileSystems = Object.keys(kinds) as FileSystemKind[];

/** Even a small tmpfs needs a mount namespace of its own. */
const canMount = spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs walb /mnt"]).status === 0;

/** What this host lacks for one of a kind. */
export function lackingFor(kind: FileSystemKind): string[] {
  const how = kinds[kind];
  if (how === undefined) return canMount ? [] : ["right to mount"];
  const lacking = [...missing(how.make, "losetup", "mount")];
  if (process.getuid?.() !== 0) lacking.push("root");
  if (!existsSync("/dev/loop-control")) lacking.push("/dev/loop-control");
  return lacking;
}

/** Runs a program with the directory of a small file system, and what else it is told. @returns the JSON it prints. */
export async function onSmallFileSystem(
  kind: FileSystemKind,
  program: string,
  ...parameters: readonly string[]
): Promise<unknown> {
  return await withTemporaryDirectory(async (directory) => {
    const how = kinds[kind];
    const mount =
      how === undefined
        ? `mount -t tmpfs -o size=160m walb "$1"`
        : `truncate -s ${how.sizeMib}M "$1.img" && ${how.make} -q "$1.img" >/dev/null && mount -o loop "$1.img" "$1" && rm "$1.img"`;
    const { stdout, stderr } = spawnSync(
      "unshare",
      [
        how === undefined ? "-rm" : "-m",
        "sh",
        "-c",
        `mkdir "$1" && ${mount} && set -- "$@" && d=$1 b=$2 p=$3 && shift 3 && exec "$b" run "$p" "$d" "$@"`,
        "sh",
      ].concat([`${directory}/small`, process.execPath, program], parameters),
      { encoding: "utf8", timeout: 90_000 },
    );
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout);
  });
}
