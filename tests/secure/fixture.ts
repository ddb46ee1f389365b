/** @module Keys, secured networks on loopback, and peers that do not keep to the protocol. */
import type { WalbError } from "../../src/errors.ts";
import type { Clock } from "../../src/platform/clock.ts";
import type { Address, Connection, Net, TlsSession } from "../../src/platform/net.ts";
import { createClock } from "../../src/platform/real/clock.ts";
import { createNet } from "../../src/platform/real/net.ts";
import { createRandom } from "../../src/platform/real/random.ts";
import { ServerCertificates } from "../../src/secure/authority.ts";
import { ClusterKey, type ClusterKeys } from "../../src/secure/key.ts";
import { secureNet } from "../../src/secure/net.ts";

export const context = { nowMs: () => Date.now(), randomBytes: createRandom().bytes };

/** The same key for the same number. */
export function testKey(number: number): ClusterKey {
  return new ClusterKey(new Uint8Array(32).fill(number));
}

export function testKeys(...numbers: readonly [number, ...number[]]): ClusterKeys {
  const [first, ...others] = numbers.map(testKey);
  return { all: [first!, ...others], source: `/etc/walb/key${numbers.join("")}` };
}

/** A net of a host with keys; `refused` gets what it refuses. */
export function netWith(keys: ClusterKeys, refused: WalbError[] = [], clock: Clock = createClock()): Net {
  const certificates = new ServerCertificates(keys, ["localhost", "127.0.0.1"], context);
  return secureNet(createNet(), {
    keys,
    clock,
    nodeId: "a0",
    certificate: () => certificates.current(),
    onRefused: (error) => refused.push(error),
  });
}

export const anyPort: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };

/** What a connection brings, until it ends. */
export class Inbox {
  bytes: Uint8Array = new Uint8Array(0);
  hasEnded = false;
  isClosed = false;
  readonly #changed = new Set<() => void>();

  constructor(readonly connection: Connection) {
    const tell = (): void => {
      for (const look of this.#changed) look();
    };
    connection.setReader({
      data: (chunk) => {
        this.bytes = Buffer.concat([this.bytes, chunk]);
        tell();
      },
      end: () => {
        this.hasEnded = true;
        tell();
      },
      closed: () => {
        this.isClosed = true;
        tell();
      },
    });
    connection.resume();
  }

  get text(): string {
    return Buffer.from(this.bytes).toString("latin1");
  }

  /** Waits until what is here is enough. */
  until(isEnough: (inbox: this) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!isEnough(this)) return;
        this.#changed.delete(look);
        resolve();
      };
      this.#changed.add(look);
      look();
    });
  }
}

/** Listens; `accepted` resolves with the first connection that gets through. */
export async function listening(
  net: Net,
): Promise<{ address: Address; accepted: Promise<Connection>; count(): number; close(): Promise<void> }> {
  const first = Promise.withResolvers<Connection>();
  let count = 0;
  const listener = await net.listen(anyPort, (connection) => {
    count += 1;
    first.resolve(connection);
  });
  return { address: listener.address, accepted: first.promise, count: () => count, close: () => listener.close() };
}

/** Connects and speaks TLS, but proves nothing yet. */
export async function tlsOnly(address: Address): Promise<{ connection: Connection; session: TlsSession }> {
  const connection = await createNet().connect(address, { timeoutMs: 5000 });
  const session = await connection.startTls({ isServer: false, timeoutMs: 5000 });
  return { connection, session };
}
