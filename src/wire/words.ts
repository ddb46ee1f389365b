/** @module Fixed words, protocol names and error texts of the wire protocol. Source: `docs/protocol.md`, names. */
import { WalbError } from "../errors.ts";

/** Revision of the handshake. */
export const protocolVersion = 1;

/** Data protocols, by who opens and who serves them. */
export const ProtocolName = {
  fullSync: "dirty-full-sync3",
  hashSync: "dirty-hash-sync2",
  wlogTransfer: "wlog-transfer",
  wdiffTransfer: "wdiff-transfer",
  replSync: "repl-sync3",
  gatherLatestSnap: "gather-latest-snap",
} as const;

/** One raw byte in front of the units of a data stream. */
export const StreamControl = { next: 0, end: 1, error: 2, dummy: 3 } as const;

/** The number that an Ack is, always the bytes `82 77 61 6c 62`. */
export const ackWord = 0x626c_6177;

export const wordOk = "ok";
export const wordAccept = "accept";

/** Refusals of wdiff-transfer that a proxy acts on; no free text may equal one of them. */
export const refusalWords = [
  "stopped",
  "wdiff-recv",
  "syncing",
  "archive-not-found",
  "different-uuid",
  "smaller-lv-size",
  "too-old-diff",
  "too-new-diff",
] as const;
export type RefusalWord = (typeof refusalWords)[number];

/** What a served request gets: go on, a refusal word, or a text. */
export type Decision = { readonly kind: "accept" } | Refusal;

/** No, for a reason that peers or people know. */
export type Refusal =
  | { readonly kind: "word"; readonly word: RefusalWord }
  | { readonly kind: "text"; readonly text: string };

/** What a peer answered to a request. */
export type Answer = Decision;

export const accept: Decision = { kind: "accept" };

/** A refusal that the peer's program understands. */
export function refuseWith(word: RefusalWord): Refusal {
  return { kind: "word", word };
}

/** A refusal that a person reads. */
export function refuse(error: unknown): Refusal {
  return { kind: "text", text: errorText(error) };
}

/** The string of a decision on the wire. `confirmation` is what stands for yes. */
export function decisionText(decision: Decision, confirmation: string = wordAccept): string {
  if (decision.kind === "accept") return confirmation;
  // A text has at most two lines, see errorText.
  return decision.kind === "word" ? decision.word : decision.text.split("\n", 2).map(safeText).join("\n");
}

/** Reads an answer string. */
export function parseAnswer(text: string, confirmation: string = wordAccept): Answer {
  if (text === confirmation) return accept;
  const word = refusalWords.find((candidate) => candidate === text);
  return word === undefined ? { kind: "text", text: reasonOf(text) } : { kind: "word", word };
}

/**
 * An error that the original has too: peers get its text as the first line, which is all that scripts look at, and ours
 * behind it, in the place of the original's stack addresses.
 */
export class PeerError extends WalbError {
  constructor(
    readonly peerText: string,
    error?: WalbError,
  ) {
    super(error?.code ?? "bad-parameter", {
      what: error?.what ?? peerText,
      ...(error === undefined ? {} : { where: error.where }),
      ...(error?.hint === undefined ? {} : { hint: error.hint }),
      ...(error?.cause === undefined ? {} : { cause: error.cause }),
    });
  }
}

/** An error for a peer: one line, for a {@link PeerError} two; no stack, bounded, never one of the fixed words. */
export function errorText(error: unknown): string {
  if (error instanceof PeerError) {
    const first = safeText(error.peerText);
    const ours = ourText(error);
    return ours === first ? first : `${first}\n${ourMark}${ours}`;
  }
  return ourText(error);
}

function ourText(error: unknown): string {
  if (!(error instanceof WalbError)) return safeText(error instanceof Error ? error.message : String(error));
  return safeText(error.hint === undefined ? error.message : `${error.message} (${error.hint})`);
}

/** In front of the line that is ours, behind one of the original's. */
const ourMark = "walb: ";

/** What a peer's text says: our line where there is one, else the first; the original appends stack addresses. */
export function reasonOf(text: string): string {
  const lines = text.split(/[\r\n]+/);
  const ours = lines.find((line, index) => index > 0 && line.startsWith(ourMark));
  return (ours?.slice(ourMark.length) ?? lines[0] ?? "").trim();
}

/** In a refusal of a log: the sender may try with less of it. */
export const noRoomText = "no room for this log: ";

/** Whether a log was refused because of its size. */
export function isNoRoom(answer: Answer): boolean {
  return answer.kind === "text" && answer.text.includes(noRoomText);
}

/** The error that a refusal by a peer is to whoever asked. */
export function refusedError(peer: string, request: string, answer: Answer): WalbError {
  const reason = answer.kind === "text" ? answer.text : answer.kind === "word" ? answer.word : "accepted";
  return new WalbError("state", { what: `${request} was refused: ${reason}`, where: { peer } });
}

const reserved = new Set<string>([wordOk, wordAccept, ...refusalWords]);
const textCharsMax = 8 * 1024;

function safeText(text: string): string {
  const line = text
    .replace(/\p{Cc}+/gu, " ")
    .trim()
    .slice(0, textCharsMax);
  if (line === "") return "failed without a reason";
  return reserved.has(line) ? `error: ${line}` : line;
}
