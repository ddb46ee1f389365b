/**
 * @module A Net whose TCP connections are TLS with mutual proof of the cluster key. Unix sockets are left as they are: file
 * permissions protect them.
 *
 * Whoever connects to us is `trusted` after the proof. HTTP without a proof is passed on as `unproven`, for tokens. All else
 * is refused, with a reason in its own language where it has one.
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";
import { type Address, addressText, type CertificatePair, type Connection, type Net } from "../platform/net.ts";
import { sniffProtocol } from "../wire/server.ts";
import { type ClusterKeys, keysText } from "./key.ts";
import {
  clientMessage,
  clientMessageBytes,
  exporterBytes,
  exporterLabel,
  judgeClient,
  judgeServer,
  messageBytesMax,
  proofMagic,
  refusalMessage,
  serverMessageBytes,
} from "./proof.ts";
import { plainRefusal } from "./refusal.ts";

/** From the first byte to the proof. A peer that has not got there is cut off. */
const introductionMs = 10_000;
/** Peers that may be on their way to the proof; when one more comes, the one that is on it for longest goes. */
const introductionsMax = 128;
/** A peer that is refused may take this long to read why. */
const lingerMs = 1_000;

/** What securing a Net takes. */
export interface SecureNetOptions {
  readonly keys: ClusterKeys;
  readonly clock: Clock;
  /** Ours, for refusals. */
  readonly nodeId: string;
  /** Shown by the server's side. */
  readonly certificate: () => CertificatePair;
  /** Told of each peer that was refused. Must not throw. */
  readonly onRefused: (error: WalbError) => void;
}

/** Secures the TCP connections of a Net. */
export function secureNet(net: Net, options: SecureNetOptions): Net {
  return {
    async listen(address, accept) {
      if (address.kind === "unix") return net.listen(address, accept);
      const door = new Door(options, accept);
      const listener = await net.listen(address, (connection) => door.take(connection));
      return {
        address: listener.address,
        async close() {
          await listener.close();
          door.close();
        },
      };
    },
    connect: (address, { timeoutMs }) =>
      address.kind === "unix" ? net.connect(address, { timeoutMs }) : connectSecurely(net, address, options, timeoutMs),
  };
}

/**
 * Connects, and proves the key both ways.
 * @throws WalbError `wrong-key` naming the keys of both sides, and what connecting throws.
 */
export async function connectSecurely(
  net: Net,
  address: Address,
  options: Pick<SecureNetOptions, "keys" | "clock">,
  timeoutMs: number,
): Promise<Connection> {
  const deadlineMs = options.clock.monotonicMs() + timeoutMs;
  const connection = await net.connect(address, { timeoutMs });
  try {
    await introduce(connection, address, options, Math.max(1, deadlineMs - options.clock.monotonicMs()));
    return connection;
  } catch (error) {
    connection.close();
    throw asWalbError(error, { peer: addressText(address) });
  }
}

/** The client's side: TLS, our proof, the server's. */
async function introduce(
  connection: Connection,
  address: Address,
  { keys, clock }: Pick<SecureNetOptions, "keys" | "clock">,
  timeoutMs: number,
): Promise<void> {
  const deadlineMs = clock.monotonicMs() + timeoutMs;
  const name = addressText(address);
  const fingerprints = keys.all.map(({ fingerprint }) => fingerprint);
  let session: Awaited<ReturnType<Connection["startTls"]>>;
  try {
    session = await connection.startTls({ isServer: false, timeoutMs });
  } catch (error) {
    if (!(error instanceof WalbError) || error.code !== "protocol") throw error;
    throw new WalbError("wrong-key", {
      what: `${name} does not speak TLS: the daemon there has no cluster key, this side has ${keysText(fingerprints)}`,
      hint: `start the daemon there with --cluster-key and a copy of ${keys.source}; or leave the key out here`,
      cause: error.what,
    });
  }
  const exporter = session.exportKeyingMaterial(exporterLabel, exporterBytes);
  connection.write(clientMessage(keys, exporter));
  const answer = await readMessage(connection, clock, Math.max(1, deadlineMs - clock.monotonicMs()));
  const verdict = judgeServer(keys, exporter, answer);
  if (verdict.kind === "accepted") return;
  if (verdict.kind === "refused") {
    throw new WalbError("wrong-key", {
      what: `${name} has ${keysText(verdict.fingerprints)}, this side has ${keysText(fingerprints)}: they have none in common`,
      hint: `copy the key file from there to ${keys.source}, or the other way around; see a file's key with: walb key show FILE`,
      ...(verdict.text === "" ? {} : { cause: verdict.text }),
    });
  }
  throw new WalbError("wrong-key", {
    what: `${name} could not prove that it has ${keysText(fingerprints)}`,
    hint: "somebody may be listening in between: check the address, and who answers there",
  });
}

/** Reads the server's message; what follows it is put back. */
function readMessage(connection: Connection, clock: Clock, timeoutMs: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let seen: Uint8Array = new Uint8Array(0);
    const timer = clock.timer(timeoutMs, () => fail("timed-out", `no proof of the key came within ${timeoutMs} ms`));
    const fail = (code: "timed-out" | "unreachable", what: string): void => {
      timer.cancel();
      reject(new WalbError(code, { what, hint: "is it a walb daemon that answers at this address?" }));
    };
    const lost = (): void => fail("unreachable", "the peer closed the connection instead of proving the cluster key");
    connection.setReader({
      data(chunk) {
        seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
        try {
          const size = serverMessageBytes(seen);
          if (size === undefined || seen.length < size) return;
          timer.cancel();
          connection.pause();
          connection.putBack(seen.subarray(size));
          resolve(seen.subarray(0, size));
        } catch (error) {
          timer.cancel();
          connection.pause();
          reject(asWalbError(error));
        }
      },
      end: lost,
      closed: lost,
    });
  });
}

/** The server's side: who is at the door of a listener. */
class Door {
  readonly #options: SecureNetOptions;
  readonly #accept: (connection: Connection) => void;
  /** In the order in which they came. */
  readonly #waiting = new Set<Visit>();

  constructor(options: SecureNetOptions, accept: (connection: Connection) => void) {
    this.#options = options;
    this.#accept = accept;
  }

  take(connection: Connection): void {
    if (this.#waiting.size >= introductionsMax) {
      const [oldest] = this.#waiting;
      oldest?.giveUp("too many others want to introduce themselves");
    }
    const visit = new Visit(connection, this.#options, this.#accept, () => this.#waiting.delete(visit));
    this.#waiting.add(visit);
    visit.start();
  }

  close(): void {
    for (const visit of [...this.#waiting]) visit.giveUp(undefined);
  }
}

/** One connection on its way to the proof. */
class Visit {
  readonly #connection: Connection;
  readonly #options: SecureNetOptions;
  readonly #accept: (connection: Connection) => void;
  readonly #whenOver: () => void;
  readonly #deadline: { cancel(): void };
  #seen: Uint8Array = new Uint8Array(0);
  #isOver = false;
  #step = "hello";

  constructor(
    connection: Connection,
    options: SecureNetOptions,
    accept: (connection: Connection) => void,
    whenOver: () => void,
  ) {
    this.#connection = connection;
    this.#options = options;
    this.#accept = accept;
    this.#whenOver = whenOver;
    this.#deadline = options.clock.timer(introductionMs, () =>
      this.giveUp(`it has not introduced itself within ${introductionMs / 1000} s`),
    );
  }

  start(): void {
    this.#read((bytes) => this.#greeted(bytes));
  }

  /** Cuts the connection. @param why told to the log; undefined when the daemon just ends. */
  giveUp(why: string | undefined): void {
    if (this.#isOver) return;
    this.#over();
    this.#connection.close();
    if (why !== undefined) this.#tell(new WalbError("timed-out", { what: `a peer was cut off: ${why}` }));
  }

  /** Collects bytes until `judge` has had enough of them. */
  #read(judge: (bytes: Uint8Array) => boolean): void {
    this.#seen = new Uint8Array(0);
    this.#connection.setReader({
      data: (chunk) => {
        if (this.#isOver) return;
        this.#seen = this.#seen.length === 0 ? chunk : Buffer.concat([this.#seen, chunk]);
        if (!judge(this.#seen) && this.#seen.length > messageBytesMax) this.giveUp("it sends too much");
      },
      end: () => this.giveUp(undefined),
      closed: () => this.giveUp(undefined),
    });
  }

  /** The first bytes: TLS, or something plain that gets a refusal it can read. */
  #greeted(bytes: Uint8Array): boolean {
    const kind = sniffProtocol(bytes);
    if (kind === undefined) return false;
    if (kind === "tls") {
      this.#connection.pause();
      this.#connection.putBack(bytes);
      void this.#startTls();
      return true;
    }
    const { keys, nodeId } = this.#options;
    const fingerprints = keys.all.map(({ fingerprint }) => fingerprint);
    this.#refuse(
      plainRefusal(kind, nodeId, keysText(fingerprints)),
      new WalbError("wrong-key", {
        what: `a peer came without a cluster key; ${nodeId} has ${keysText(fingerprints)}`,
        hint: "give it the same key file with --cluster-key; peers that have no such flag need --insecure here instead",
      }),
    );
    return true;
  }

  async #startTls(): Promise<void> {
    this.#step = "TLS handshake";
    const { certificate } = this.#options;
    try {
      const session = await this.#connection.startTls({
        isServer: true,
        certificate: certificate(),
        timeoutMs: introductionMs,
      });
      if (this.#isOver) return;
      const exporter = session.exportKeyingMaterial(exporterLabel, exporterBytes);
      this.#step = "proof";
      this.#read((bytes) => this.#spoke(bytes, exporter));
    } catch (error) {
      if (this.#isOver) return;
      this.#over();
      this.#connection.close();
      // Port scanners and clients that dislike our certificate: worth a line, no more.
      this.#tell(asWalbError(error, { peer: this.#connection.peer, step: this.#step }));
    }
  }

  /** The first bytes inside TLS: a proof, or HTTP, which is asked for a token. */
  #spoke(bytes: Uint8Array, exporter: Uint8Array): boolean {
    const start = Buffer.from(bytes.subarray(0, proofMagic.length)).toString("latin1");
    if (proofMagic.startsWith(start)) return this.#proved(bytes, exporter);
    const kind = sniffProtocol(bytes);
    if (kind === undefined) return false;
    if (kind === "http") this.#welcome(bytes, "unproven");
    else this.#refuse(new Uint8Array(0), new WalbError("wrong-key", { what: "a peer has not proved the cluster key" }));
    return true;
  }

  #proved(bytes: Uint8Array, exporter: Uint8Array): boolean {
    const { keys, nodeId } = this.#options;
    let size: number | undefined;
    try {
      size = clientMessageBytes(bytes);
    } catch (error) {
      this.#refuse(new Uint8Array(0), asWalbError(error));
      return true;
    }
    if (size === undefined || bytes.length < size) return false;
    const verdict = judgeClient(keys, exporter, bytes.subarray(0, size));
    if (verdict.kind === "accepted") {
      this.#connection.write(verdict.answer);
      this.#welcome(bytes.subarray(size), "trusted");
      return true;
    }
    const own = keysText(keys.all.map(({ fingerprint }) => fingerprint));
    const error = verdict.isForged
      ? new WalbError("wrong-key", {
          what: `a peer sent a wrong proof of ${keysText(verdict.fingerprints)}`,
          hint: "somebody may be listening in between: check who connects from there",
        })
      : new WalbError("wrong-key", {
          what: `a peer has ${keysText(verdict.fingerprints)}, ${nodeId} has ${own}: they have none in common`,
          hint: `give both the same key file; see a file's key with: walb key show FILE`,
        });
    this.#refuse(refusalMessage(keys, verdict.isForged ? "the proof is wrong" : ""), error);
    return true;
  }

  #welcome(rest: Uint8Array, trust: Connection["peerTrust"]): void {
    this.#connection.pause();
    this.#connection.putBack(rest);
    this.#connection.peerTrust = trust;
    this.#over();
    this.#accept(this.#connection);
  }

  /** Says why, reads until the peer has gone so that it gets to see it, and closes. */
  #refuse(answer: Uint8Array, error: WalbError): void {
    this.#tell(error);
    this.#deadline.cancel();
    this.#connection.write(answer);
    this.#connection.end();
    const linger = this.#options.clock.timer(lingerMs, () => this.giveUp(undefined));
    this.#connection.setReader({
      data: () => undefined,
      end: () => this.giveUp(undefined),
      closed: () => {
        linger.cancel();
        this.giveUp(undefined);
      },
    });
  }

  #over(): void {
    this.#isOver = true;
    this.#deadline.cancel();
    this.#whenOver();
  }

  #tell(error: WalbError): void {
    this.#options.onRefused(error.at({ peer: this.#connection.peer }));
  }
}
