/** @module A virtual machine with a real kernel, for tests. */
import { join } from "node:path";
import { binary } from "../helpers/fleet.ts";

const runner = join(import.meta.dir, "run-in-vm.sh");

/** Why there is no virtual machine here; undefined when there is. The first time it unpacks a kernel. */
export function whyNoMachine(): string | undefined {
  const { exitCode, stdout, stderr } = Bun.spawnSync([runner, "--check"], { stdin: "ignore" });
  if (exitCode === 0) return undefined;
  return exitCode === 77 ? stdout.toString().trim() : `the virtual machine cannot be made: ${stderr.toString()}`;
}

/** Runs a script with `disks` as /dev/vda, /dev/vdb, …; 125: the machine died, as by a power cut. */
export async function inMachine(
  script: string,
  disks: readonly string[],
  memoryMib = 1536,
): Promise<{ code: number; out: string }> {
  const child = Bun.spawn([runner, script], {
    env: { ...process.env, VM_DISKS: disks.join(" "), VM_MEMORY_MIB: `${memoryMib}`, VM_TIMEOUT_S: "540" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const out = await new Response(child.stdout).text();
  return { code: await child.exited, out };
}

/**
 * What scripts begin with: `walb`, `start_device` (the daemon, in /run/w/d, its process in $P), `until_there PATH` and
 * `expect_same A B`.
 */
export const prelude = `
  set -e; modprobe virtio_blk; modprobe nbd; modprobe ext4
  until_there() { for i in $(seq 300); do [ -e "$1" ] && return; sleep 0.1; done; echo "there is no $1"; exit 1; }
  walb() { ${binary} "$@"; }
  start_device() {
    rm -f d/control.sock; ${binary} device --data /run/w/d >>device.out 2>&1 & P=$!
    until_there d/control.sock
  }
  until_there /dev/vda
`;
