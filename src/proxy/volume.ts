/** @module One volume of a proxy: what it remembers, its state, and where its files are. */
import type { Logger } from "../control/logger.ts";
import type { Platform } from "../platform/platform.ts";
import { VolumeMachine } from "../volume/machine.ts";
import type { Trouble } from "../volume/trouble.ts";
import type { WireStream } from "../wire/stream.ts";
import type { ProxySettings } from "./settings.ts";
import { judgeFilling } from "./space.ts";
import type { DiffRow, ProxyStore } from "./store.ts";
import { proxyWayOut } from "./way-out.ts";

/** All states of a proxy volume, temporary ones included. */
export type ProxyState =
  | "Stopped"
  | "Started"
  | "Start"
  | "Stop"
  | "WaitForEmpty"
  | "WlogRecv"
  | "AddArchiveInfo"
  | "DeleteArchiveInfo"
  | "ClearVol";
/** Actions that run beside a state. */
export type ProxyAction = "WdiffSend";

/** States in which diffs are sent. */
export const sendingStates: readonly ProxyState[] = ["Started", "WlogRecv", "WaitForEmpty"];

/**
 * How long the last reception says something about the volume. A storage that still needs us has tried again by then:
 * else it went on with another proxy, and this one would show a trouble for ever that nobody has.
 */
const receptionForgottenMs = 600_000;

/** A volume of a running proxy. */
export class ProxyVolume {
  readonly machine: VolumeMachine<ProxyState, ProxyAction>;
  readonly log: Logger;
  /** The reception under way: its stream, and whether it is at its last step. */
  receiving: { readonly stream: WireStream; isCommitting: boolean } | undefined;
  /** Somebody started the volume while a stop waited until everything was sent. */
  isStopTakenBack = false;
  #receiveTrouble: Trouble | undefined;
  #receiveTroubleMs = 0;
  /** Diffs were lost. */
  lossTrouble: Trouble | undefined;
  #space: { readonly trouble: Trouble; readonly isFull: boolean } | undefined;

  constructor(
    readonly name: string,
    readonly directory: string,
    readonly store: ProxyStore,
    readonly platform: Platform,
    readonly settings: ProxySettings,
    log: Logger,
  ) {
    this.log = log.with({ volume: name });
    this.machine = new VolumeMachine<ProxyState, ProxyAction>(
      name,
      "Stopped",
      () => platform.clock.nowMs(),
      (state) => proxyWayOut(name, settings.nodeId, state),
    );
  }

  /** The last reception failed; undefined when one went well. Told until then, or until it is history. */
  setReceiveTrouble(trouble: Trouble | undefined): void {
    this.#receiveTrouble = trouble && { ...trouble, sinceMs: this.#receiveTrouble?.sinceMs ?? trouble.atMs };
    this.#receiveTroubleMs = this.platform.clock.monotonicMs();
  }

  /** How the file system is now, when somebody has looked. */
  noteSpace(space: { readonly freeBytes: number; readonly totalBytes: number }): void {
    const filling = judgeFilling(space, { host: this.settings.nodeId, volume: this.name, file: this.directory });
    const atMs = this.platform.clock.nowMs();
    const sinceMs = this.#space?.trouble.sinceMs ?? atMs;
    this.#space = filling && { trouble: { error: filling.error, atMs, sinceMs }, isFull: filling.isFull };
  }

  /** What an administrator should know of the volume, the gravest first. */
  get trouble(): Trouble | undefined {
    return this.obstacle ?? this.#space?.trouble;
  }

  /** Why logs did not come in, or cannot. */
  get obstacle(): Trouble | undefined {
    if (this.lossTrouble !== undefined) return this.lossTrouble;
    const nowMs = this.platform.clock.monotonicMs();
    if (nowMs < this.#receiveTroubleMs + receptionForgottenMs && this.#receiveTrouble !== undefined) {
      return this.#receiveTrouble;
    }
    return this.#space?.isFull === true ? this.#space.trouble : undefined;
  }

  /** Directory of the diffs of one log. */
  diffDirectory(uuid: string): string {
    return `${this.directory}/diffs/${uuid}`;
  }

  pathOf(diff: Pick<DiffRow, "uuid" | "fileName">): string {
    return `${this.diffDirectory(diff.uuid)}/${diff.fileName}`;
  }

  /** Removes files whose rows are gone. A failure costs only space until the next start. */
  async removeFiles(diffs: readonly DiffRow[]): Promise<void> {
    for (const diff of diffs) {
      try {
        await this.platform.disk.remove(this.pathOf(diff));
      } catch (error) {
        this.log.warn("a delivered diff could not be removed", { file: this.pathOf(diff), error });
      }
    }
  }
}
