import { describe, expect, test } from "bun:test";
import { editFleet } from "../../src/fleet/edit.ts";
import { parseFleet } from "../../src/fleet/fleet.ts";

const text = `# our fleet
[servers.s0]
role = "storage"   # the database host
address = "pc1:10000"
[servers.s1]
role = "storage"
address = "pc3:10000"

[servers.a0]
role = "archive"
address = "pc2:10200"
primary = true # for now
[servers.a1]
role = "archive"
address = "pc4:10200"
[volumes.vol0]
storage = "s0"
replicate = ["a1"]
[volumes.vol1]
keep = { all = "2h" }
`;

describe("the fleet file", () => {
  test("gets another primary archive, and keeps its comments", () => {
    const edited = editFleet(text, "walb.toml", { kind: "primary", archive: "a1" });
    expect(
      parseFleet(edited, "f")
        .servers.filter(({ isPrimary }) => isPrimary)
        .map(({ name }) => name),
    ).toEqual(["a1"]);
    expect(edited).toContain("# our fleet");
    expect(edited).toContain("# the database host");
    expect(editFleet(edited, "walb.toml", { kind: "primary", archive: "a1" })).toBe(edited);
  });

  test("gets another storage for a volume, whether it named one, has a table, or not", () => {
    for (const volume of ["vol0", "vol1", "vol2"]) {
      const edited = editFleet(text, "walb.toml", { kind: "storage", volume, storage: "s1" });
      const { volumes } = parseFleet(edited, "f");
      expect(volumes[volume]).toMatchObject({ storage: "s1" });
      if (volume !== "vol0") expect(volumes.vol0).toEqual({ storage: "s0", replicate: ["a1"] });
      expect(volumes.vol1?.keep).toEqual({ all: "2h" });
    }
  });

  test("gets another archive in the lists of replicas", () => {
    const more = text.replace(
      "[volumes.vol0]",
      '[servers.a2]\nrole = "archive"\naddress = "pc5:10200"\n[volumes.vol0]',
    );
    const edited = editFleet(more, "walb.toml", { kind: "replica", from: "a1", to: "a2" });
    expect(parseFleet(edited, "f").volumes.vol0?.replicate).toEqual(["a2"]);
  });

  test("that is written otherwise is left as it is, and the hint says what to write", () => {
    const inline = text.replace(
      '[volumes.vol0]\nstorage = "s0"\nreplicate = ["a1"]\n[volumes.vol1]\nkeep = { all = "2h" }\n',
      "",
    );
    const odd = `volumes = { vol0 = { storage = "s0" } }\n${inline}`;
    let hint = "";
    try {
      editFleet(odd, "walb.toml", { kind: "storage", volume: "vol0", storage: "s1" });
    } catch (error) {
      hint = (error as { hint: string }).hint;
    }
    expect(hint).toBe('[volumes.vol0] needs storage = "s1"');
  });
});
