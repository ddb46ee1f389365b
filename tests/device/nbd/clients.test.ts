/** @module Real NBD clients against the server: libnbd, nbdinfo, nbdcopy, qemu. Skipped where they are not installed. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { platform, type Setup, setup, until } from "./setup.ts";

const python = "/usr/bin/python3";
const hasLibnbd = isThere(python) && Bun.spawnSync([python, "-c", "import nbd"]).success;

function isThere(program: string): boolean {
  return Bun.which(program) !== null;
}

/** A test that needs programs, or says why it is skipped. */
function testWith(programs: readonly string[], name: string, body: () => Promise<void>): void {
  const missing = programs.filter((program) => (program === "libnbd" ? !hasLibnbd : !isThere(program)));
  if (missing.length > 0) console.log(`skipped, ${missing.join(", ")} not installed: ${name}`);
  test.skipIf(missing.length > 0)(name, body, 15_000);
}

async function run(...command: string[]): Promise<string> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe", timeout: 12_000 });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed: ${err}${out}`);
  return out;
}

/** Runs a libnbd script with `uri` set and helpers for expected errors. */
async function libnbd(uri: string, script: string): Promise<string> {
  const prelude = `
import errno, nbd, os, random, sys
uri = sys.argv[1]
def connect(strict=False):
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    if not strict: h.set_strict_mode(0)
    h.connect_uri(uri)
    return h
def fails(name, call):
    try: call()
    except nbd.Error as e:
        assert e.errno == name, (e.errno, name, e.string)
        return
    raise AssertionError("did not fail with " + name)
`;
  return await run(python, "-c", prelude + script, uri);
}

describe("clients of the field", () => {
  let at: Setup;
  let directory: string;
  beforeAll(async () => {
    at = await setup(["vol0", "vol1"]);
    directory = mkdtempSync(join(tmpdir(), "walb-clients-"));
  });
  afterAll(async () => {
    await until("no lease is left", () => at.pool.leasedBytes === 0);
    await at.close();
    rmSync(directory, { recursive: true, force: true });
  });

  testWith(["nbdinfo"], "nbdinfo sees every volume, its flags and its block sizes", async () => {
    const found = JSON.parse(await run("nbdinfo", "--json", "--list", at.uri(""))) as {
      exports: Record<string, unknown>[];
    };
    expect(found.exports.map((item) => item["export-name"])).toEqual(["vol0", "vol1"]);
    expect(found.exports[0]).toMatchObject({
      contexts: ["base:allocation"],
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_fast_zero: true,
      can_df: true,
      can_cache: true,
      can_multi_conn: true,
      block_size_minimum: 512,
      block_size_preferred: 4096,
      block_size_maximum: 33554432,
      "export-size": 67108864,
    });
  });

  testWith(["libnbd"], "libnbd: data, FUA, zeroes and trim read back as they should", async () => {
    at.volume.calls.length = 0;
    await libnbd(
      at.uri("vol0"),
      `
h = connect(strict=True)
data = os.urandom(1 << 20)
h.pwrite(data, 4096, nbd.CMD_FLAG_FUA)
assert h.pread(1 << 20, 4096) == data
h.zero(65536, 4096)
h.trim(65536, 4096 + 65536)
assert h.pread(131072, 4096) == bytes(131072)
assert h.pread((1 << 20) - 131072, 4096 + 131072) == data[131072:]
h.zero(65536, 4096, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
fails("ENOTSUP", lambda: h.zero(65536, 4096, nbd.CMD_FLAG_FAST_ZERO))
h.cache(65536, 0)
h.flush()
chunks = []
h.pread_structured(65536, 200000 // 512 * 512, lambda buf, off, st, err: chunks.append((len(buf), off, st)), nbd.CMD_FLAG_DF)
assert chunks == [(65536, 199680, nbd.READ_DATA)], chunks
h.shutdown()
`,
    );
    expect(at.volume.calls).toContain("write fua");
    expect(at.volume.calls).toContain("zero fua");
  });

  testWith(["libnbd"], "libnbd without its own checks: wrong requests fail and harm nothing", async () => {
    await libnbd(
      at.uri("vol0"),
      `
h = connect()
size = h.get_size()
before = h.pread(65536, 0)
fails("EINVAL", lambda: h.pread(512, 1))
fails("EINVAL", lambda: h.pread(100, 0))
fails("EINVAL", lambda: h.pread(1024, size - 512))
fails("EINVAL", lambda: h.pread(512, 1 << 62))
fails("EINVAL", lambda: h.pwrite(bytes(512), 3))
fails("EINVAL", lambda: h.pwrite(bytes(513), 0))
fails("ENOSPC", lambda: h.pwrite(bytes(1024), size - 512))
fails("ENOSPC", lambda: h.pwrite(bytes(512), size))
fails("EINVAL", lambda: h.pwrite(bytes(33 << 20), 0))
fails("EINVAL", lambda: h.trim(512, size))
fails("EINVAL", lambda: h.trim(0, 0))
fails("ENOSPC", lambda: h.zero(1024, size - 512))
fails("EINVAL", lambda: h.pwrite(bytes(512), 0, 0x40))
fails("EINVAL", lambda: h.pread(0, 0))
assert h.pread(65536, 0) == before
h.shutdown()
`,
    );
  });

  testWith(["libnbd"], "libnbd option by option: unknown names, wrong order, and on to the transmission", async () => {
    await libnbd(
      at.uri("vol0"),
      `
h = nbd.NBD()
h.set_strict_mode(0)
h.set_opt_mode(True)
h.connect_uri(uri)
names = []
assert h.opt_list(lambda name, text: names.append(name)) == 2 and names == ["vol0", "vol1"], names
h.set_export_name("nobody")
fails("ENOENT", h.opt_info)
fails("ENOENT", h.opt_go)
h.set_export_name("vol0")
h.opt_info()
assert h.get_size() == 64 << 20 and h.can_multi_conn() and h.can_fua() and h.can_df()
contexts = []
h.clear_meta_contexts()
assert h.opt_list_meta_context(lambda name: contexts.append(name)) == 1 and contexts == ["base:allocation"], contexts
h.add_meta_context("nobody:knows")
assert h.opt_list_meta_context(lambda name: contexts.append(name)) == 0
h.opt_go()
assert h.pread(512, 0) is not None
# The option phase is over, for good.
fails("EINVAL", h.opt_info)
h.shutdown()
g = nbd.NBD()
g.set_opt_mode(True)
g.connect_uri(uri)
g.opt_abort()
assert g.aio_is_closed()
`,
    );
  });

  testWith(
    ["libnbd"],
    "libnbd with a socket that is closed half: what was asked is answered, then the end",
    async () => {
      await libnbd(
        at.uri("vol0"),
        `
import socket
for round in range(8):
    h = connect(strict=True)
    data = bytes([round + 1]) * 65536
    cookies = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), i * 65536) for i in range(8)]
    cookies.append(h.aio_flush())
    while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE: h.poll(-1)
    s = socket.socket(fileno=os.dup(h.aio_get_fd()))
    s.shutdown(socket.SHUT_WR)
    for cookie in cookies:
        while not h.aio_command_completed(cookie): h.poll(-1)
    # The server has nothing more to say.
    s.setblocking(True)
    assert s.recv(1) == b"", "bytes behind the last answer"
    s.close()
    g = connect(strict=True)
    assert g.pread(8 * 65536, 0) == data * 8
    g.shutdown()
`,
      );
    },
  );

  testWith(["fio", "libnbd"], "fio verifies what it wrote, and that what it trimmed is gone", async () => {
    const uri = at.uri("vol1");
    const job = ["--name=trim", "--ioengine=nbd", `--uri=${uri}`, "--size=32m", "--iodepth=8", "--output-format=json"];
    const verify = ["--verify=crc32c", "--verify_fatal=1", "--verify_backlog=64", "--verify_state_save=0"];
    await run("fio", ...job, "--rw=randwrite", "--bsrange=4k-64k", "--blockalign=4k", "--fsync=50", ...verify);
    // Each block is trimmed, then written.
    await run("fio", ...job, "--rw=trimwrite", "--bs=64k", ...verify);
    await run("fio", ...job, "--rw=randtrim", "--bs=64k", "--io_size=64m");
    const out = await run("fio", ...job, "--rw=trim", "--bs=256k");
    const { jobs } = JSON.parse(out.slice(out.indexOf("{"))) as {
      jobs: { error: number; trim: { total_ios: number } }[];
    };
    expect(jobs[0]).toMatchObject({ error: 0, trim: { total_ios: 128 } });
    const size = 32 << 20;
    await libnbd(
      uri,
      `assert not any(connect().pread(1 << 20, at << 20).strip(b"\\0") for at in range(${size} >> 20))`,
    );
  });

  testWith(["libnbd"], "libnbd: many requests in flight on four connections agree with a model", async () => {
    await libnbd(
      at.uri("vol1"),
      `
seed = random.randrange(1 << 32)
rnd = random.Random(seed)
share = 4 << 20
hs = [connect(strict=True) for _ in range(4)]
models = [bytearray(share) for _ in hs]
for h, c in zip(hs, range(4)): h.zero(share, c * share)
for round in range(12):
    pending = []
    for c, h in enumerate(hs):
        for lane in range(16):
            step = share // 16
            n = 512 * rnd.randrange(1, 65)
            off = lane * step + 512 * rnd.randrange((step - n) // 512)
            if rnd.random() < 0.6:
                data = rnd.randbytes(n)
                models[c][off:off+n] = data
                pending.append((h, h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), c * share + off), None, None))
            else:
                buf = nbd.Buffer(n)
                want = bytes(models[c][off:off+n])
                pending.append((h, h.aio_pread(buf, c * share + off), buf, want))
    for h, cookie, buf, want in pending:
        while not h.aio_command_completed(cookie): h.poll(-1)
        if buf is not None: assert buf.to_bytearray() == want, ("seed", seed, "round", round)
# A flush on one connection covers the others: all see all.
hs[0].flush()
for c in range(4): assert hs[3 - c].pread(share, c * share) == models[c], ("seed", seed)
for h in hs: h.shutdown()
`,
    );
  });

  testWith(
    ["libnbd"],
    "libnbd: sixty-four connections at a time, and one that dies in the middle of a write",
    async () => {
      await libnbd(
        at.uri("vol0"),
        `
hs = [connect(strict=True) for _ in range(64)]
for i, h in enumerate(hs): h.pwrite(bytes([i]) * 4096, i * 4096)
for i, h in enumerate(reversed(hs)): assert h.pread(4096, i * 4096) == bytes([i]) * 4096
dying = connect(strict=True)
dying.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(16 << 20)), 1 << 20)
os._exit(0)
`,
      );
      await until("their connections are gone", () => at.server.connectionsOf("vol0") === 0);
      await until("their memory is returned", () => at.pool.leasedBytes === 0);
    },
  );

  testWith(["nbdcopy", "nbdinfo"], "nbdcopy carries an image both ways, and the map shows its holes", async () => {
    const image = join(directory, "image");
    const bytes = new Uint8Array(64 * 1024 * 1024);
    for (const offset of [0, 5_000_192, 40_000_512]) {
      bytes.set(crypto.getRandomValues(new Uint8Array(65536)), offset);
    }
    writeFileSync(image, bytes);
    await run("nbdcopy", "--flush", image, at.uri("vol1"));
    const back = join(directory, "back");
    await run("nbdcopy", at.uri("vol1"), back);
    expect(Buffer.compare(readFileSync(back), bytes)).toBe(0);
    const map = JSON.parse(await run("nbdinfo", "--map", "--json", at.uri("vol1"))) as {
      offset: number;
      length: number;
      type: number;
    }[];
    expect(map.reduce((sum, extent) => sum + extent.length, 0)).toBe(bytes.length);
    for (const extent of map.filter(({ type }) => type === 3)) {
      const part = bytes.subarray(extent.offset, extent.offset + extent.length);
      expect(part.every((byte) => byte === 0)).toBe(true);
    }
    expect(map.some(({ type }) => type === 3)).toBe(true);
  });

  testWith(["qemu-io", "qemu-img"], "qemu-io verifies patterns, and qemu-img compares and maps", async () => {
    const uri = at.uri("vol0");
    const commands = [
      "write -P 1 0 8M",
      "write -f -P 2 512 1k",
      "write -z 1M 1M",
      "write -z -u 2M 512",
      "discard 3M 1M",
      "flush",
      "read -P 2 512 1k",
      "read -P 0 1M 1M",
      "read -P 0 2M 512",
      "read -P 1 2097664 4096",
      "read -P 0 3M 1M",
      "read -P 1 4M 4M",
    ];
    const out = await run("qemu-io", "-f", "raw", ...commands.flatMap((command) => ["-c", command]), uri);
    expect(out).not.toContain("Pattern verification failed");
    const image = join(directory, "qemu.raw");
    await run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, image);
    await run("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, image);
    const map = JSON.parse(await run("qemu-img", "map", "--output=json", "-f", "raw", uri)) as { length: number }[];
    expect(map.reduce((sum, extent) => sum + extent.length, 0)).toBe(64 * 1024 * 1024);
  });

  testWith(["nbdinfo"], "the same volume is served over TCP", async () => {
    const { openNbdServer } = await import("../../../src/device/user/nbd/server.ts");
    const server = await openNbdServer({
      net: platform.net,
      clock: platform.clock,
      memory: at.pool,
      listeners: [{ kind: "tcp", host: "127.0.0.1", port: 0 }],
      exports: { names: () => ["vol0"], find: (name) => (name === "vol0" ? at.volume : undefined) },
    });
    const address = server.addresses[0]!;
    expect(address.kind).toBe("tcp");
    const port = address.kind === "tcp" ? address.port : 0;
    expect((await run("nbdinfo", "--size", `nbd://127.0.0.1:${port}/`)).trim()).toBe("67108864");
    await server.close();
  });
});
