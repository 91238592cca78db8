"use strict";
// Sorts and filters the tables, and opens what a link leads to. Without it the page is whole, only still.

function keyOf(cell) {
  const text = cell?.textContent.trim() ?? "";
  return { number: parseFloat(cell?.dataset.value ?? text), text };
}

function sortBy(table, header, column) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [keyOf(row.children[column]), row]);
  const numeric = rows.some(([key]) => !Number.isNaN(key.number));
  const last = (key) => key.text === "" || (numeric && Number.isNaN(key.number));
  rows.sort(([one], [other]) => {
    if (last(one) || last(other)) return last(one) - last(other);  // in both directions
    const order = numeric ? one.number - other.number : one.text.localeCompare(other.text);
    return descending ? -order : order;
  });
  for (const [, row] of rows) body.append(row);
}

function sortable(table) {
  const heads = [...table.tHead.rows];
  const names = [...heads[0].querySelectorAll('th[scope="col"]')];
  const lasts = heads.length > 1 ? [...heads[heads.length - 1].querySelectorAll('th[scope="col"]')] : [];
  [...names, ...lasts].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(table, header, column));
  });
}

function filterable(table, region) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  input.type = "search";
  label.className = "filter";
  label.append(`Filter ${region.getAttribute("aria-label")}: `, input, count);
  region.before(label);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${table.tBodies[0].rows.length} rows` : "";
  });
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target; node; node = node.parentElement) {
    if (node instanceof HTMLDetailsElement) node.open = true;
  }
  if (target) {
    target.scrollIntoView();
    (target.querySelector("summary") ?? target).focus?.();
  }
}

for (const region of document.querySelectorAll(".scroll")) {
  const table = region.querySelector("table");
  if (table && table.tHead && table.tBodies.length) {
    sortable(table);
    if (table.tBodies[0].rows.length > 8) filterable(table, region);
  }
}
window.addEventListener("hashchange", openTarget);
if (location.hash) openTarget();
