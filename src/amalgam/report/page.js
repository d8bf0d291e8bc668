"use strict";

// Tables to search, filter and page through. Cells are inserted as text, never as markup.
const PAGE = 25; // rows per page, so that thousands of rows stay fast
for (const place of document.querySelectorAll(".browser")) startBrowser(place);

function startBrowser(place) {
  const rows = JSON.parse(place.querySelector("script").textContent);
  const texts = rows.map(([cells]) => cells.flat().join("\n").toLowerCase());
  const heads = [...place.querySelectorAll("thead th")].map((head) => head.textContent);
  const form = place.querySelector("form");
  const pages = place.querySelector(".pages");
  const filters = [...form.querySelectorAll("select")];
  let found = [];
  let page = 0;

  function filter() {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = filters.filter((select) => select.value).map((select) => [select.dataset.filter, +select.value]);
    found = rows.filter(
      ([, facets], index) =>
        words.every((word) => texts[index].includes(word)) && chosen.every(([place, option]) => facets[place] === option)
    );
    page = 0;
    place.querySelector(".hits").textContent = `${found.length} of ${rows.length} rows match`;
    show();
  }

  function show() {
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    const body = found.slice(page * PAGE, (page + 1) * PAGE).map(([cells]) => writeRow(cells, heads));
    place.querySelector("tbody").replaceChildren(...body);
    pages.hidden = last === 0;
    pages.querySelector("span").textContent = `Page ${page + 1} of ${last + 1}`;
    const [previous, next] = pages.querySelectorAll("button");
    previous.disabled = page === 0;
    next.disabled = page === last;
  }

  place.querySelector(".unscripted").hidden = true;
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  pages.addEventListener("click", (event) => {
    if (!event.target.dataset.step) return;
    page += +event.target.dataset.step;
    show();
    place.querySelector(".rows").scrollTop = 0;
  });
  filter();
}

function writeRow(cells, heads) {
  const row = document.createElement("tr");
  cells.forEach((cell, index) => {
    const [text, small] = Array.isArray(cell) ? cell : [cell, ""];
    const place = document.createElement("td");
    place.dir = "auto";
    place.dataset.head = heads[index];
    place.append(text);
    if (small) {
      const note = document.createElement("small");
      note.textContent = small;
      place.append(note);
    }
    row.append(place);
  });
  return row;
}
