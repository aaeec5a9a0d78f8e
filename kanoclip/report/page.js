"use strict";

// Sortable table. A header cycles through two orders, numbers from the highest and text from A, and then as it was.

function columnNames(table) {
  const rows = [...table.tHead.rows].map((row) => [...row.cells].flatMap((cell) => Array(cell.colSpan).fill(cell.textContent.trim())));
  return rows[0].map((_, column) => rows.map((row) => row[column]).join(" ").trim() || "method");
}

function compare(a, b) {
  const [x, y] = [Number.parseFloat(a), Number.parseFloat(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function sortRows(rows, column, order) {
  const text = (row) => row.cells[column].textContent;
  const missing = (row) => Number(text(row) === "-");
  const sign = order === "ascending" ? 1 : -1;
  return [...rows].sort((a, b) => missing(a) - missing(b) || sign * compare(text(a), text(b)));
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const names = columnNames(table);
  const headers = [...[...table.tHead.rows].at(-1).cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent.trim() || names[column];
    button.ariaLabel = names[column];
    header.replaceChildren(button);
    header.scope = "col";
    header.ariaSort = "none";
    const orders = column === 0 ? ["ascending", "descending", "none"] : ["descending", "ascending", "none"];
    button.addEventListener("click", () => {
      const order = orders[(orders.indexOf(header.ariaSort) + 1) % orders.length];
      for (const other of headers) other.ariaSort = "none";
      header.ariaSort = order;
      body.replaceChildren(...(order === "none" ? original : sortRows(original, column, order)));
    });
  });
}

// Gallery: three choices decide which tiles are shown. Text from data goes in as text, never as HTML.

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

const number = (value, digits = 4) => String(Number(value.toPrecision(digits)));

function picture(caption, sources, otherwise) {
  const images = sources.map((src, i) => element("img", { src, alt: i === sources.length - 1 ? caption : "" }));
  const frame = element("div", { className: "frame" }, ...(images.length ? images : [otherwise]));
  return element("figure", {}, frame, element("figcaption", {}, caption));
}

function tileElement(tile, shown, masks) {
  const mistake = tile.verdict !== "correct";
  const truth = shown.anomalous ? `anomalous: ${shown.defect}` : "normal";
  const pictures = [picture("image", [shown.image])];
  if (masks) pictures.push(picture("mask", shown.mask ? [shown.mask] : [], shown.anomalous ? "no mask" : "nothing to mark"));
  pictures.push(picture("heat map", tile.heat ? [shown.image, tile.heat] : [], "no map"));
  return element(
    "li",
    { className: mistake ? "mistake" : "" },
    element("p", {}, element("span", { className: "verdict" }, `${mistake ? "✗" : "✓"} ${tile.verdict}`), element("span", {}, truth)),
    element("div", { className: "pictures" }, ...pictures),
    element("p", {}, element("span", {}, `image score ${number(tile.score)}`)),
    element("span", { className: "file" }, shown.file),
  );
}

function summaryText(view, threshold) {
  const shown = `${view.tiles.length} of ${view.images} images shown.`;
  if (threshold === null) return `${shown} All images of the dataset have the same label: there is no threshold and no mistake.`;
  return `${shown} At the image score threshold ${number(threshold)}: missed ${view.missed}, false alarms ${view.false_alarms}.`;
}

function fill(select, names) {
  const before = select.value;
  select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  if (names.includes(before)) select.value = before;
}

function startGallery(data) {
  const form = document.getElementById("choice");
  const { dataset, class: classes, method } = form.elements;

  function show() {
    const { masks, pictures, methods } = data[dataset.value];
    const { threshold, scale, classes: views } = methods[method.value];
    const view = views[classes.value];
    document.getElementById("summary").textContent = summaryText(view, threshold);
    const legend = document.getElementById("scale");
    legend.hidden = scale === null;
    if (scale) legend.querySelectorAll("span").forEach((end, i) => { end.textContent = number(scale[i], 2); });
    const tiles = view.tiles.map((tile) => tileElement(tile, pictures[tile.row], masks));
    document.getElementById("tiles").replaceChildren(...tiles);
  }

  function open() {
    const { methods } = data[dataset.value];
    fill(method, Object.keys(methods));
    fill(classes, Object.keys(methods[method.value].classes));
    show();
  }

  fill(dataset, Object.keys(data));
  dataset.addEventListener("change", open);
  classes.addEventListener("change", show);
  method.addEventListener("change", show);
  open();
}

document.querySelectorAll("table").forEach(makeSortable);
const galleryData = document.getElementById("gallery-data");
if (galleryData) startGallery(JSON.parse(galleryData.textContent));
