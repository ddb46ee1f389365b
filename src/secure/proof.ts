/**
 * @module The proof that both ends of a TLS session have the same cluster key: what is sent, made and checked.
 *
 * ```
 * C> "walb-key", u8 version = 1, u8 count, count × (key id of 8 bytes, proof of 32 bytes)
 * S> "walb-key", u8 version = 1, u8 status
 *      status 0, accepted: key id, proof
 *      status 1, refused:  u8 count, count × key id of the server, u16 length (big-endian), that many bytes of text
 * ```
 *
 * A proof is HMAC-SHA256(key's secret for proofs, role ‖ exporter ‖ key id), where role is `walb client` or `walb server`
 * with a zero byte behind it and exporter is 32 bytes of the TLS exporter `EXPORTER-walb-cluster-key`. The exporter ties it to
 * this session: it is worth nothing in another one, so nobody between the two can pass it on. The role keeps the server from
 * giving back what it got. The server proves second, and to whoever has proved first.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { WalbError } from "../errors.ts";
import { type ClusterKey, type ClusterKeys, fingerprintOf, keyIdBytes, keysMax } from "./key.ts";

/** First bytes of both messages. */
export const proofMagic = "walb-key";
/** Of the TLS exporter. */
export const exporterLabel = "EXPORTER-walb-cluster-key";
export const exporterBytes = 32;

const version = 1;
const proofBytes = 32;
const headBytes = proofMagic.length + 2;
const entryBytes = keyIdBytes + proofBytes;
const textBytesMax = 1024;

/** Most bytes of a message. */
export const messageBytesMax = headBytes + keysMax * entryBytes + 3 + textBytesMax;

/** Which end proves. */
type Role = "client" | "server";

/** What a server makes of a client's message. */
export type ClientVerdict =
  | { readonly kind: "accepted"; readonly key: ClusterKey; readonly answer: Uint8Array }
  | { readonly kind: "refused"; readonly fingerprints: readonly string[]; readonly isForged: boolean };

/** What a client makes of a server's message. */
export type ServerVerdict =
  | { readonly kind: "accepted"; readonly key: ClusterKey }
  | { readonly kind: "refused"; readonly fingerprints: readonly string[]; readonly text: string }
  | { readonly kind: "forged" };

/** The client's message: a proof of each of its keys. */
export function clientMessage(keys: ClusterKeys, exporter: Uint8Array): Uint8Array {
  const entries = keys.all.map((key) => entryOf(key, "client", exporter));
  return Buffer.concat([head(entries.length), ...entries]);
}

/** Size of the client's message that begins with these bytes; undefined while they are too few. @throws WalbError `protocol`. */
export function clientMessageBytes(bytes: Uint8Array): number | undefined {
  const count = readHead(bytes);
  if (count === undefined) return undefined;
  if (count < 1 || count > keysMax) throw bad(`${count} keys`);
  return headBytes + count * entryBytes;
}

/** Judges a complete client's message. */
export function judgeClient(keys: ClusterKeys, exporter: Uint8Array, bytes: Uint8Array): ClientVerdict {
  const shown: { readonly id: Uint8Array; readonly proof: Uint8Array }[] = [];
  for (let at = headBytes; at < bytes.length; at += entryBytes) shown.push(readEntry(bytes, at));
  let isForged = false;
  // Every key is tried, in our order: the first one that both have and that is proved is used.
  for (const key of keys.all) {
    const entry = shown.find(({ id }) => Buffer.compare(id, key.id) === 0);
    if (entry === undefined) continue;
    if (timingSafeEqual(entry.proof, proofOf(key, "client", exporter))) {
      return { kind: "accepted", key, answer: Buffer.concat([head(0), entryOf(key, "server", exporter)]) };
    }
    isForged = true;
  }
  return { kind: "refused", fingerprints: shown.map(({ id }) => fingerprintOf(id)), isForged };
}

/** The server's refusal. */
export function refusalMessage(keys: ClusterKeys, text: string): Uint8Array {
  const textBytes = Buffer.from(text).subarray(0, textBytesMax);
  const size = Buffer.alloc(2);
  size.writeUInt16BE(textBytes.length);
  return Buffer.concat([head(1), Buffer.of(keys.all.length), ...keys.all.map(({ id }) => id), size, textBytes]);
}

/** Size of the server's message that begins with these bytes; undefined while they are too few. @throws WalbError `protocol`. */
export function serverMessageBytes(bytes: Uint8Array): number | undefined {
  const status = readHead(bytes);
  if (status === undefined) return undefined;
  if (status === 0) return headBytes + entryBytes;
  if (status !== 1) throw bad(`status ${status}`);
  const count = bytes[headBytes];
  if (count === undefined) return undefined;
  if (count < 1 || count > keysMax) throw bad(`${count} keys`);
  const textAt = headBytes + 1 + count * keyIdBytes + 2;
  if (bytes.length < textAt) return undefined;
  const size = (bytes[textAt - 2]! << 8) | bytes[textAt - 1]!;
  if (size > textBytesMax) throw bad(`a text of ${size} bytes`);
  return textAt + size;
}

/** Judges a complete server's message. */
export function judgeServer(keys: ClusterKeys, exporter: Uint8Array, bytes: Uint8Array): ServerVerdict {
  if (bytes[headBytes - 1] === 1) {
    const count = bytes[headBytes]!;
    const idsAt = headBytes + 1;
    const fingerprints = Array.from({ length: count }, (_, index) =>
      fingerprintOf(bytes.subarray(idsAt + index * keyIdBytes, idsAt + (index + 1) * keyIdBytes)),
    );
    const text = Buffer.from(bytes.subarray(idsAt + count * keyIdBytes + 2)).toString();
    return { kind: "refused", fingerprints, text: text.replace(/\p{Cc}+/gu, " ") };
  }
  const { id, proof } = readEntry(bytes, headBytes);
  const key = keys.all.find((candidate) => Buffer.compare(candidate.id, id) === 0);
  if (key === undefined || !timingSafeEqual(proof, proofOf(key, "server", exporter))) return { kind: "forged" };
  return { kind: "accepted", key };
}

function head(last: number): Uint8Array {
  return Buffer.concat([Buffer.from(proofMagic), Buffer.of(version, last)]);
}

/** The byte behind the version. */
function readHead(bytes: Uint8Array): number | undefined {
  const seen = Buffer.from(bytes.subarray(0, proofMagic.length)).toString("latin1");
  if (!proofMagic.startsWith(seen)) throw bad("other first bytes");
  if (bytes.length < headBytes) return undefined;
  const other = bytes[proofMagic.length]!;
  if (other !== version) throw bad(`version ${other}, not ${version}`);
  return bytes[headBytes - 1]!;
}

function entryOf(key: ClusterKey, role: Role, exporter: Uint8Array): Uint8Array {
  return Buffer.concat([key.id, proofOf(key, role, exporter)]);
}

function readEntry(bytes: Uint8Array, at: number): { id: Uint8Array; proof: Uint8Array } {
  return { id: bytes.subarray(at, at + keyIdBytes), proof: bytes.subarray(at + keyIdBytes, at + entryBytes) };
}

function proofOf(key: ClusterKey, role: Role, exporter: Uint8Array): Buffer {
  const secret = key.derive("proof", 32);
  return createHmac("sha256", secret).update(`walb ${role}\0`).update(exporter).update(key.id).digest();
}

function bad(what: string): WalbError {
  return new WalbError("protocol", {
    what: `the peer's proof of the cluster key has ${what}`,
    hint: "is it a walb daemon or command of this version?",
  });
}
