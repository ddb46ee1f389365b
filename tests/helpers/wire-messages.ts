/** @module Reads the messages of recorded commands with our decoders and writes them again with our encoders. */
import { getTargets } from "../../src/wire/get.ts";
import { putArchiveTarget, takeArchiveTarget } from "../../src/wire/meta.ts";
import type { Decoder, Encoder } from "../../src/wire/serializer.ts";

/** What a client of a command sends behind the handshake. @returns its parameters. */
export function copyRequest(protocol: string, from: Decoder, to: Encoder): string[] {
  if (protocol === "version") return [];
  if (protocol === "shutdown") {
    to.bool(from.bool());
    return [];
  }
  if (protocol === "sleep") {
    to.u64(from.u64());
    return [];
  }
  const parameters = from.strings("parameters", 100);
  to.strings(parameters);
  if (protocol !== "archive-info") return parameters;
  const [kind] = parameters;
  if (kind !== "list") to.string(from.string());
  if (kind === "add" || kind === "update") putArchiveTarget(to, takeArchiveTarget(from));
  return parameters;
}

/** What a server answers behind the handshake. */
export function copyAnswer(protocol: string, parameters: readonly string[], from: Decoder, to: Encoder): void {
  // The original closes without a word in some failures.
  if (from.restBytes === 0) return;
  const answer = from.string("answer", 1 << 20);
  to.string(answer);
  if (protocol === "bhash" && answer === "accept") {
    let control = 3;
    while (control === 3) {
      control = from.u8();
      to.u8(control);
    }
    to.string(from.string());
    to.raw(from.raw(16));
    return;
  }
  if (answer !== "ok" || from.restBytes === 0) return;
  if (protocol === "snapshot") {
    to.u64(from.u64());
    return;
  }
  if (protocol === "archive-info") {
    if (parameters[0] === "get") putArchiveTarget(to, takeArchiveTarget(from));
    else to.strings(from.strings());
    return;
  }
  const kind = protocol === "get" ? getTargets[parameters[0] as keyof typeof getTargets].kind : "lines";
  if (kind === "number") to.u64(from.size("value"));
  else if (kind === "flag") to.bool(from.bool());
  else if (kind === "text") to.string(from.string());
  else to.strings(from.strings());
  to.u32(from.u32());
}
