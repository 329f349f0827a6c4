"use strict";
// Sorting and filtering of tables. Without JavaScript the tables are complete, in the order of the config.
(() => {
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };
  const compare = (a, b) => {
    const x = parseFloat(a), y = parseFloat(b);
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, "en", { numeric: true });
  };
  const isMissing = (value) => value === "" || value === "nan";

  for (const table of document.querySelectorAll("table.sortable")) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const descending = header.getAttribute("aria-sort") === "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows];
        rows.sort((a, b) => {
          const x = valueOf(a, column), y = valueOf(b, column);
          // What is missing stays at the end, whichever way.
          if (isMissing(x) || isMissing(y)) return isMissing(x) - isMissing(y);
          return descending ? compare(y, x) : compare(x, y);
        });
        body.append(...rows);
      });
    });
  }

  // What is folded away on screen belongs on paper.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));

  const filter = document.getElementById("case-filter");
  const rows = [...document.getElementById("case-table").tBodies[0].rows];
  const count = document.getElementById("case-count");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = [0, 1, 2].map((column) => row.cells[column].textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  filter.addEventListener("input", apply);
  apply();
})();
