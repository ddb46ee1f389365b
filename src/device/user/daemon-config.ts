/** @module What the device daemon keeps of its volumes: one small durable JSON file each, readable by people. */
import { z } from "zod";
import { asWalbError, WalbError } from "../../errors.ts";
import type { Disk } from "../../platform/disk.ts";
import { maxVolumes, overflowPolicySchema, volumeNameSchema, volumeTuningSchema } from "./control/schema.ts";

const maxConfigBytes = 64 * 1024;
const suffix = ".json";

const configSchema = z.strictObject({
  /** Version of this file. */
  walbVolume: z.literal(1),
  name: volumeNameSchema,
  /** `creating` and `deleting` are finished or undone at the next start. */
  state: z.enum(["creating", "ready", "deleting"]),
  /** Size when last known; the superblock of the log decides. */
  sizeBytes: z.int().nonnegative(),
  /** Absolute, or relative to the daemon's directory so that it can be moved. */
  dataPath: z.string().min(1),
  logPath: z.string().min(1),
  overflow: overflowPolicySchema,
  tuning: volumeTuningSchema.optional(),
  /** The daemon made the store in its own directory, and removes it with the volume. */
  ownsData: z.boolean(),
  ownsLog: z.boolean(),
});
/** The configuration of one volume. */
export type VolumeConfig = z.infer<typeof configSchema>;

/** A configuration file that could not be understood. */
export interface BadConfig {
  readonly name: string;
  readonly error: WalbError;
}

/** The volumes directory of a daemon. */
export class VolumeConfigs {
  private readonly directory: string;

  constructor(
    private readonly disk: Disk,
    private readonly dataDir: string,
  ) {
    this.directory = `${dataDir}/volumes`;
  }

  /** Every configuration there is; a bad one does not hide the others. */
  async load(): Promise<{ configs: VolumeConfig[]; bad: BadConfig[] }> {
    await this.disk.makeDirectory(this.directory);
    const files = (await this.disk.list(this.directory)).filter((file) => file.endsWith(suffix));
    if (files.length > maxVolumes) {
      throw new WalbError("bad-format", {
        what: `there are ${files.length} volumes, more than ${maxVolumes}`,
        where: { file: this.directory },
        hint: "run a second device daemon with another --data directory",
      });
    }
    const configs: VolumeConfig[] = [];
    const bad: BadConfig[] = [];
    for (const file of files) {
      const name = file.slice(0, -suffix.length);
      try {
        configs.push(await this.read(name));
      } catch (error) {
        // A name that is none cannot be asked for: its file is reported under the closest one that can.
        bad.push({ name, error: asWalbError(error, { volume: name, file: this.pathOf(name) }) });
      }
    }
    return { configs, bad };
  }

  async save(config: VolumeConfig): Promise<void> {
    const text = `${JSON.stringify(configSchema.parse(config), undefined, 2)}\n`;
    await this.disk.writeSmall(this.pathOf(config.name), new TextEncoder().encode(text));
  }

  async remove(name: string): Promise<void> {
    await this.disk.remove(this.pathOf(name));
    await this.disk.syncDirectory(this.directory);
  }

  /** A path of a configuration as the system knows it. */
  resolve(path: string): string {
    return path.startsWith("/") ? path : `${this.dataDir}/${path}`;
  }

  pathOf(name: string): string {
    return `${this.directory}/${name}${suffix}`;
  }

  /** @throws WalbError `bad-format`, `not-found`. */
  async read(name: string): Promise<VolumeConfig> {
    const text = new TextDecoder().decode(await this.disk.readSmall(this.pathOf(name), maxConfigBytes));
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw this.bad(name, "it is not JSON", cause);
    }
    const parsed = configSchema.safeParse(value);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw this.bad(name, `${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`, undefined);
    }
    if (parsed.data.name !== name) throw this.bad(name, `it names the volume ${parsed.data.name}`, undefined);
    return parsed.data;
  }

  private bad(name: string, why: string, cause: unknown): WalbError {
    return new WalbError("bad-format", {
      what: `the configuration of the volume is not valid: ${why}`,
      where: { volume: name, file: this.pathOf(name) },
      hint: "correct the file",
      ...(cause === undefined ? {} : { cause }),
    });
  }
}
