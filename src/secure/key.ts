/**
 * @module Cluster keys: 256 random bits that all hosts of a cluster share, as a line of text in a file, and what is derived
 * from them.
 *
 * ```
 * # comments and empty lines
 * walb-key-1:<43 characters: 32 bytes in base64url>:<6 characters: 4 bytes of checksum in base64url>
 * ```
 *
 * A file may hold several keys, one a line, so that a key can be changed host by host: two hosts agree when they have one in
 * common. The first is the one that certificates and tokens are made of.
 */
import { createHash, hkdfSync } from "node:crypto";
import { WalbError } from "../errors.ts";

const prefix = "walb-key-1";
const keyBytes = 32;
const checksumBytes = 4;
/** Most keys of a file. */
export const keysMax = 4;
/** Bytes of a key's id. */
export const keyIdBytes = 8;

/** What a key is used for; each use has its own secret, so that none says anything about another. */
export type KeyPurpose = "id" | "proof" | "certificate-authority" | "token" | "monitor-token";

/** One key. Its secrets are in no output of it. */
export class ClusterKey {
  /** Public name: `3f2a-91bc-77d0-1e55`. */
  readonly fingerprint: string;
  /** The same, as it is sent. */
  readonly id: Uint8Array;
  readonly #secret: Uint8Array;

  /** @param secret 32 bytes. */
  constructor(secret: Uint8Array) {
    if (secret.length !== keyBytes) throw new WalbError("internal", { what: `a key has ${secret.length} bytes` });
    this.#secret = secret.slice();
    this.id = this.derive("id", keyIdBytes);
    this.fingerprint = fingerprintOf(this.id);
  }

  /** A secret for one purpose: HKDF-SHA256 (RFC 5869) with the salt `walb cluster key 1`. */
  derive(purpose: KeyPurpose, sizeBytes: number): Uint8Array {
    return new Uint8Array(hkdfSync("sha256", this.#secret, "walb cluster key 1", purpose, sizeBytes));
  }

  /** The line of a key file. It is the secret itself. */
  toLine(): string {
    const text = Buffer.from(this.#secret).toString("base64url");
    return `${prefix}:${text}:${checksum(this.#secret)}`;
  }
}

/** Keys of a file, the first of which is used where only one can be. */
export interface ClusterKeys {
  readonly all: readonly [ClusterKey, ...ClusterKey[]];
  /** For messages: where they are from. */
  readonly source: string;
}

/** Public text of a key's id. */
export function fingerprintOf(id: Uint8Array): string {
  return Buffer.from(id).toString("hex").match(/.{4}/g)?.join("-") ?? "";
}

/** Fingerprints of keys as a message names them. */
export function keysText(ids: readonly string[]): string {
  return ids.length === 1 ? `cluster key ${ids[0]}` : `cluster keys ${ids.join(", ")}`;
}

/** @throws WalbError `usage` naming file and line; it never shows what is in there. */
export function parseKeys(text: string, file: string): ClusterKeys {
  const all: ClusterKey[] = [];
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const key = parseLine(line);
    if (key === undefined) {
      throw new WalbError("usage", {
        what: `line ${index + 1} of the key file is no cluster key, or is damaged`,
        where: { file },
        hint: `make a key with: walb key new FILE; and copy that file as it is, e.g. with scp`,
      });
    }
    if (all.some(({ fingerprint }) => fingerprint === key.fingerprint)) {
      throw new WalbError("usage", { what: `the key file has the key ${key.fingerprint} twice`, where: { file } });
    }
    all.push(key);
  }
  const [first, ...others] = all;
  if (first === undefined || all.length > keysMax) {
    throw new WalbError("usage", {
      what: first === undefined ? "the key file has no key in it" : `the key file has more than ${keysMax} keys`,
      where: { file },
      hint:
        first === undefined
          ? "make one with: walb key new FILE"
          : "remove the lines of keys that are not used any more",
    });
  }
  return { all: [first, ...others], source: file };
}

/** A key file with one key. */
export function formatKeyFile(key: ClusterKey): string {
  return (
    `# Cluster key ${key.fingerprint} of walb. Keep it secret: who has it can read and delete backups.\n` +
    `${key.toLine()}\n`
  );
}

function parseLine(line: string): ClusterKey | undefined {
  const match = /^walb-key-1:([A-Za-z0-9_-]{43}):([A-Za-z0-9_-]{6})$/.exec(line);
  if (match === null) return undefined;
  const secret = Buffer.from(match[1]!, "base64url");
  if (secret.length !== keyBytes || checksum(secret) !== match[2]) return undefined;
  return new ClusterKey(secret);
}

/** Against typing and copying errors only; it says 32 bits about a key of 256. */
function checksum(secret: Uint8Array): string {
  return createHash("sha256").update(prefix).update(secret).digest().subarray(0, checksumBytes).toString("base64url");
}
