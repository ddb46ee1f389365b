/** @module The rules by which disk operations fail, hang or slow down. */
import { WalbError } from "../../errors.ts";
import type { DelayRange, DiskFault, DiskOperation, FaultErrorCode } from "../api.ts";

interface Rule {
  readonly fault: DiskFault;
  toSkip: number;
  toHit: number;
}

/** All rules of a storage. The first that matches decides. */
export class DiskFaults {
  private readonly rules = new Set<Rule>();

  add(fault: DiskFault): () => void {
    const rule: Rule = { fault, toSkip: fault.skip ?? 0, toHit: fault.times ?? 1 };
    this.rules.add(rule);
    return () => this.rules.delete(rule);
  }

  /** What is to happen to an operation; counts it. */
  decide(operation: DiskOperation): DiskFault["effect"] | undefined {
    for (const rule of this.rules) {
      if (!matches(rule.fault, operation)) continue;
      if (rule.toSkip > 0) {
        rule.toSkip--;
        continue;
      }
      if (--rule.toHit <= 0) this.rules.delete(rule);
      return rule.fault.effect;
    }
    return undefined;
  }
}

function matches(fault: DiskFault, operation: DiskOperation): boolean {
  if (fault.kinds !== undefined && !fault.kinds.includes(operation.kind)) return false;
  if (fault.pathIncludes !== undefined && !operation.path.includes(fault.pathIncludes)) return false;
  return fault.when?.(operation) ?? true;
}

/** The error that the real disk gives for a fault. */
export function faultError(code: FaultErrorCode, operation: DiskOperation): WalbError {
  const where = { file: operation.path, offsetBytes: operation.offsetBytes, step: operation.kind };
  if (code === "no-space") {
    return new WalbError("no-space", {
      what: "no space left on the device (ENOSPC)",
      where,
      hint: "make room and retry",
    });
  }
  return new WalbError("io", { what: `input/output error (EIO) on ${operation.kind}`, where });
}

/** True for the effects that make an operation fail. */
export function isErrorEffect(effect: DiskFault["effect"] | undefined): effect is FaultErrorCode {
  return effect === "io" || effect === "no-space";
}

/** True for the effects that make an operation slow. */
export function isDelayEffect(effect: DiskFault["effect"] | undefined): effect is DelayRange {
  return typeof effect === "object";
}
