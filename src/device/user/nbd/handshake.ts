/** @module The handshake half of an NBD connection: fixed newstyle greeting, option negotiation, the turn to TLS. */
import { asWalbError, WalbError } from "../../../errors.ts";
import type { BlockVolume } from "../block.ts";
import { exportFlags, findExport, type NbdExports } from "./exports.ts";
import type { ByteQueue } from "./input.ts";
import {
  allocationContext,
  allocationContextId,
  handshakeFlags,
  infoTypes,
  initMagic,
  maxPayloadBytes,
  maxStringBytes,
  minBlockBytes,
  optionHeaderBytes,
  optionMagic,
  optionReplies,
  optionReplyMagic,
  options,
  putU16,
  putU32,
  putU64,
  u16At,
  u32At,
} from "./protocol.ts";

/** Longest option data that is looked at; longer is skipped and answered with TOO_BIG. */
const maxOptionBytes = 64 * 1024;
/** Longest option data that is skipped; a client that announces more is cut off. */
const maxSkippedBytes = maxPayloadBytes;
/** Most options of one handshake: bounds what a silly client can ask for. */
const maxOptions = 1024;

/** What a handshake agreed on. */
export interface Negotiated {
  readonly volume: BlockVolume;
  readonly isStructured: boolean;
  readonly hasAllocationContext: boolean;
}

/** The connection as the handshake sees it. */
export interface HandshakeHost {
  readonly exports: NbdExports;
  /** True while the peer does not read what was written: then consume() is left until it does. */
  readonly isBlocked: boolean;
  /** Nothing is served before TLS runs. */
  readonly isTlsRequired: boolean;
  /** Turns the connection to TLS, then calls {@link Handshake.tlsStarted}. */
  startTls(): void;
  write(bytes: Uint8Array): void;
  /** FIN after what was written. */
  finish(): void;
  /** Closes at once because of what the peer did. */
  fail(error: WalbError): void;
  enter(negotiated: Negotiated): void;
}

/** Parses the client's side of the handshake and answers it. */
export class Handshake {
  private state: "flags" | "option" | "skip" | "tls" | "over" = "flags";
  private isTls = false;
  private hasNoZeroes = false;
  private isStructured = false;
  /** Export that base:allocation was selected for. */
  private contextFor: BlockVolume | undefined;
  private optionCount = 0;
  private skipOption = 0;
  private skipBytes = 0;

  constructor(private readonly host: HandshakeHost) {}

  /** Sends the greeting. */
  greet(): void {
    const hello = new Uint8Array(18);
    putU32(hello, 0, initMagic[0]);
    putU32(hello, 4, initMagic[1]);
    putU32(hello, 8, optionMagic[0]);
    putU32(hello, 12, optionMagic[1]);
    putU16(hello, 16, handshakeFlags.fixedNewstyle | handshakeFlags.noZeroes);
    this.host.write(hello);
  }

  /** Takes what is complete; returns when it needs more bytes, is blocked or is over. */
  consume(input: ByteQueue): void {
    while (this.state !== "over" && this.state !== "tls" && !this.host.isBlocked) {
      if (this.state === "flags") {
        if (!input.ensure(4)) return;
        this.clientFlags(u32At(input.bytes, input.at));
        input.skip(4);
      } else if (this.state === "skip") {
        this.skipBytes -= input.skip(this.skipBytes);
        if (this.skipBytes > 0) return;
        this.state = "option";
        this.reply(this.skipOption, optionReplies.errTooBig, text("option data is too long"));
      } else if (!this.nextOption(input)) {
        return;
      }
    }
  }

  /** TLS runs. What was negotiated before it does not count: anybody could have. */
  tlsStarted(): void {
    this.isTls = true;
    this.isStructured = false;
    this.contextFor = undefined;
    this.state = "option";
  }

  private clientFlags(flags: number): void {
    const known = handshakeFlags.fixedNewstyle | handshakeFlags.noZeroes;
    if ((flags & ~known) !== 0 || (flags & handshakeFlags.fixedNewstyle) === 0) {
      this.violation(`the client sent handshake flags 0x${flags.toString(16)}`, "use a client of the fixed newstyle");
      return;
    }
    this.hasNoZeroes = (flags & handshakeFlags.noZeroes) !== 0;
    this.state = "option";
  }

  private nextOption(input: ByteQueue): boolean {
    if (!input.ensure(optionHeaderBytes)) return false;
    const { bytes, at } = input;
    if (u32At(bytes, at) !== optionMagic[0] || u32At(bytes, at + 4) !== optionMagic[1]) {
      this.violation("the client sent an option without its magic number", "check what connects to this port");
      return false;
    }
    const option = u32At(bytes, at + 8);
    const sizeBytes = u32At(bytes, at + 12);
    if (sizeBytes > maxSkippedBytes || ++this.optionCount > maxOptions) {
      this.violation(`option ${option} has ${sizeBytes} bytes, as number ${this.optionCount}`, "check the client");
      return false;
    }
    if (sizeBytes > maxOptionBytes) {
      input.skip(optionHeaderBytes);
      this.skipOption = option;
      this.skipBytes = sizeBytes;
      this.state = "skip";
      return true;
    }
    if (!input.ensure(optionHeaderBytes + sizeBytes)) return false;
    const from = input.at + optionHeaderBytes;
    const data = input.bytes.subarray(from, from + sizeBytes);
    // Answered before the bytes are dropped: `data` aliases the queue.
    const next = this.answer(option, data);
    input.skip(optionHeaderBytes + sizeBytes);
    next?.();
    return true;
  }

  /** Answers one option; what is returned runs after its bytes are consumed. */
  private answer(option: number, data: Uint8Array): (() => void) | undefined {
    const isOpen = this.isTls || !this.host.isTlsRequired;
    if (!isOpen && option !== options.startTls && option !== options.abort) return this.demandTls(option);
    switch (option) {
      case options.exportName:
        return this.exportName(data);
      case options.abort:
        this.reply(option, optionReplies.ack);
        this.state = "over";
        return () => this.host.finish();
      case options.list:
        this.list(data);
        return undefined;
      case options.info:
      case options.go:
        return this.infoOrGo(option, data);
      case options.structuredReply:
        if (data.length !== 0) this.invalid(option, "structured reply takes no data");
        else {
          this.isStructured = true;
          this.reply(option, optionReplies.ack);
        }
        return undefined;
      case options.listMetaContext:
      case options.setMetaContext:
        this.metaContext(option, data);
        return undefined;
      case options.startTls:
        return this.startTls(data);
      default:
        this.reply(option, optionReplies.errUnsup, text("unknown option"));
        return undefined;
    }
  }

  private startTls(data: Uint8Array): (() => void) | undefined {
    const option = options.startTls;
    if (data.length !== 0) this.invalid(option, "starting TLS takes no data");
    else if (this.isTls) this.invalid(option, "TLS runs already");
    else if (!this.host.isTlsRequired) this.reply(option, optionReplies.errUnsup, text("TLS is not offered"));
    else {
      this.reply(option, optionReplies.ack);
      this.state = "tls";
      return () => this.host.startTls();
    }
    return undefined;
  }

  private demandTls(option: number): (() => void) | undefined {
    // The protocol has no error answer to this old option.
    if (option === options.exportName) {
      this.state = "over";
      return () => this.host.finish();
    }
    this.reply(option, optionReplies.errTlsReqd, text("this server requires TLS: use nbds:// with certificates"));
    return undefined;
  }

  private exportName(data: Uint8Array): (() => void) | undefined {
    const name = data.length > maxStringBytes ? undefined : decode(data);
    const volume = name === undefined ? undefined : findExport(this.host.exports, name);
    if (volume === undefined) {
      // The protocol has no error answer to this old option.
      this.state = "over";
      return () => this.host.finish();
    }
    const answer = new Uint8Array(this.hasNoZeroes ? 10 : 134);
    putU64(answer, 0, volume.sizeBytes);
    putU16(answer, 8, exportFlags(volume, this.isStructured));
    this.host.write(answer);
    return this.enter(volume);
  }

  private list(data: Uint8Array): void {
    if (data.length !== 0) {
      this.invalid(options.list, "list takes no data");
      return;
    }
    for (const name of this.host.exports.names()) {
      const nameBytes = text(name);
      const item = new Uint8Array(4 + nameBytes.length);
      putU32(item, 0, nameBytes.length);
      item.set(nameBytes, 4);
      this.reply(options.list, optionReplies.server, item);
    }
    this.reply(options.list, optionReplies.ack);
  }

  private infoOrGo(option: number, data: Uint8Array): (() => void) | undefined {
    const nameBytes = data.length >= 6 ? u32At(data, 0) : Number.POSITIVE_INFINITY;
    const name =
      nameBytes <= maxStringBytes && 6 + nameBytes <= data.length ? decode(data.subarray(4, 4 + nameBytes)) : undefined;
    if (name === undefined || data.length !== 6 + nameBytes + 2 * u16At(data, 4 + nameBytes)) {
      this.invalid(option, "lengths inside the option do not fit");
      return undefined;
    }
    const volume = findExport(this.host.exports, name);
    if (volume === undefined) {
      this.reply(option, optionReplies.errUnknown, text(`no running volume ${JSON.stringify(name)}`));
      return undefined;
    }
    const asked = new Set<number>();
    for (let at = 6 + nameBytes; at < data.length; at += 2) asked.add(u16At(data, at));
    const about = new Uint8Array(12);
    putU16(about, 0, infoTypes.export);
    putU64(about, 2, volume.sizeBytes);
    putU16(about, 10, exportFlags(volume, this.isStructured));
    this.reply(option, optionReplies.info, about);
    // Sent even when not asked for: the protocol allows it, and the minimum of 512 is what every client assumes.
    const sizes = new Uint8Array(14);
    putU16(sizes, 0, infoTypes.blockSize);
    putU32(sizes, 2, minBlockBytes);
    putU32(sizes, 6, Math.max(minBlockBytes, volume.preferredBlockBytes));
    putU32(sizes, 10, maxPayloadBytes);
    this.reply(option, optionReplies.info, sizes);
    if (asked.has(infoTypes.name)) this.infoText(option, infoTypes.name, volume.name);
    if (asked.has(infoTypes.description)) this.infoText(option, infoTypes.description, `walb volume ${volume.name}`);
    this.reply(option, optionReplies.ack);
    return option === options.go ? this.enter(volume) : undefined;
  }

  private infoText(option: number, type: number, value: string): void {
    const valueBytes = text(value);
    const info = new Uint8Array(2 + valueBytes.length);
    putU16(info, 0, type);
    info.set(valueBytes, 2);
    this.reply(option, optionReplies.info, info);
  }

  private metaContext(option: number, data: Uint8Array): void {
    const isSet = option === options.setMetaContext;
    if (isSet) this.contextFor = undefined;
    if (isSet && !this.isStructured) {
      this.invalid(option, "structured replies must be negotiated first");
      return;
    }
    const parsed = parseMetaContext(data);
    if (parsed === undefined) {
      this.invalid(option, "lengths inside the option do not fit");
      return;
    }
    const volume = findExport(this.host.exports, parsed.name);
    if (volume === undefined) {
      this.reply(option, optionReplies.errUnknown, text(`no running volume ${JSON.stringify(parsed.name)}`));
      return;
    }
    const isWanted = isSet
      ? parsed.queries.includes(allocationContext)
      : parsed.queries.length === 0 || parsed.queries.some((q) => q === "base:" || q === allocationContext);
    if (isWanted) {
      const nameBytes = text(allocationContext);
      const item = new Uint8Array(4 + nameBytes.length);
      putU32(item, 0, isSet ? allocationContextId : 0);
      item.set(nameBytes, 4);
      this.reply(option, optionReplies.metaContext, item);
      if (isSet) this.contextFor = volume;
    }
    this.reply(option, optionReplies.ack);
  }

  private enter(volume: BlockVolume): () => void {
    this.state = "over";
    const { isStructured } = this;
    const hasAllocationContext = this.contextFor === volume;
    return () => this.host.enter({ volume, isStructured, hasAllocationContext });
  }

  private reply(option: number, type: number, data: Uint8Array = nothing): void {
    const bytes = new Uint8Array(20 + data.length);
    putU32(bytes, 0, optionReplyMagic[0]);
    putU32(bytes, 4, optionReplyMagic[1]);
    putU32(bytes, 8, option);
    putU32(bytes, 12, type);
    putU32(bytes, 16, data.length);
    bytes.set(data, 20);
    this.host.write(bytes);
  }

  private invalid(option: number, why: string): void {
    this.reply(option, optionReplies.errInvalid, text(why));
  }

  private violation(what: string, hint: string): void {
    this.state = "over";
    this.host.fail(new WalbError("protocol", { what, hint, where: { step: "NBD handshake" } }));
  }
}

const nothing = new Uint8Array(0);
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function text(value: string): Uint8Array {
  return encoder.encode(value);
}

/** UTF-8 text, or undefined when it is not. */
function decode(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw asWalbError(error);
  }
}

function parseMetaContext(data: Uint8Array): { name: string; queries: string[] } | undefined {
  let at = 0;
  const string = (): string | undefined => {
    if (at + 4 > data.length) return undefined;
    const sizeBytes = u32At(data, at);
    if (sizeBytes > maxStringBytes || at + 4 + sizeBytes > data.length) return undefined;
    at += 4 + sizeBytes;
    return decode(data.subarray(at - sizeBytes, at));
  };
  const name = string();
  if (name === undefined || at + 4 > data.length) return undefined;
  const count = u32At(data, at);
  at += 4;
  if (count > (data.length - at) / 4) return undefined;
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    const query = string();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return at === data.length ? { name, queries } : undefined;
}
