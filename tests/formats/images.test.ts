import { describe, expect, test } from "bun:test";
import { redoLog } from "../../src/log/redo.ts";
import { decodeSuperblock, encodeSuperblock } from "../../src/log/superblock.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import {
  type ImageEntry,
  imageEntries,
  sha256,
  vectorBytes,
  vectorNames,
  vectorsDirectory,
  vectorText,
} from "../helpers/vectors.ts";
import { bytesInput, convertWlog, readVirtual, redoDiffs, redoWlog } from "../helpers/wlogs.ts";

const io = createMemoryIo();

/** The image before. It is a file, and grows where the log writes beyond its end. */
function fresh({ image_size, init }: ImageEntry): Uint8Array {
  return new Uint8Array(image_size).fill(init === "ff" ? 0xff : 0);
}

const sizeLb = 2 ** 30;

describe.skipIf(vectorsDirectory === undefined)("logs of the original", () => {
  const entries = imageEntries().filter(({ command }) => command.startsWith("wlog-redo"));

  test("are redone into the original's images: over zeroes and ones, discards zeroed and ignored", async () => {
    for (const entry of entries) {
      // Several redos one after the other are one entry.
      io.disk.put("/image", fresh(entry));
      const image = await io.disk.open("/image", { mode: "write" });
      for (const part of entry.command.split(" && ")) {
        const log = await vectorBytes(/< (\S+)/.exec(part)![1]!);
        const discard = part.includes(" -z ") ? "zero" : "ignore";
        const endLsid = await redoWlog(io, bytesInput(log), image, sizeLb, discard);
        const range = /Applied lsid range \[\d+, (\d+)\)/.exec(entry.stdout);
        if (range !== null) expect(`${part} ${endLsid}`).toBe(`${part} ${range[1]}`);
      }
      expect(`${entry.command} ${entry.init} ${sha256(io.disk.get("/image"))}`).toBe(
        `${entry.command} ${entry.init} ${entry.sha256}`,
      );
    }
    expect(entries.length).toBeGreaterThanOrEqual(24);
  });

  test("converted, and read virtually, give the same images with discards zeroed", async () => {
    let checked = 0;
    for (const entry of entries) {
      const parts = entry.command.split(" && ");
      if (!parts.every((part) => part.includes(" -z "))) continue;
      for (const kind of ["sorted", "indexed"] as const) {
        for (const maxIoLb of [8, 20, 0]) {
          const paths: string[] = [];
          for (const part of parts) {
            const path = `/diff${paths.length}`;
            const log = await vectorBytes(/< (\S+)/.exec(part)![1]!);
            await convertWlog(io, bytesInput(log), path, { kind, maxIoLb });
            paths.push(path);
          }
          io.disk.put("/image", fresh(entry));
          const image = await io.disk.open("/image", { mode: "write" });
          await redoDiffs(io, paths, image, sizeLb);
          expect(sha256(io.disk.get("/image"))).toBe(entry.sha256);
          const grownLb = io.disk.get("/image").length / 512;
          io.disk.put("/image", fresh(entry));
          expect(sha256(await readVirtual(io, paths, image, grownLb, 4096))).toBe(entry.sha256);
          for (const path of paths) await io.disk.remove(path);
          checked += 1;
        }
      }
    }
    expect(checked).toBeGreaterThanOrEqual(60);
  });
});

describe.skipIf(vectorsDirectory === undefined)("log devices of the original", () => {
  const names = vectorNames("ldev", /\.img\.xz$/);

  test("have the superblocks the original shows", async () => {
    expect(names.length).toBeGreaterThanOrEqual(5);
    for (const name of names) {
      const text = vectorText(name.replace(".img.xz", ".info.txt"));
      const shown = (field: string): string => new RegExp(`^${field}: (.*)$`, "m").exec(text)![1]!;
      const image = await vectorBytes(name);
      const block = decodeSuperblock(image.subarray(4096, 8192), name);
      const view = new DataView(image.buffer, image.byteOffset + 4096, 8);
      expect([
        view.getUint32(4, true),
        block.pbsBytes,
        block.metadataSizePb,
        block.salt,
        block.name,
        block.ringSizePb,
        block.oldestLsid,
        block.writtenLsid,
        block.deviceSizeLb,
        block.uuid,
      ]).toEqual([
        Number(shown("checksum")),
        Number(shown("pbs")),
        Number(shown("metadataSize")),
        Number(shown("salt")),
        shown("name"),
        Number(shown("ringBufferSize")),
        Number(shown("oldestLsid")),
        Number(shown("writtenLsid")),
        Number(shown("deviceSize")),
        shown("uuid"),
      ]);
    }
  });

  test("are redone into what their extracted logs make, around the ring end too", async () => {
    let wrapped = 0;
    for (const name of names) {
      const cat = name.replace(".img.xz", ".cat.wlog");
      if (!vectorNames("ldev", /\.cat\.wlog$/).includes(cat)) continue;
      const log = await vectorBytes(name);
      const superblock = decodeSuperblock(log.subarray(4096, 8192), name);
      // wlog-restore leaves "written" where the log begins or ends: redo starts at the oldest pack.
      const restarted = { ...superblock, writtenLsid: superblock.oldestLsid };
      log.set(encodeSuperblock(restarted), 4096);
      const sizeBytes = superblock.deviceSizeLb * 512;
      io.disk.put("/log", log);
      io.disk.put("/data", new Uint8Array(sizeBytes).fill(0xee));
      io.disk.put("/expected", new Uint8Array(sizeBytes).fill(0xee));
      const [logFile, data] = [
        await io.disk.open("/log", { mode: "write" }),
        await io.disk.open("/data", { mode: "write" }),
      ];
      const result = await redoLog({ log: logFile, data, superblock: restarted, pool: io.memory, compute: io.compute });
      const expected = await io.disk.open("/expected", { mode: "write" });
      const endLsid = await redoWlog(io, bytesInput(await vectorBytes(cat)), expected, superblock.deviceSizeLb);
      expect([name, result.superblock.writtenLsid]).toEqual([name, endLsid]);
      expect(result.packCount).toBeGreaterThan(0);
      expect(sha256(io.disk.get("/data"))).toBe(sha256(io.disk.get("/expected")));
      const { ringSizePb, oldestLsid } = superblock;
      if (Math.floor(oldestLsid / ringSizePb) !== Math.floor((endLsid - 1) / ringSizePb)) wrapped += 1;
    }
    expect(wrapped).toBeGreaterThanOrEqual(1);
    expect(io.memory.leasedBytes + io.readPool.leasedBytes).toBe(0);
  });
});
