/** @module Tables for terminals: a header, columns as wide as needed, numbers to the right. */

/** A column: its title, and whether it holds numbers. */
export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/** Renders rows of cells under the columns' titles; two spaces between columns, none at the end of a line. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const lines = [columns.map((column) => column.title), ...rows];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => Bun.stringWidth(line[index] ?? ""))));
  return lines.map((line) => `${renderLine(columns, widths, line)}\n`).join("");
}

function renderLine(columns: readonly Column[], widths: readonly number[], line: readonly string[]): string {
  const cells = columns.map((column, index) => {
    const text = line[index] ?? "";
    const space = " ".repeat((widths[index] ?? 0) - Bun.stringWidth(text));
    return column.align === "right" ? space + text : text + space;
  });
  return cells.join("  ").trimEnd();
}
