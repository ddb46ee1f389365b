import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Done, LeaveAnswer } from "../../../src/device/user/block.ts";
import { openNbdServer } from "../../../src/device/user/nbd/server.ts";
import { WalbError } from "../../../src/errors.ts";
import type { Lease } from "../../../src/native/memory.ts";
import type { DiskFile } from "../../../src/platform/disk.ts";
import { withTemporaryDirectory } from "../../helpers/temporary.ts";
import { MemoryVolume, PlainPool } from "./doubles.ts";
import { RawNbd, request } from "./raw.ts";
import { platform } from "./setup.ts";

const commandWrite = 1;
const commandFlush = 3;
const errorIo = 5;

/** A volume whose flushes and FUA writes are real syncs, and now and then fail for another reason meanwhile. */
class SyncedVolume extends MemoryVolume {
  answersLeft = 0;

  constructor(
    readonly file: DiskFile,
    readonly below: (limit: number) => number,
  ) {
    super("vol0", 8 << 20);
  }

  override write(
    offsetBytes: number,
    sizeBytes: number,
    source: Lease,
    fua: boolean,
    done: Done,
    leaveAnswer?: LeaveAnswer,
  ): void {
    super.write(offsetBytes, sizeBytes, source, false, (error) => {
      if (fua) this.sync(done, leaveAnswer);
      else done(error);
    });
  }

  override flush(done: Done, leaveAnswer?: LeaveAnswer): void {
    this.sync(done, leaveAnswer);
  }

  private sync(done: Done, leaveAnswer: LeaveAnswer | undefined): void {
    const sync = this.file.beginSync!();
    const isLeft = this.below(4) > 0;
    if (isLeft) {
      this.answersLeft++;
      leaveAnswer?.(sync);
    }
    if (this.below(6) > 0) {
      sync.ended.then(() => done(undefined));
      return;
    }
    const error = new WalbError("io", { what: "the data store failed" });
    if (this.below(2) === 0) done(error);
    else sync.ended.then(() => done(error));
  }
}

test("each flush and FUA write is answered exactly once, by the sync or behind it, among other requests", () =>
  withTemporaryDirectory(async (directory) => {
    let state = 7;
    const below = (limit: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * limit);
    };
    writeFileSync(join(directory, "log"), "log");
    const file = await platform.disk.open(join(directory, "log"), { mode: "write" });
    const volume = new SyncedVolume(file, below);
    const address = { kind: "unix", path: join(directory, "socket") } as const;
    const pool = new PlainPool(64 << 20);
    const server = await openNbdServer({
      net: platform.net,
      clock: platform.clock,
      memory: pool,
      listeners: [address],
      exports: { names: () => ["vol0"], find: () => volume },
    });
    let errors = 0;
    const client = async (structured: boolean): Promise<void> => {
      const nbd = await RawNbd.go(platform.net, address, "vol0", { structured });
      for (let round = 0; round < 200; round++) {
        const handles = Array.from({ length: 1 + below(below(2) === 0 ? 1 : 12) }, (_, handle) => handle);
        nbd.send(
          Buffer.concat(
            handles.map((handle) => {
              if (below(2) === 0) return request(commandFlush, handle, 0, 0);
              const size = 512 * (1 + below(8));
              return request(commandWrite, handle, 512 * below(1000), size, below(2), Buffer.alloc(size));
            }),
          ),
        );
        const answered: number[] = [];
        for (const _ of handles) {
          const { handle, error } = await nbd.nextReply();
          answered.push(handle);
          expect([0, errorIo]).toContain(error);
          if (error !== 0) errors++;
        }
        expect(answered.sort((a, b) => a - b)).toEqual(handles);
      }
      nbd.connection.close();
    };
    await Promise.all([client(false), client(true), client(false)]);
    await server.close();
    await file.close();
    expect(volume.answersLeft).toBeGreaterThan(100);
    expect(errors).toBeGreaterThan(10);
    expect(pool.leasedBytes).toBe(0);
  }));
