/** @module Jobs of many pieces say which piece failed. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Codec } from "../../src/native/codec.ts";
import type { DiskFile } from "../../src/platform/disk.ts";
import { io } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

/** A file of 10,000 bytes, only for reading. */
async function withFile(use: (file: DiskFile) => Promise<void>): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "file");
    writeFileSync(path, new Uint8Array(10_000));
    const file = await io.disk.open(path, { mode: "read" });
    try {
      await use(file);
    } finally {
      await file.close();
    }
  });
}

const textOf = async (work: Promise<unknown> | undefined): Promise<string> => {
  try {
    await work;
    return "it worked";
  } catch (error) {
    return String(error);
  }
};

test("of many reads the one that ended early is named with its offset and size", async () => {
  await withFile(async (file) => {
    const lease = await io.memory.lease(8192);
    const reads = [0, 4096, 9000, 2000].map((offsetBytes, i) => ({
      offsetBytes,
      target: lease.slice(i * 2048, 1024 + i),
    }));
    const text = await textOf(file.readMany?.(reads));
    lease.release();
    expect(text).toContain(`file ${file.path}, offset 9000: read of 1026 bytes ended early`);
  });
});

test("of many writes the first one that failed is named with its offset and size", async () => {
  await withFile(async (file) => {
    const lease = await io.memory.lease(8192);
    const writes = [512, 7000].map((offsetBytes) => ({ offsetBytes, source: lease.slice(0, 600) }));
    const text = await textOf(file.writeMany?.(writes));
    lease.release();
    expect(text).toContain(`file ${file.path}, offset 512: write of 600 bytes failed: Bad file descriptor (EBADF)`);
  });
});

test("of images that are expanded and written the write that failed is named with its offset and size", async () => {
  await withFile(async (file) => {
    const lease = await io.memory.lease(8192);
    lease.bytes.fill(3);
    const source = lease.slice(0, 2048);
    const checksum = io.compute.checksumNow(source.bytes, 0);
    const whole = { source, checksum, codec: Codec.none, decodedBytes: 2048, sliceOffsetBytes: 0, sliceBytes: 2048 };
    // Two that follow each other are one write.
    const items = [4096, 6144, 1024].map((fileOffsetBytes) => ({ ...whole, fileOffsetBytes }));
    const text = await textOf(file.writeDecoded(items));
    lease.release();
    expect(text).toContain(`file ${file.path}, offset 4096: write of 4096 bytes failed: Bad file descriptor (EBADF)`);
  });
});
