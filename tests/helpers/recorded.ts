/** @module Recorded conversations of the original, where they are at hand: loading them, their bytes, their answers. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Decoder } from "../../src/wire/serializer.ts";

interface Segment {
  readonly dir: "C>" | "S>";
  readonly hex?: string;
  readonly base64?: string;
}

/** One conversation. */
export interface Conversation {
  readonly name: string;
  readonly protocol: string;
  readonly clientId: string;
  readonly server: "storage" | "proxy" | "archive";
  readonly request: readonly (string | number)[];
  readonly result: string;
  readonly segments: readonly Segment[];
}

const root = process.env.WALB_VECTORS === undefined ? undefined : join(process.env.WALB_VECTORS, "wire");

/** Whether there are any. */
export const hasRecordings = root !== undefined && existsSync(join(root, "README.md"));

/** Names of the files with conversations, without the ending. */
export function recordedKinds(): string[] {
  if (!hasRecordings) return [];
  return readdirSync(root!).flatMap((name) => /^(.*)\.jsonl\.gz$/.exec(name)?.[1] ?? []);
}

export function loadRecorded(kind: string): Conversation[] {
  const text = new TextDecoder().decode(Bun.gunzipSync(readFileSync(join(root!, `${kind}.jsonl.gz`))));
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Conversation);
}

/** All that one side said. */
export function bytesOf({ segments }: Conversation, dir: "C>" | "S>"): Uint8Array {
  const parts = segments
    .filter((segment) => segment.dir === dir)
    .map((segment) =>
      segment.hex === undefined ? Buffer.from(segment.base64 ?? "", "base64") : Buffer.from(segment.hex, "hex"),
    );
  return new Uint8Array(Buffer.concat(parts));
}

/** What a client says first, and where its own part begins. */
export function clientHello(bytes: Uint8Array): { clientId: string; protocol: string; version: number; at: number } {
  const decoder = new Decoder(bytes);
  const clientId = decoder.string();
  const protocol = decoder.string();
  const version = decoder.u32();
  return { clientId, protocol, version, at: decoder.offsetBytes };
}

/** What a server says first, and what it says behind it; `first` is the first string there. */
export function serverHello(bytes: Uint8Array): { serverId: string; answer: string; first: string; at: number } {
  const decoder = new Decoder(bytes);
  const serverId = decoder.string();
  const answer = decoder.string();
  const at = decoder.offsetBytes;
  return { serverId, answer, first: decoder.restBytes > 0 && answer === "ok" ? decoder.string() : "", at };
}
