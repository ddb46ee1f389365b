import { afterAll, beforeAll, expect, test } from "bun:test";
import { runIn } from "../cli/fleet-fixture.ts";
import { ProcedureFleet } from "../helpers/procedure-fleet.ts";

const limitMs = 120_000;
let fleet: ProcedureFleet;
let model: Buffer;
let gid = 0;

beforeAll(async () => {
  fleet = await ProcedureFleet.start(["s0", "p0", "p1", "a0"], '[volumes.vol0]\nstorage = "s0"\n');
  model = Buffer.alloc(fleet.sizeBytes);
  await fleet.makeDevice("s0", "vol0");
}, limitMs);
afterAll(() => fleet?.close(), limitMs);

async function proves(archive: string, storage: string): Promise<void> {
  await fleet.write(storage, "vol0", model);
  gid = await fleet.snapshot("vol0", archive, storage);
  await fleet.mustEqual(archive, "vol0", gid, model);
}

/** Runs a verb; a server is stopped (SIGSTOP) as it is asked for a command. */
async function stoppedAt(name: string, command: string, line: string): Promise<{ code: number; err: string }> {
  const send = globalThis.fetch;
  const watching = (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    if (input === `http://${fleet.address(name)}/api/${command}`) fleet.signal(name, "SIGSTOP");
    return send(input, init);
  };
  globalThis.fetch = Object.assign(watching, { preconnect: send.preconnect });
  try {
    return await fleet.verb(line);
  } finally {
    globalThis.fetch = send;
  }
}

test(
  "init is taken back at the others when a server stops answering in the middle, and says what to type for that one",
  async () => {
    for (const [name, command] of [
      ["a0", "init"],
      ["p1", "add-archive"],
    ] as const) {
      const { code, err } = await stoppedAt(name, command, "init vol0 --device vol0 --timeout 2s");
      expect([code, err]).toEqual([8, expect.stringContaining("s0: undone")]);
      expect(err).toContain(`when it answers: walb clear vol0 --server ${name}`);
      for (const other of ["s0", "p0", "p1", "a0"])
        if (other !== name) expect([other, await fleet.stateAt(other, "vol0")]).toEqual([other, "Clear"]);
      fleet.signal(name, "SIGCONT");
    }
    await fleet.must("init vol0 --device vol0");
    await fleet.must("backup vol0 --wait");
    await proves("a0", "s0");
  },
  limitMs,
);

test(
  "a procedure ends when --timeout is over, also in a step that waits for as long as it takes; the same command goes on",
  async () => {
    await fleet.add("a9");
    const line = "synchronize vol0 --to a9";
    const { code, err } = await stoppedAt("p0", "stop", `${line} --timeout 3s`);
    fleet.signal("p0", "SIGCONT");
    expect([code, err]).toEqual([8, expect.stringContaining(`go on with the same command: walb ${line}`)]);
    await fleet.must(line);
    expect([await fleet.stateAt("p0", "vol0"), await fleet.fed("p0", "vol0")]).toEqual(["Started", ["a0", "a9"]]);
    await fleet.must("desynchronize vol0 --from a9");
    await fleet.lose("a9");
    fleet.takeOut("a9");
  },
  limitMs,
);

test(
  "an archive that the fleet file names as primary before it has anything gets everything when it is promoted",
  async () => {
    await fleet.add("a9");
    const file = fleet.path("walb.toml");
    const text = (await Bun.file(file).text()).replace("primary = true\n", "");
    await Bun.write(file, text.replace("[servers.a9]\n", "[servers.a9]\nprimary = true\n"));
    expect((await fleet.verb("check")).out).toContain("walb promote a9");
    await fleet.must("promote a9");
    expect(await fleet.fed("p0", "vol0")).toEqual(["a0", "a9"]);
    expect(await fleet.must("promote a9")).toContain("a9 is the primary archive already");
    await proves("a9", "s0");
    await fleet.must("promote a0");
    await fleet.must("desynchronize vol0 --from a9");
    await fleet.lose("a9");
    fleet.takeOut("a9");
  },
  limitMs,
);

test(
  "a proxy whose stopping is given up goes on sending",
  async () => {
    await fleet.add("a9");
    const interrupt = new AbortController();
    const send = globalThis.fetch;
    const watching = (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
      const answer = send(input, init);
      if (input !== `http://${fleet.address("p0")}/api/stop`) return answer;
      // The proxy has stopped, and we never hear of it.
      return answer.then((response) => {
        interrupt.abort();
        init?.signal?.throwIfAborted();
        return response;
      });
    };
    globalThis.fetch = Object.assign(watching, { preconnect: send.preconnect });
    try {
      expect((await fleet.verb("synchronize vol0 --to a9", interrupt.signal)).code).toBe(130);
    } finally {
      globalThis.fetch = send;
    }
    expect(await fleet.stateAt("p0", "vol0")).toBe("Started");
    await fleet.lose("a9");
    fleet.takeOut("a9");
    await proves("a0", "s0");
  },
  limitMs,
);

test(
  "snapshots of several volumes are each restorable; one that cannot be taken does not keep the others",
  async () => {
    await fleet.makeDevice("s0", "vol1");
    await fleet.must("init vol1 --device vol1");
    await fleet.must("backup vol1 --wait");
    const lines = (await fleet.verbOut("snapshot vol0 vol1 --wait --json")).trim().split("\n");
    const taken = lines.map((line) => JSON.parse(line) as { volume: string; gid: number; isRestorable: boolean });
    expect(taken.map(({ volume, isRestorable }) => [volume, isRestorable]).sort()).toEqual([
      ["vol0", true],
      ["vol1", true],
    ]);
    await fleet.mustEqual("a0", "vol0", taken.find(({ volume }) => volume === "vol0")!.gid, model);
    const { code, out, err } = await fleet.verb("snapshot vol0 nosuch --wait");
    expect([code, out, err]).toEqual([1, expect.stringMatching(/^vol0 \d+ /), expect.stringContaining("nosuch")]);
    await fleet.must("forget vol1 --yes");
  },
  limitMs,
);

test(
  "kick reaches the others when one proxy is down, says which, and ends with its exit code",
  async () => {
    await fleet.kill("p0");
    const { code, out, err } = await fleet.verb("kick vol0 --json");
    const { servers, failed } = JSON.parse(out) as { servers: string[]; failed: { server: string }[] };
    expect([code, servers, failed.map(({ server }) => server)]).toEqual([3, ["s0", "p1"], ["p0"]]);
    expect(err).toContain("cannot reach server p0");
    expect((await fleet.verb("kick vol0 --server p0")).code).toBe(3);
    await fleet.run("p0");
  },
  limitMs,
);

test(
  "a snapshot or backup that is waited for says when the proxy does not know the volume, and what to type",
  async () => {
    for (const name of ["p0", "p1"]) {
      await fleet.proxy(name).call("stop", { volume: "vol0", mode: "force" });
      await fleet.proxy(name).call("clear", { volume: "vol0" });
    }
    const { code, err } = await fleet.verb("snapshot vol0 --wait --timeout 2s");
    expect([code, err]).toEqual([8, expect.stringContaining("make it known: walb init vol0 --device NAME")]);
    await fleet.must("init vol0 --device vol0");
    await proves("a0", "s0");
  },
  limitMs,
);

test(
  "a device is made by the daemon that WALB_DEVICE_SOCKET or --device-socket names",
  async () => {
    const socket = fleet.path("d0/control.sock");
    await fleet.must(`device create dev1 --size 1M --log-size 1M --device-socket ${socket}`);
    const env = { WALB_DEVICE_SOCKET: socket };
    const made = await runIn(fleet.directory, ["device", "create", "dev2", "--size", "1M", "--log-size", "1M"], {
      env,
    });
    expect([made.err, made.code]).toEqual(["", 0]);
    const { out } = await runIn(fleet.directory, ["device", "list", "--json"], { env });
    expect(out).toMatch(/"dev1".*"dev2"/s);
  },
  limitMs,
);

test(
  "a proxy that is lost with what it held is replaced, and a hash backup closes the gap",
  async () => {
    await fleet.add("p2");
    await fleet.kill("a0");
    await fleet.write("s0", "vol0", model);
    await fleet.lose("p0");
    await fleet.run("a0");
    const refused = await fleet.verb("replace p0 --with p2");
    expect([refused.code, refused.err]).toEqual([3, expect.stringContaining("walb replace p0 --with p2 --lost")]);
    expect(await fleet.must("replace p0 --with p2 --lost")).toContain("next: walb backup vol0 --hash --wait");
    const { proxies } = await fleet.storage("s0").call("status", {});
    expect(proxies.map(({ address }) => address)).toEqual([fleet.address("p2"), fleet.address("p1")]);
    fleet.takeOut("p0");
    await fleet.must("backup vol0 --hash --wait");
    await proves("a0", "s0");
  },
  limitMs,
);

test(
  "the only archive is lost: a new one takes its place, and a full backup begins anew",
  async () => {
    await fleet.lose("a0");
    await fleet.add("a1");
    expect(await fleet.must("replace a0 --with a1 --lost")).toContain("next: walb backup vol0 --full --wait");
    fleet.takeOut("a0");
    await fleet.must("backup vol0 --full --wait");
    await proves("a1", "s0");
  },
  limitMs,
);

test(
  "a storage is lost: another one that never heard of the volume ships the device of that name",
  async () => {
    await fleet.lose("s0");
    await fleet.add("s1");
    await fleet.makeDevice("s1", "vol0");
    await fleet.writeAt("s1", "vol0", Buffer.from(model), 0, model);
    const refused = await fleet.verb("replace s0 --with s1");
    expect([refused.code, refused.err]).toEqual([3, expect.stringContaining("walb replace s0 --with s1 --lost")]);
    await fleet.must("replace s0 --with s1 --lost");
    expect(await Bun.file(fleet.path("walb.toml")).text()).toContain('storage = "s1"');
    const status = await fleet.verb("status");
    expect([status.code, status.out.split("cannot reach server s0").length]).toEqual([1, 2]);
    fleet.takeOut("s0");
    await proves("a1", "s1");
    expect(await fleet.stateAt("s1", "vol0")).toBe("Target");
  },
  limitMs,
);

test(
  "shutdown --force --all ends them all, at once",
  async () => {
    await fleet.must("shutdown --force --all");
    for (const name of ["s1", "p1", "p2", "a1"]) expect([name, await fleet.exited(name)]).toEqual([name, 0]);
    await fleet.run("s1");
    await fleet.run("p1");
    await fleet.run("p2");
    await fleet.run("a1");
    await proves("a1", "s1");
  },
  limitMs,
);
