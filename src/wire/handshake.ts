/**
 * @module The handshake that opens every connection: who asks, for which protocol, and who answers.
 *
 * ```
 * C> str clientId, str protocolName, v32 version = 1
 * S> str serverId, str "ok" | error text
 * ```
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Address, Net } from "../platform/net.ts";
import type { Decoder } from "./serializer.ts";
import { WireStream, type WireStreamOptions } from "./stream.ts";
import { protocolVersion, reasonOf, wordOk } from "./words.ts";

/** Bytes of an id or a protocol name. */
const nameBytesMax = 4096;

/** What a client said first. */
export interface Hello {
  readonly clientId: string;
  readonly protocol: string;
  readonly version: number;
}

/** How to open a connection to a walb daemon. */
export interface ConnectOptions extends WireStreamOptions {
  /** Our id, shown in the peer's log. */
  readonly clientId: string;
  /** A protocol or command name. */
  readonly protocol: string;
  /** How long the connection may take to open; default is the step deadline. */
  readonly connectTimeoutMs?: number;
}

/** An opened conversation: the stream is behind the handshake. */
export interface Opened {
  readonly stream: WireStream;
  readonly serverId: string;
}

/**
 * Connects and shakes hands.
 * @throws WalbError `unreachable`, `timed-out`; `unsupported` with the peer's text when it refuses the protocol.
 */
export async function connectWire(net: Net, address: Address, options: ConnectOptions): Promise<Opened> {
  const timeoutMs = options.connectTimeoutMs ?? (options.deadlineMs || 10_000);
  const connection = await net.connect(address, { timeoutMs });
  const stream = new WireStream(connection, options);
  try {
    const serverId = await greet(stream, options.clientId, options.protocol);
    return { stream, serverId };
  } catch (error) {
    const failure = asWalbError(error, { peer: stream.peerName, step: "handshake" });
    stream.close(failure);
    throw failure;
  }
}

/** The client's half over an open stream. @returns the server's id. */
export async function greet(stream: WireStream, clientId: string, protocol: string): Promise<string> {
  stream.put((encoder) => encoder.string(clientId).string(protocol).u32(protocolVersion));
  const serverId = await stream.readString("handshake, server id", nameBytesMax);
  const answer = await stream.readString("handshake, answer", 1024 * 1024);
  if (serverId !== "") stream.peerName = `${serverId} (${stream.connection.peer})`;
  if (answer !== wordOk) {
    throw new WalbError("unsupported", {
      what: `${protocol} was refused: ${reasonOf(answer)}`,
      where: { peer: stream.peerName },
      hint: "look at the version and the role of the daemon at that address",
    });
  }
  return serverId;
}

/** The server's first half: all three fields. */
export async function readHello(stream: WireStream): Promise<Hello> {
  const name = (decoder: Decoder): string => decoder.string("name", nameBytesMax);
  const clientId = await stream.read("handshake, client id", name);
  const protocol = await stream.read("handshake, protocol name", name);
  const version = await stream.readU32("handshake, version");
  if (clientId !== "") stream.peerName = `${clientId} (${stream.connection.peer})`;
  return { clientId, protocol, version };
}

/** The server's second half when the protocol is served. */
export function welcome(stream: WireStream, serverId: string): void {
  stream.put((encoder) => encoder.string(serverId).string(wordOk));
  stream.confirmationDue = true;
}

/** The server's second half when it is not. The caller ends the stream. */
export function reject(stream: WireStream, serverId: string, text: string): void {
  stream.put((encoder) => encoder.string(serverId).string(text));
}
