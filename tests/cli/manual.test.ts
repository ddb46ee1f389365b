import { expect, test } from "bun:test";
import { program } from "../../src/cli/commands.ts";
import { renderManual } from "../../src/cli/manual.ts";
import { commandLines } from "../../src/cli/program.ts";

test("the manual page has every command with every flag, and no line that man would take for a request", async () => {
  const page = await renderManual(program, "1.2.3");
  for (const { path, load } of commandLines(program)) {
    const verb = await load();
    const name = ["walb", ...path].join(" ").replaceAll("-", "\\-");
    expect(page).toContain(`.SS ${name}`);
    for (const flag of Object.keys(verb.flags)) expect(page).toContain(`\\-\\-${flag.replaceAll("-", "\\-")}`);
  }
  const requests = page.split("\n").filter((line) => /^[.']/.test(line));
  const known = /^\.(TH|SH|SS|TP|PP|B|nf|fi)\b/;
  expect(requests.filter((line) => !known.test(line))).toEqual([]);
});

test.skipIf(Bun.which("man") === null)("man shows the page without a warning", async () => {
  const page = await renderManual(program, "1.2.3");
  const child = Bun.spawn(["man", "--warnings", "-l", "-"], {
    stdin: new Blob([page]),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, MANWIDTH: "100", MANPAGER: "cat", LC_ALL: "C.UTF-8" },
  });
  const [text, warnings] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect(await child.exited).toBe(0);
  expect(warnings).toBe("");
  expect(text).toContain("walb restore VOL");
});
