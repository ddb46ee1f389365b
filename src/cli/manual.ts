/**
 * @module The manual page walb(1), made from the declarations of the commands as help, reference and completion are. In
 * man(7) macros, which every man reads.
 */
import { errorCodes } from "../errors.ts";
import { exitTexts, flagHelp, flagLabel, usageLine } from "./help.ts";
import { commandLines, type WalbCommand } from "./program.ts";

const introduction = [
  "walb backs block volumes up continuously: every write is kept in order in a log on its host, the log is shipped as it",
  "grows, and the backup host gives the volume back as it was at any second. One executable is every part of it.",
].join("\n");

const notes: readonly (readonly [string, string])[] = [
  ["Sizes", "take K, M, G and T, powers of 1024."],
  ["Times", 'are "2026-11-21 14:03:05" (local), ISO 8601, or how long ago: \\-5m, \\-2h, \\-3d.'],
  ["Servers", "are host:port, or names from the fleet file."],
  ["Environment", "has every flag, too: \\-\\-device\\-data is WALB_DEVICE_DATA."],
  ["\\-\\-json", "prints one JSON value, to which fields may be added; an error is one line on standard error."],
];

/** The page. @param version shown at its foot. */
export async function renderManual(program: WalbCommand, version: string): Promise<string> {
  const lines = [
    `.TH WALB 1 "" "walb ${roff(version)}" "walb"`,
    ".SH NAME",
    "walb \\- continuous, point\\-in\\-time backup and replication of block volumes",
    ".SH SYNOPSIS",
    ".B walb",
    "\\fICOMMAND\\fR [\\fIFLAGS\\fR]",
    ".SH DESCRIPTION",
    introduction,
    ".SH CONVENTIONS",
    ...notes.flatMap(([name, text]) => [".TP", `\\fB${name}\\fR`, text]),
    ".SH COMMANDS",
  ];
  for (const { path, load } of commandLines(program)) {
    const verb = await load();
    lines.push(`.SS ${roff(usageLine(path, verb))}`, sentence(verb.summary));
    if (verb.description !== undefined) lines.push(".PP", ...verb.description.split("\n\n").map(paragraph));
    for (const { name, help } of verb.positionals ?? []) lines.push(".TP", `\\fI${roff(name)}\\fR`, roff(help));
    for (const [name, flag] of Object.entries(verb.flags)) {
      lines.push(".TP", `\\fB${roff(flagLabel(name, flag))}\\fR`, roff(flagHelp(flag)));
    }
    lines.push(".PP", "Examples:", ".nf", ...verb.examples.map((example) => `    ${roff(example)}`), ".fi");
    const exits = Object.entries(verb.exits ?? {});
    for (const [code, meaning] of exits) lines.push(".TP", `exit code ${code}`, roff(meaning));
  }
  lines.push(".SH EXIT STATUS");
  for (const [code, meaning] of Object.entries(exitTexts)) lines.push(".TP", `\\fB${code}\\fR`, roff(meaning));
  lines.push(".SH ERRORS", "Codes of errors, in \\-\\-json and in the HTTP API, with the exit status of each:");
  for (const [code, { exit }] of Object.entries(errorCodes)) lines.push(".TP", `\\fB${roff(code)}\\fR`, `${exit}`);
  lines.push(
    ".SH FILES",
    ".TP",
    "\\fI./walb.toml\\fR, \\fI/etc/walb/walb.toml\\fR",
    "the fleet: servers, volumes, rules",
    ".TP",
    "\\fI/var/lib/walb/ROLE\\fR",
    "data of a daemon, unless \\-\\-data says otherwise",
  );
  return `${lines.join("\n")}\n`;
}

function sentence(text: string): string {
  return `${roff(text)}.`;
}

function paragraph(text: string): string {
  return roff(text.replaceAll("\n", " "));
}

/** Text for roff: no line of it is a request, a dash is one that can be copied. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gm, "\\&$1");
}
