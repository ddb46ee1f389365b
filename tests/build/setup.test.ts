import { expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const script = resolve(import.meta.dir, "../../scripts/setup.sh");

test("setup names what is missing and stops where it may not install", () => {
  // A copy that an unprivileged user can read.
  const directory = mkdtempSync(join(tmpdir(), "walb-setup-"));
  try {
    chmodSync(directory, 0o755);
    mkdirSync(join(directory, "scripts"));
    copyFileSync(script, join(directory, "scripts", "setup.sh"));
    const isRoot = process.getuid?.() === 0;
    const unprivileged = isRoot ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : [];
    const { exitCode, stderr } = Bun.spawnSync([...unprivileged, "sh", join(directory, "scripts", "setup.sh")], {
      env: { PATH: process.env.PATH ?? "", CC: "/nonexistent/cc" },
      stdout: "pipe",
      stderr: "pipe",
    });
    const text = stderr.toString();
    expect({ exitCode, text }).toMatchObject({ exitCode: 1 });
    expect(text).toContain("these system packages are missing: gcc");
    expect(text).toContain("run as root: apt-get update && apt-get install -y --no-install-recommends gcc");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
