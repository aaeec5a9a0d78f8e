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

// As many decimals as tell numbers of this spread apart: three digits of it.
function rounding(values) {
  const spread = Math.max(...values) - Math.min(...values);
  const decimals = spread > 0 ? Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(spread)))) : 3;
  return (value) => value.toFixed(decimals);
}

function picture(caption, sources, otherwise) {
  const images = sources.map((src, i) => element("img", { src, alt: i === sources.length - 1 ? caption : "" }));
  const frame = element("span", { className: "frame" }, ...(images.length ? images : [otherwise]));
  return element("span", { className: "picture" }, frame, element("span", { className: "caption" }, caption));
}

function truthOf(shown) {
  if (shown.anomalous === null) return "no label";
  return shown.anomalous ? `anomalous: ${shown.defect}` : "normal";
}

function tileElement(tile, shown, masks, view, round) {
  const mistake = !["correct", ""].includes(tile.verdict);
  const pictures = [picture("image", [shown.image])];
  if (masks) pictures.push(picture("mask", shown.mask ? [shown.mask] : [], shown.anomalous ? "no mask" : "nothing to mark"));
  pictures.push(picture("heat map", tile.heat ? [shown.image, tile.heat] : [], "no map"));
  const verdict = tile.verdict ? [element("span", { className: "verdict" }, `${mistake ? "✗" : "✓"} ${tile.verdict}`)] : [];
  return element(
    "li",
    { className: mistake ? "mistake" : "" },
    element("p", {}, ...verdict, element("span", {}, truthOf(shown))),
    element("button", { type: "button", className: "pictures", ariaLabel: `Enlarge: ${shown.file}` }, ...pictures),
    element("p", {}, element("span", {}, `image score ${round(tile.score)}`), element("span", {}, `rank ${tile.rank} of ${view.images}`)),
    element("span", { className: "file" }, shown.file),
  );
}

function summaryText(view, labelled, threshold, round) {
  const shown = `${view.tiles.length} of ${view.images} images shown`;
  if (!labelled) return `${shown}, the highest score first. They have no labels, so nothing is called correct or wrong.`;
  if (threshold === null) return `${shown}. All images of the dataset have the same label: there is no threshold and no mistake.`;
  return `${shown}. At the image score threshold ${round(threshold)}: missed ${view.missed}, false alarms ${view.false_alarms}.`;
}

function fill(select, names, first) {
  const before = select.value;
  select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  select.value = names.includes(before) ? before : first;
}

function startGallery({ opens, datasets }) {
  const form = document.getElementById("choice");
  const { dataset, class: classes, method } = form.elements;

  function show() {
    const { masks, pictures, methods } = datasets[dataset.value];
    const { threshold, scale, classes: views } = methods[method.value];
    const view = views[classes.value];
    const round = rounding(Object.values(views).flatMap((of) => of.tiles.map((tile) => tile.score)));
    const labelled = view.tiles.every((tile) => pictures[tile.row].anomalous !== null);
    document.getElementById("summary").textContent = summaryText(view, labelled, threshold, round);
    const legend = document.getElementById("scale");
    legend.hidden = scale === null;
    if (scale) legend.querySelectorAll("span").forEach((end, i) => { end.textContent = rounding(scale)(scale[i]); });
    const tiles = view.tiles.map((tile) => tileElement(tile, pictures[tile.row], masks, view, round));
    document.getElementById("tiles").replaceChildren(...tiles);
  }

  function open() {
    const { methods } = datasets[dataset.value];
    const names = Object.keys(methods);
    fill(method, names, names.includes(opens.method) ? opens.method : names.at(-1));
    fill(classes, Object.keys(methods[method.value].classes), opens.classes[dataset.value]);
    show();
  }

  fill(dataset, Object.keys(datasets), opens.dataset);
  dataset.addEventListener("change", open);
  classes.addEventListener("change", show);
  method.addEventListener("change", show);
  open();
}

// Enlarging: a click on a figure or on the pictures of a tile shows them as large as they are, or as the window is.

function startEnlarging(dialog) {
  const content = dialog.querySelector(".content");

  function enlarge(button) {
    const figure = button.classList.contains("figure");
    const copy = element("div", { className: button.className }, ...button.cloneNode(true).childNodes);
    const about = figure ? [] : [...button.closest("li").children].filter((part) => part !== button).map((part) => part.cloneNode(true));
    if (figure) copy.style.width = `max(100%, ${button.querySelector("img").getAttribute("width")}px)`;
    content.replaceChildren(copy, ...about);
    dialog.showModal();
    content.scrollTo(0, 0);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("main button.figure, main button.pictures");
    if (button) enlarge(button);
    else if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => content.replaceChildren());
}

document.querySelectorAll("table").forEach(makeSortable);
const galleryData = document.getElementById("gallery-data");
if (galleryData) startGallery(JSON.parse(galleryData.textContent));
startEnlarging(document.getElementById("large"));
