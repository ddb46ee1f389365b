/** @module Jobs of transfers onto one file that work together, see ffi/transfer.c. */
import { availableParallelism } from "node:os";
import { WalbError } from "../../errors.ts";
import type { Job, JobResult } from "../../native/pool.ts";
import { shim } from "../../native/shim.ts";
import type { TransferFlow } from "../disk.ts";

/** One writes, and more than a few cannot read and expand so fast that it is too slow. */
const workersMax = 4;

/** The real {@link TransferFlow}. */
export class RealFlow implements TransferFlow {
  readonly #flow: number;
  #sequence = 0;
  #inFlight = 0;
  #isEnded = false;

  constructor(isStrict: boolean) {
    // More threads than processors would only wait for each other.
    this.#flow = shim.flowCreate(Math.max(2, Math.min(workersMax, availableParallelism())), isStrict);
    if (this.#flow === 0) {
      throw new WalbError("internal", { what: "there is no memory for transfers", hint: "look at the memory limit" });
    }
  }

  /** Runs a job in its place behind those before. */
  async run(start: (turn: Pick<Job, "extra" | "offset">) => Promise<JobResult>): Promise<JobResult> {
    if (this.#isEnded) throw new WalbError("internal", { what: "a transfer of a flow that was ended" });
    this.#inFlight++;
    try {
      return await start({ extra: this.#flow, offset: this.#sequence++ });
    } catch (error) {
      // It will not come: nobody may wait for it.
      shim.flowStop(this.#flow);
      throw error;
    } finally {
      this.#inFlight--;
    }
  }

  end(): void {
    if (this.#isEnded || this.#inFlight > 0) {
      throw new WalbError("internal", { what: "a flow of transfers was ended twice, or too early" });
    }
    this.#isEnded = true;
    shim.flowDestroy(this.#flow);
  }
}
