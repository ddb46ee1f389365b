/** @module The engines of a device daemon: as many as there is memory for, each with its tuning and the claim to its log. */
import type { WalbError } from "../../errors.ts";
import type { RedoResult } from "../../log/redo.ts";
import type { Platform } from "../../platform/platform.ts";
import type { EngineTuning } from "./daemon.ts";
import type { LogClaims } from "./daemon-claims.ts";
import type { VolumeConfig } from "./daemon-config.ts";
import { pendingBudgetOf, tooManyVolumes, volumeLimits } from "./daemon-memory.ts";
import { lossOf } from "./daemon-report.ts";
import { boundTuning, tuningOptions } from "./daemon-tuning.ts";
import { openEngine, type WriteAheadEngine } from "./engine.ts";

/** What {@link Engines} needs of the daemon. */
export interface EnginesHost {
  problem(error: WalbError): void;
  /** Memory for all requests of clients and pending writes. */
  readonly clientMemoryBytes: number;
}

export class Engines {
  /** Those that hold memory, or are taking it. */
  private count = 0;

  constructor(
    private readonly platform: Platform,
    private readonly claims: LogClaims,
    private readonly tuning: EngineTuning,
    private readonly resolve: (path: string) => string,
    private readonly host: EnginesHost,
  ) {}

  /** How many volumes are opened at a time when the daemon starts. */
  get openAtOnce(): number {
    return volumeLimits(this.platform.memory.budgetBytes).openAtOnce;
  }

  /** What a volume may have pending at most. */
  get pendingBudgetBytes(): number {
    return this.tuning.pendingBudgetBytes ?? pendingBudgetOf(this.host.clientMemoryBytes);
  }

  /** Opens the stores of a volume, redoes its log. @throws WalbError also when there is memory for no more volumes. */
  async open(config: VolumeConfig): Promise<WriteAheadEngine> {
    const { name, overflow } = config;
    const { volumesMax } = volumeLimits(this.platform.memory.budgetBytes);
    if (this.count >= volumesMax) throw tooManyVolumes(name, volumesMax);
    this.count += 1;
    const logPath = this.resolve(config.logPath);
    try {
      return await openEngine(this.platform, {
        pendingBudgetBytes: this.pendingBudgetBytes,
        ...this.tuning,
        ...tuningOptions(boundTuning(config.tuning ?? {}, this.pendingBudgetBytes)),
        name,
        overflow,
        dataPath: this.resolve(config.dataPath),
        logPath,
        claim: (uuid: string) => this.claims.take(name, uuid),
        onRedone: (result: RedoResult) => {
          const loss = lossOf(result, name, logPath);
          if (loss !== undefined) this.host.problem(loss);
        },
      });
    } catch (error) {
      await this.closed(name);
      throw error;
    }
  }

  /** The engine of a volume is closed, or was never there: another one may have its memory, its log may be claimed. */
  async closed(name: string): Promise<void> {
    this.count -= 1;
    await this.claims.release(name);
  }
}
