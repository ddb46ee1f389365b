/** @module Breaks texts into lines for terminals. */

/** Width of help texts: what every terminal has. */
export const helpWidth = 80;

/**
 * Breaks paragraphs, which empty lines part, at spaces so that no line is wider than `width`; a word that is wider alone
 * stays whole.
 */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split(/\n{2,}/)) {
    if (lines.length > 0) lines.push("");
    let line = "";
    for (const word of paragraph.split(/\s+/).filter((part) => part !== "")) {
      if (line === "") line = word;
      else if (Bun.stringWidth(line) + 1 + Bun.stringWidth(word) <= width) line += ` ${word}`;
      else {
        lines.push(line);
        line = word;
      }
    }
    lines.push(line);
  }
  return lines;
}

/** Two columns, the right one wrapped; where the left one is too wide the right one begins on the next line. */
export function renderTwoColumns(rows: readonly (readonly [string, string])[], leftWidthMax = 26): string {
  const fitting = rows.map(([left]) => Bun.stringWidth(left)).filter((width) => width <= leftWidthMax);
  const leftWidth = Math.max(0, ...fitting);
  let text = "";
  for (const [left, right] of rows) {
    const [first = "", ...more] = wrapText(right, helpWidth - leftWidth - 4);
    const indent = " ".repeat(leftWidth + 4);
    const isFitting = Bun.stringWidth(left) <= leftWidth;
    text += isFitting ? `  ${left}${" ".repeat(leftWidth - Bun.stringWidth(left))}  ${first}`.trimEnd() : `  ${left}`;
    text += "\n";
    for (const line of isFitting ? more : [first, ...more]) text += `${indent}${line}\n`;
  }
  return text;
}
