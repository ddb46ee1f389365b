/**
 * @module Which logs are in use on this host, by uuid. A copied log store would take two volumes for one, whose consumers
 * could not tell them apart; the locks of the stores do not tell, since the copies are files of their own.
 */
import { asWalbError, WalbError } from "../../errors.ts";
import { abstractAddress, type Listener, type Net } from "../../platform/net.ts";

interface Claim {
  readonly volume: string;
  readonly uuid: string;
  readonly listener: Promise<Listener>;
}

/**
 * The logs that the volumes of a daemon have claimed. A claim is a unix socket of an abstract name: the kernel gives it to
 * one process of the host (of a network namespace), and takes it back with the process, however that ends.
 */
export class LogClaims {
  /** By uuid. */
  readonly #claims = new Map<string, Claim>();

  constructor(readonly net: Net) {}

  /** @throws WalbError `busy` when a volume of this daemon, or of another one, has a log of this uuid open. */
  async take(volume: string, uuid: string): Promise<void> {
    const holder = this.#claims.get(uuid)?.volume;
    if (holder !== undefined) throw inUse(volume, `the volume ${holder}`);
    const listener = this.net.listen(abstractAddress(`walb-log-${uuid}`), (connection) => connection.close());
    this.#claims.set(uuid, { volume, uuid, listener });
    try {
      await listener;
    } catch (error) {
      this.#claims.delete(uuid);
      if (asWalbError(error).code !== "port-in-use") throw error;
      throw inUse(volume, "a volume of another device daemon on this host");
    }
  }

  /** Gives up all that a volume has claimed, but for the log it has now, if any. */
  async release(volume: string, keptUuid?: string): Promise<void> {
    for (const claim of [...this.#claims.values()]) {
      if (claim.volume !== volume || claim.uuid === keptUuid) continue;
      const listener = await claim.listener.catch(() => undefined);
      await listener?.close();
      if (this.#claims.get(claim.uuid) === claim) this.#claims.delete(claim.uuid);
    }
  }
}

function inUse(volume: string, other: string): WalbError {
  return new WalbError("busy", {
    what: `${other} has the same log and is open`,
    where: { volume, field: "uuid" },
    hint: `if this is the copy: bring it onto the copy of the data with walb log-device redo LOG DATA, then create the volume on an empty log store, without --reuse-log; if it is the original: delete the other volume, then: walb device start ${volume}`,
  });
}
