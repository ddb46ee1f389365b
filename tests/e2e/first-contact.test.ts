import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runBinaryOfSource } from "../helpers/source-binary.ts";

/** Somebody who types what the output says, and nothing else. */
const limitMs = 120_000;
let directory: string;
const daemons: Bun.Subprocess[] = [];
let typed: string[] = [];

afterEach(async () => {
  for (const child of daemons.splice(0).reverse()) {
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  }
  rmSync(directory, { recursive: true, force: true });
}, limitMs);

function begin(): void {
  directory = mkdtempSync(join(tmpdir(), "walb-first-"));
  typed = [];
}

function host(name: string): string {
  const path = join(directory, name);
  mkdirSync(path, { recursive: true });
  return path;
}

/** What a text says to type next. */
function nextOf(text: string): string {
  const line = /^next: (walb .*?)(?: {3}\(.*)?$/m.exec(text)?.[1];
  if (line === undefined) throw new Error(`it does not say what to type next:\n${text}`);
  return line;
}

/** Starts a daemon in the directory of its host. @returns what it listens on, and what it says to type next. */
async function daemon(at: string, line: string): Promise<{ address: string; next: string }> {
  typed.push(line);
  const log = join(at, "err.txt");
  const child = Bun.spawn([...runBinaryOfSource, ...line.split(" ").slice(1)], {
    cwd: at,
    stdin: "ignore",
    stdout: "pipe",
    stderr: Bun.file(log),
  });
  daemons.push(child);
  const { value } = await child.stdout.getReader().read();
  const address = / listening on (.*)\n/.exec(new TextDecoder().decode(value))?.[1];
  if (address === undefined) throw new Error(readFileSync(log, "utf8"));
  for (let i = 0; i < 600 && !/^next: /m.test(readFileSync(log, "utf8")); i++) await Bun.sleep(50);
  return { address, next: nextOf(readFileSync(log, "utf8")) };
}

/** Runs a verb to its end. @returns what it says to type next. */
async function verb(at: string, line: string): Promise<string> {
  typed.push(line);
  const words = [...runBinaryOfSource, ...line.split(" ").slice(1)];
  const child = Bun.spawn(words, { cwd: at, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${line}:\n${out}${err}`);
  return line.startsWith("walb restore") ? "" : nextOf(err);
}

test(
  "one machine: three commands lead to a point that can be restored, each told by the one before",
  async () => {
    begin();
    const here = host("one");
    const { next: init } = await daemon(here, "walb up");
    const restore = await verb(here, await verb(here, init));
    expect(typed).toHaveLength(3);
    await verb(here, restore);
    expect(statSync(join(here, "vol0.img")).size).toBe(2 ** 30);
    expect(existsSync(join(here, "walb.toml"))).toBe(true);
  },
  limitMs,
);

test(
  "three hosts: five commands lead to a point that can be restored, each told by the one before",
  async () => {
    begin();
    const archive = await daemon(host("backup"), "walb archive --data ./data --port 0");
    expect(archive.next).toBe("walb proxy");
    const proxy = await daemon(host("relay"), `${archive.next} --data ./data --port 0`);
    const here = host("source");
    const { next: init } = await daemon(here, proxy.next.replace("ARCHIVE", archive.address));
    const restore = await verb(here, await verb(here, init));
    expect(typed).toHaveLength(5);
    await verb(here, restore);
    expect(statSync(join(here, "vol0.img")).size).toBe(2 ** 30);
  },
  limitMs,
);
