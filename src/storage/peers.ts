/**
 * @module Where a storage's archive and proxies are: as the options say, unless it was told otherwise while it ran; that is
 * kept in a small file of the data directory, so that promoting an archive or replacing a proxy needs no restart.
 */
import { z } from "zod";
import { addressTextSchema, parseWith } from "../control/schemas.ts";
import { WalbError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { type Address, addressOf, addressText } from "../platform/net.ts";

/** Name of the file in the data directory. */
export const peersFileName = "peers.json";
const bytesMax = 65_536;

const peersSchema = z.strictObject({
  archive: addressTextSchema.optional(),
  proxies: z.array(addressTextSchema).min(1).max(64).optional(),
});
type Told = z.output<typeof peersSchema>;

interface Given {
  readonly archive: Address;
  readonly proxies: readonly Address[];
}

/** The peers now. */
export class StoragePeers {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #given: Given;
  #told: Told;

  private constructor(disk: Disk, path: string, given: Given, told: Told) {
    this.#disk = disk;
    this.#path = path;
    this.#given = given;
    this.#told = told;
  }

  /** Reads what was told before. @throws WalbError `damaged`: guessing would send backups to a wrong place. */
  static async open(disk: Disk, dataDir: string, given: Given): Promise<StoragePeers> {
    const path = `${dataDir}/${peersFileName}`;
    if ((await disk.info(path)) === undefined) return new StoragePeers(disk, path, given, {});
    try {
      const text = new TextDecoder().decode(await disk.readSmall(path, bytesMax));
      return new StoragePeers(disk, path, given, parseWith(peersSchema, JSON.parse(text), peersFileName));
    } catch (cause) {
      throw new WalbError("damaged", {
        what: "the file that says where archive and proxies are cannot be read",
        where: { file: path },
        hint: "remove it to go on with --archive and --proxy, if they are right",
        cause,
      });
    }
  }

  get archive(): Address {
    return this.#told.archive === undefined ? this.#given.archive : addressOf(this.#told.archive);
  }

  get proxies(): readonly Address[] {
    return this.#told.proxies?.map(addressOf) ?? this.#given.proxies;
  }

  /** Which of them are not those of the options. */
  get told(): { readonly archive: boolean; readonly proxies: boolean } {
    return { archive: this.#told.archive !== undefined, proxies: this.#told.proxies !== undefined };
  }

  /** Durable when it returns. Missing: as the options say. */
  async setArchive(address: string | undefined): Promise<void> {
    const { archive: _, ...rest } = this.#told;
    const isGiven = address === undefined || address === addressText(this.#given.archive);
    await this.#write(isGiven ? rest : { ...rest, archive: address });
  }

  /** Durable when it returns. Missing: as the options say. */
  async setProxies(addresses: readonly string[] | undefined): Promise<void> {
    const { proxies: _, ...rest } = this.#told;
    const isGiven = addresses === undefined || addresses.join() === this.#given.proxies.map(addressText).join();
    await this.#write(isGiven ? rest : { ...rest, proxies: [...addresses] });
  }

  async #write(told: Told): Promise<void> {
    await this.#disk.writeSmall(this.#path, new TextEncoder().encode(`${JSON.stringify(told)}\n`));
    this.#told = told;
  }
}
