/** @module NBD server: exports volumes over unix and TCP sockets (fixed newstyle handshake). */
import { WalbError } from "../../../errors.ts";
import type { MemoryPool } from "../../../native/memory.ts";
import type { Clock } from "../../../platform/clock.ts";
import type { Address, CertificatePair, Connection, Listener, Net } from "../../../platform/net.ts";
import { NbdConnection } from "./connection.ts";
import type { NbdExports } from "./exports.ts";
import { RoomGates } from "./room.ts";
import { MemoryShares } from "./shares.ts";

export type { NbdExports } from "./exports.ts";

const maxConnectionsDefault = 1024;
/** Clients that may be on their way to TLS; when one more comes, the one that is on it for longest goes. */
const maxUnproven = 128;

/** TLS with certificates of both sides. */
export interface NbdTls {
  /** Ours. */
  readonly certificate: () => CertificatePair;
  /** PEM. One of these has signed the certificate of every client that is let in. */
  readonly authoritiesPem: string;
}

/** What {@link openNbdServer} needs. */
export interface NbdServerOptions {
  readonly net: Net;
  readonly clock: Clock;
  /** Payload of requests under way, shared out by volume; nobody else uses it. */
  readonly memory: MemoryPool;
  readonly exports: NbdExports;
  readonly listeners: readonly Address[];
  /** Required of clients over TCP; without, there is none. */
  readonly tls?: NbdTls;
  /** Connections beyond this are closed at once; default 1024. */
  readonly maxConnections?: number;
  /** Told when a connection was cut off because of what its client did; default: nobody is. */
  readonly onProblem?: (error: WalbError) => void;
}

/** A running NBD server. */
export interface NbdServer {
  /** Bound addresses, in the order of the options. */
  readonly addresses: readonly Address[];
  /** Connections that have the volume open. */
  connectionsOf(name: string): number;
  /** Closes every connection of a volume after its requests in flight; when it resolves none touches the volume. */
  disconnect(name: string): Promise<void>;
  /** Stops listening, lets requests in flight finish, closes all connections. Idempotent. */
  close(): Promise<void>;
}

/** @throws WalbError `port-in-use` when a listener cannot be bound; then none stays open. */
export async function openNbdServer(options: NbdServerOptions): Promise<NbdServer> {
  const server = new Server(options);
  try {
    for (const address of options.listeners) await server.listen(address);
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

class Server implements NbdServer {
  private readonly listeners: Listener[] = [];
  private readonly connections = new Set<NbdConnection>();
  private readonly rooms = new RoomGates();
  private readonly memory: MemoryShares;
  private readonly changed = new Set<() => void>();
  private isClosing = false;

  constructor(private readonly options: NbdServerOptions) {
    this.memory = new MemoryShares(options.memory, () => options.exports.names());
  }

  get addresses(): readonly Address[] {
    return this.listeners.map((listener) => listener.address);
  }

  async listen(address: Address): Promise<void> {
    this.listeners.push(await this.options.net.listen(address, (connection) => this.accept(connection, address)));
  }

  connectionsOf(name: string): number {
    let count = 0;
    for (const connection of this.connections) if (connection.volume?.name === name) count++;
    return count;
  }

  async disconnect(name: string): Promise<void> {
    await this.stopAll((connection) => connection.volume?.name === name);
  }

  async close(): Promise<void> {
    this.isClosing = true;
    for (const listener of this.listeners) await listener.close();
    await this.stopAll(() => true);
  }

  private accept(connection: Connection, at: Address): void {
    const { maxConnections = maxConnectionsDefault, onProblem = () => undefined } = this.options;
    if (this.isClosing || this.connections.size >= maxConnections) {
      connection.close();
      if (!this.isClosing) {
        onProblem(
          new WalbError("busy", {
            what: `there are ${maxConnections} NBD connections already`,
            where: { peer: connection.peer },
            hint: "close some clients",
          }),
        );
      }
      return;
    }
    const { clock, exports } = this.options;
    const tls = at.kind === "tcp" ? this.options.tls : undefined;
    if (tls !== undefined) this.boundUnproven();
    const client: NbdConnection = new NbdConnection(
      { memory: this.memory, clock, exports, rooms: this.rooms, onProblem, tls },
      connection,
      {
        idle: () => this.tell(),
        gone: () => {
          this.connections.delete(client);
          this.tell();
        },
      },
    );
    this.connections.add(client);
    client.start();
  }

  private boundUnproven(): void {
    const unproven = [...this.connections].filter(({ isUnproven }) => isUnproven);
    if (unproven.length < maxUnproven) return;
    unproven[0]?.fail(
      new WalbError("busy", {
        what: `${maxUnproven} NBD clients have connected and not begun TLS: the first of them was cut off`,
        hint: "check what connects to this port",
      }),
    );
  }

  private tell(): void {
    for (const callback of this.changed) callback();
  }

  /** Stops connections and waits until none is chosen any more. */
  private async stopAll(isChosen: (connection: NbdConnection) => boolean): Promise<void> {
    for (const connection of this.connections) if (isChosen(connection)) connection.stop();
    while ([...this.connections].some(isChosen)) {
      await new Promise<void>((resolve) => {
        const callback = (): void => {
          this.changed.delete(callback);
          resolve();
        };
        this.changed.add(callback);
      });
    }
  }
}
