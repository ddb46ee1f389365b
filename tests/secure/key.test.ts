import { describe, expect, test } from "bun:test";
import { chmodSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WalbError } from "../../src/errors.ts";
import { readSecretFile, writeSecretFile } from "../../src/platform/real/secret.ts";
import { ClusterKey, formatKeyFile, parseKeys } from "../../src/secure/key.ts";
import { Tokens, tokenOf } from "../../src/secure/token.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";
import { context, testKey, testKeys } from "./fixture.ts";

function refusal(text: string): WalbError {
  try {
    parseKeys(text, "/etc/walb/key");
  } catch (error) {
    if (error instanceof WalbError) return error;
  }
  throw new Error("it was taken");
}

describe("a key file", () => {
  test("holds what was written, with comments and several keys", () => {
    const keys = [1, 2, 3].map(testKey);
    const text = `\n${keys.map(formatKeyFile).join("\n# between\n\n")}`;
    const parsed = parseKeys(text.replaceAll("\n", "\r\n"), "f");
    expect(parsed.all.map(({ fingerprint }) => fingerprint)).toEqual(keys.map(({ fingerprint }) => fingerprint));
    expect(parsed.all.map((key) => key.toLine())).toEqual(keys.map((key) => key.toLine()));
  });

  test("is refused with line and way out when a character of it is wrong, without showing it", () => {
    const line = testKey(7).toLine();
    for (let at = 0; at < line.length; at += 1) {
      const wrong = line[at] === "A" ? "B" : "A";
      const error = refusal(`# one\n${line.slice(0, at)}${wrong}${line.slice(at + 1)}\n`);
      expect(error.what).toStartWith("line 2 of the key file");
      expect(error.hint).toContain("walb key new");
      expect(`${error.message}${error.hint}`).not.toContain(line.slice(15, 25));
    }
    for (const text of ["", "# nothing\n", "password123\n", line.slice(0, 30), "\0\0\0", `${line}${line}`]) {
      expect(refusal(text).code).toBe("usage");
    }
    expect(refusal(`${line}\n${line}\n`).what).toContain("twice");
    expect(refusal([1, 2, 3, 4, 5].map((n) => testKey(n).toLine()).join("\n")).what).toContain("more than 4");
  });

  test("is made for its owner alone and never written over, not even through a link", () =>
    withTemporaryDirectory(async (directory) => {
      const file = join(directory, "key");
      writeSecretFile(file, "secret\n");
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(() => writeSecretFile(file, "other")).toThrow("left as it is");
      symlinkSync(join(directory, "elsewhere"), join(directory, "link"));
      expect(() => writeSecretFile(join(directory, "link"), "other")).toThrow("left as it is");
      expect(readFileSync(file, "utf8")).toBe("secret\n");
      expect(readSecretFile(file)).toBe("secret\n");
    }));

  test("is not read while others can, nor when it is missing or no file", () =>
    withTemporaryDirectory(async (directory) => {
      const file = join(directory, "key");
      writeFileSync(file, "secret\n");
      for (const mode of [0o604, 0o644, 0o602, 0o620, 0o666, 0o601]) {
        chmodSync(file, mode);
        expect(() => readSecretFile(file)).toThrow("open to others");
      }
      for (const mode of [0o600, 0o400, 0o640, 0o440]) {
        chmodSync(file, mode);
        expect(readSecretFile(file)).toBe("secret\n");
      }
      expect(() => readSecretFile(join(directory, "none"))).toThrow("the key file is not there");
      expect(() => readSecretFile(directory)).toThrow("is not a file");
    }));
});

describe("a key", () => {
  test("has secrets that differ by purpose and key, and shows none of them", () => {
    const keys = [testKey(1), testKey(2)];
    const purposes = ["id", "proof", "certificate-authority", "token", "monitor-token"] as const;
    const secrets = keys.flatMap((key) =>
      purposes.map((purpose) => Buffer.from(key.derive(purpose, 32)).toString("hex")),
    );
    expect(new Set(secrets).size).toBe(10);
    const shown = `${JSON.stringify(keys)}${Bun.inspect(keys)}${String(keys[0])}`;
    for (const secret of [...secrets.slice(1, 5), keys[0]!.toLine().slice(11, 40)]) expect(shown).not.toContain(secret);
    expect(keys[0]!.fingerprint).toMatch(/^([0-9a-f]{4}-){3}[0-9a-f]{4}$/);
  });

  test("derives the same on every host: these bytes are the format", () => {
    const key = testKey(1);
    expect(key.toLine()).toBe("walb-key-1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE:1A5HHA");
    expect(key.fingerprint).toBe("f5e2-899b-9551-4160");
    expect(Buffer.from(key.derive("proof", 32)).toString("hex")).toBe(
      "125746985ecec852e9ef6b848f87715534343f62a8958b4a2383803c92131eb1",
    );
    expect(tokenOf(key, "monitor")).toBe("walbmon-OQMwKHi9vMJoGM-BEz_aXNvwtYydn1FN");
  });

  test("of random bytes is another one each time", () => {
    expect(new ClusterKey(context.randomBytes(32)).fingerprint).not.toBe(
      new ClusterKey(context.randomBytes(32)).fingerprint,
    );
  });
});

describe("tokens", () => {
  const tokens = new Tokens(testKeys(1, 2));
  const basic = (text: string): string => `Basic ${Buffer.from(text).toString("base64")}`;

  test("of every key of the file are taken, as bearer or as a password", () => {
    for (const number of [1, 2]) {
      const [full, monitor] = [tokenOf(testKey(number), "full"), tokenOf(testKey(number), "monitor")];
      expect(tokens.rightOf(`Bearer ${full}`)).toBe("full");
      expect(tokens.rightOf(`bearer  ${monitor}`)).toBe("monitor");
      expect(tokens.rightOf(basic(`anybody:${full}`))).toBe("full");
      expect(tokens.rightOf(basic(`:${monitor}`))).toBe("monitor");
    }
  });

  test("of other keys, cut, empty or of another scheme are not", () => {
    const token = tokenOf(testKey(1), "full");
    const wrong = [null, "", "Bearer", "Bearer ", token, `Digest ${token}`, `Bearer ${token.slice(0, -1)}`];
    const more = [
      `Bearer ${token}A`,
      `Bearer ${tokenOf(testKey(3), "full")}`,
      basic("a:"),
      basic(`${token}:x`),
      "Basic %%%",
    ];
    for (const header of [...wrong, ...more]) expect([header, tokens.rightOf(header)]).toEqual([header, undefined]);
  });
});
