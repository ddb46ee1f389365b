import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binary, runBinary } from "../helpers/fleet.ts";

/** The demo promises to take less than this. */
const limitMs = 90_000;

async function inEmptyDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "walb-demo-test-"));
  try {
    await work(directory);
    expect(readdirSync(directory)).toEqual([]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function occupy(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

describe("walb demo", () => {
  test(
    "restores both points byte for byte with e2fsck clean, and leaves nothing behind",
    async () => {
      await inEmptyDirectory(async (directory) => {
        const { code, out, err } = await runBinary(["demo", "--data", join(directory, "all")], {}, directory);
        expect({ code, err: code === 0 ? "" : `${out}${err}` }).toEqual({ code: 0, err: "" });
        expect(out.match(/all 1\.00G identical, e2fsck clean/g)).toHaveLength(4);
        expect(out).toContain("before the accident");
        expect(out).toContain("Everything took");
        expect(out).toContain("Try next");
      });
    },
    limitMs,
  );

  test(
    "takes other ports beside a running walb",
    async () => {
      const taken = await Promise.all([10000, 10100, 10200].map(occupy));
      try {
        await inEmptyDirectory(async (directory) => {
          const words = ["demo", "--size", "256M", "--data", join(directory, "all")];
          const { code, out, err } = await runBinary(words, {}, directory);
          expect({ code, err: code === 0 ? "" : `${out}${err}` }).toEqual({ code: 0, err: "" });
          expect(out).not.toMatch(/ports .*\b10[012]00\b/);
        });
      } finally {
        for (const server of taken) server?.close();
      }
    },
    limitMs,
  );

  test("refuses a directory that is there, so that nothing of anybody is removed", async () => {
    await inEmptyDirectory(async (directory) => {
      const { code, err } = await runBinary(["demo", "--data", directory]);
      expect(code).toBe(2);
      expect(err).toContain("is there already");
      expect(existsSync(directory)).toBe(true);
    });
  });

  // Hiding the tools needs a mount namespace, which needs root.
  test.skipIf(process.getuid?.() !== 0)(
    "uses generated data and says so where e2fsprogs is missing",
    async () => {
      await inEmptyDirectory(async (directory) => {
        const hide = ["mke2fs", "debugfs", "e2fsck"]
          .flatMap((tool) => ["/sbin", "/usr/sbin"].map((place) => `${place}/${tool}`))
          .filter((path) => existsSync(path))
          .map((path) => `mount --bind /dev/null ${path}`);
        const demo = `${binary} demo --size 256M --data ${directory}/all`;
        const script = [...hide, demo].join(" && ");
        const child = Bun.spawn(["unshare", "-m", "sh", "-c", script], { stdout: "pipe", stderr: "pipe" });
        const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
        expect({ code: await child.exited, err }).toMatchObject({ code: 0 });
        expect(out).toContain("e2fsprogs is not installed");
        expect(out.match(/all 256M identical/g)).toHaveLength(4);
      });
    },
    limitMs,
  );
});
