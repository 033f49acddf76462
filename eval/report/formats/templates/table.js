"use strict";
(() => {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const filter = document.getElementById("filter");
  const count = document.getElementById("count");

  function value(row, column) {
    const text = row.cells[column].dataset.value;
    return heads[column].classList.contains("number") && text !== "" ? Number(text) : text;
  }

  function compare(a, b) {
    return typeof a === "number" ? a - b : a.localeCompare(b);
  }

  function sort(column) {
    const head = heads[column];
    const before = head.getAttribute("aria-sort");
    const first = head.classList.contains("number") ? "descending" : "ascending";
    const second = first === "descending" ? "ascending" : "descending";
    const order = before === first ? second : first;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    // What has no value stays last, whichever way the column is sorted.
    const rows = [...body.rows].sort((x, y) => {
      const [a, b] = [value(x, column), value(y, column)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * compare(a, b);
    });
    body.append(...rows);
  }

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${body.rows.length}` : "";
  }

  for (const box of document.querySelectorAll("#chooser input")) {
    box.addEventListener("change", () => {
      for (const row of table.rows) row.cells[box.value].hidden = !box.checked;
    });
  }
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));
  filter.addEventListener("input", show);
})();
