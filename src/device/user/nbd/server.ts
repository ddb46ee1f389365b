/** @module NBD server: exports volumes over unix and TCP sockets (fixed newstyle handshake). */
import type { MemoryPool } from "../../../native/memory.ts";
import type { Address, Net } from "../../../platform/net.ts";
import type { BlockVolume } from "../block.ts";

/** The volumes a server offers; asked at each negotiation, so volumes may come and go. */
export interface NbdExports {
  /** Names in the order LIST shows them. */
  names(): readonly string[];
  /** The volume, or undefined when there is none of the name or it is not running. */
  find(name: string): BlockVolume | undefined;
}

/** What {@link openNbdServer} needs. */
export interface NbdServerOptions {
  readonly net: Net;
  readonly memory: MemoryPool;
  readonly exports: NbdExports;
  readonly listeners: readonly Address[];
}

/** A running NBD server. */
export interface NbdServer {
  /** Bound addresses, in the order of the options. */
  readonly addresses: readonly Address[];
  /** Connections that have the volume open. */
  connectionsOf(name: string): number;
  /** Closes every connection of a volume after its requests in flight; when it resolves none touches the volume. */
  disconnect(name: string): Promise<void>;
  /** Stops listening, lets requests in flight finish, closes all connections. */
  close(): Promise<void>;
}

/** @throws WalbError `port-in-use` when a listener cannot be bound; then none stays open. */
export declare function openNbdServer(options: NbdServerOptions): Promise<NbdServer>;
