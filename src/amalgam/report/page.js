"use strict";

// Charts. The interpreter ("ast") spares the page the right to evaluate strings as code.
for (const place of document.querySelectorAll(".chart")) {
  const spec = JSON.parse(place.querySelector("script").textContent);
  const target = document.createElement("div");
  place.append(target);
  vegaEmbed(target, spec, {
    ast: true,
    actions: false,
    renderer: "svg",
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  }).catch((error) => {
    target.textContent = `This chart could not be drawn: ${error.message}`;
  });
}

// The browser of synthetic rows.
const filter = document.getElementById("filter");
if (filter) {
  const rows = [...document.querySelectorAll("#samples tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const show = () => {
    const wanted = filter.elements.words.value.toLowerCase().trim();
    const outcome = filter.elements.outcome.value;
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = texts[index].includes(wanted) && (!outcome || row.dataset.outcome === outcome);
      row.hidden = !fits;
      shown += fits;
    });
    document.getElementById("shown").textContent = `${shown} of ${rows.length} rows`;
  };
  filter.hidden = false;
  filter.addEventListener("input", show);
  filter.addEventListener("submit", (event) => event.preventDefault());
  show();
}
