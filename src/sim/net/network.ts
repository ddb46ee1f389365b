/** @module The network between simulated hosts: names, listeners, connections, and what fate does to them. */
import { WalbError } from "../../errors.ts";
import { type Address, addressText, type Connection, type Listener, type Net } from "../../platform/net.ts";
import type { LinkQuality, SimNetwork, SimRandom } from "../api.ts";
import type { Engine } from "../engine.ts";
import type { SimProcess } from "../process.ts";
import { SimConnection } from "./connection.ts";
import { isSevered, Links } from "./links.ts";

const localNames = new Set(["localhost", "127.0.0.1", "::1"]);
const anyNames = new Set(["", "0.0.0.0", "::"]);
const firstEphemeralPort = 32_768;

interface SimListener {
  readonly process: SimProcess;
  readonly address: Address;
  readonly accept: (connection: Connection) => void;
}

export class Network implements SimNetwork {
  readonly links = new Links();
  private readonly hostByName = new Map<string, string>();
  private readonly listeners = new Map<string, SimListener>();
  private readonly connections = new Set<SimConnection>();
  private readonly chance: SimRandom;
  private nextPort = firstEphemeralPort;
  private connectionNumber = 0;

  constructor(private readonly engine: Engine) {
    this.chance = engine.random.fork("network");
  }

  addHost(host: string, addresses: readonly string[]): void {
    for (const name of [host, ...addresses]) this.hostByName.set(name, host);
  }

  /** The Net of one process. */
  netOf(process: SimProcess): Net {
    return {
      listen: (address, accept) => this.listen(process, address, accept),
      connect: (address, options) => this.connect(process, address, options.timeoutMs),
    };
  }

  /** The process is gone: its listeners and connections too. */
  processDied(process: SimProcess, isSilent: boolean): void {
    for (const [key, listener] of this.listeners) if (listener.process === process) this.listeners.delete(key);
    for (const connection of this.connections) if (connection.process === process) connection.die(isSilent);
    if (isSilent) this.links.setDark(process.hostName, true);
  }

  hostRestarted(host: string): void {
    this.links.setDark(host, false);
  }

  setQuality(a: string, b: string, quality: Partial<LinkQuality>): void {
    this.bothWays(a, b, (from, to) => {
      this.links.change(from, to, (link) => {
        link.quality = { ...link.quality, ...quality };
      });
    });
  }

  cut(a: string, b: string): number {
    const ends = this.endsBetween(a, b);
    for (const end of ends) end.resetNow("connection reset by peer (ECONNRESET)");
    return ends.length / 2;
  }

  cutAfterBytes(from: string, to: string, bytes: number): void {
    this.links.change(from, to, (link) => {
      link.cutAtBytes = link.deliveredBytes + bytes;
    });
  }

  partition(a: string, b: string, options: { readonly oneWay?: boolean } = {}): void {
    const block = (from: string, to: string) => {
      this.links.change(from, to, (link) => {
        link.isBlocked = true;
      });
    };
    if (options.oneWay === true) block(a, b);
    else this.bothWays(a, b, block);
  }

  heal(a: string, b: string): void {
    this.bothWays(a, b, (from, to) => this.links.open(from, to));
  }

  refuse(from: string, to: string): void {
    this.links.change(from, to, (link) => {
      link.isRefused = true;
    });
  }

  accept(from: string, to: string): void {
    this.links.change(from, to, (link) => {
      link.isRefused = false;
    });
  }

  corruptByte(from: string, to: string, skipBytes: number, options: { readonly pieceBytesMin?: number } = {}): void {
    this.links.change(from, to, (link) => {
      link.corruptAtBytes = link.deliveredBytes + skipBytes;
      link.corruptPieceBytesMin = options.pieceBytesMin;
    });
  }

  connectionCount(a: string, b: string): number {
    return Math.ceil(this.endsBetween(a, b).length / 2);
  }

  deliveredBytes(from: string, to: string): number {
    return this.links.between(from, to).deliveredBytes;
  }

  private bothWays(a: string, b: string, change: (from: string, to: string) => void): void {
    change(a, b);
    if (a !== b) change(b, a);
  }

  private endsBetween(a: string, b: string): SimConnection[] {
    const isPair = (from: string, to: string) => (a === "*" || a === from) && (b === "*" || b === to);
    return [...this.connections].filter((end) => {
      const here = end.process.hostName;
      const there = end.peerProcess.hostName;
      return isPair(here, there) || isPair(there, here);
    });
  }

  private listen(process: SimProcess, address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    return process.later(0.05, `${process.hostName} listen ${addressText(address)}`, () => {
      const bound = address.kind === "tcp" && address.port === 0 ? { ...address, port: this.nextPort++ } : address;
      const key = this.listenKey(process.hostName, bound);
      if (this.listeners.has(key)) {
        throw new WalbError("port-in-use", {
          what: `the address ${addressText(bound)} is in use`,
          where: { host: process.hostName },
          hint: "choose another with --port, or stop the process that has it",
        });
      }
      const listener: SimListener = { process, address: bound, accept };
      this.listeners.set(key, listener);
      return {
        address: bound,
        close: () =>
          process.later(0.05, `${process.hostName} unlisten ${addressText(bound)}`, () => {
            if (this.listeners.get(key) === listener) this.listeners.delete(key);
          }),
      };
    });
  }

  private connect(process: SimProcess, address: Address, timeoutMs: number): Promise<Connection> {
    if (!process.isAlive) return process.never();
    const from = process.hostName;
    const text = addressText(address);
    return new Promise<Connection>((resolve, reject) => {
      let isDone = false;
      // Accepted there, not known here yet: given up with the attempt.
      let half: SimConnection | undefined;
      const fail = (why: string) => {
        if (isDone) return;
        isDone = true;
        this.engine.cancel(timeout);
        half?.close();
        reject(unreachable(from, address, why));
      };
      const label = `${from} connect ${text}`;
      const timeout = this.engine.schedule(timeoutMs, `${label} timeout`, process, () =>
        fail(`no answer within ${timeoutMs} ms`),
      );
      const to = this.resolve(from, address);
      if (to === undefined) {
        this.engine.schedule(0.1, `${label} unknown`, process, () => fail("the host name is not known"));
        return;
      }
      const there = this.links.between(from, to);
      const back = this.links.between(to, from);
      const hop = (what: string, link: typeof there, run: () => void) => {
        const delayMs = process.delay(link.quality.latency);
        // A SYN that is dropped is sent again after a second.
        this.engine.schedule(delayMs, `${label} ${what}`, process, () => {
          if (isDone) return;
          if (isSevered(link)) this.engine.schedule(1000, `${label} again`, process, () => hop(what, link, run));
          else run();
        });
      };
      hop("SYN", there, () => {
        const listener = there.isRefused ? undefined : this.findListener(from, to, address);
        if (listener === undefined) {
          hop("refused", back, () => fail("connection refused (ECONNREFUSED)"));
          return;
        }
        const client = this.makePair(process, listener, address);
        half = client;
        hop("SYN ACK", back, () => {
          isDone = true;
          this.engine.cancel(timeout);
          resolve(client);
        });
      });
    });
  }

  private makePair(process: SimProcess, listener: SimListener, address: Address): SimConnection {
    const from = process.hostName;
    const to = listener.process.hostName;
    const number = ++this.connectionNumber;
    const peer = address.kind === "unix" ? addressText(address) : `${from}:${this.nextPort++}`;
    const forget = (connection: SimConnection) => this.connections.delete(connection);
    const client = new SimConnection(process, addressText(address), `#${number} ${from}>${to}`, forget);
    const server = new SimConnection(listener.process, peer, `#${number} ${to}>${from}`, forget);
    const links = { there: this.links.between(from, to), back: this.links.between(to, from) };
    SimConnection.join(client, server, links, this.chance.fork(`${number}`));
    this.connections.add(client);
    this.connections.add(server);
    listener.accept(server);
    return client;
  }

  private resolve(from: string, address: Address): string | undefined {
    if (address.kind === "unix" || localNames.has(address.host)) return from;
    return this.hostByName.get(address.host);
  }

  private listenKey(host: string, address: Address): string {
    return address.kind === "unix" ? `${host}\nunix:${address.path}` : `${host}\n${address.port}`;
  }

  private findListener(from: string, to: string, address: Address): SimListener | undefined {
    const listener = this.listeners.get(this.listenKey(to, address));
    if (listener === undefined || listener.address.kind === "unix" || anyNames.has(listener.address.host))
      return listener;
    const isLocalOnly = localNames.has(listener.address.host);
    return isLocalOnly && from !== to ? undefined : listener;
  }
}

function unreachable(host: string, address: Address, why: string): WalbError {
  return new WalbError("unreachable", {
    what: `cannot connect to ${addressText(address)}: ${why}`,
    where: { host, peer: addressText(address) },
    hint: "check that the daemon runs there and that the address and port are right",
  });
}
