"use strict";
const STEP = 120; // tiles added at a time: a browser lays out what is near the screen only
const all = JSON.parse(document.getElementById("data").textContent);
const tiles = document.getElementById("tiles");
const end = document.getElementById("end");
const decision = document.getElementById("decision");
const search = document.getElementById("search");
const opacity = document.getElementById("opacity");
let chosen = all;
let shown = 0;

function picture(address, text) {
  const image = document.createElement("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = text;
  image.src = address;
  return image;
}

function tile(one) {
  const figure = document.createElement("figure");
  figure.className = one.decision;
  const stack = document.createElement("a");
  stack.className = "stack";
  if (one.files.heat) stack.href = one.files.heat;
  if (one.image) stack.append(picture(one.image, one.name), picture(one.heat, ""));
  const caption = document.createElement("figcaption");
  const score = document.createElement("b");
  score.textContent = one.score.toFixed(4);
  const name = document.createElement("span");
  name.className = "name";
  name.title = name.textContent = one.name;
  const regions = one.regions === 1 ? "1 region" : `${one.regions} regions`;
  caption.append(score, ` ${one.decision}`, name, regions);
  for (const [kind, address] of Object.entries(one.files)) {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = kind;
    caption.append(" ", link);
  }
  figure.append(stack, caption);
  return figure;
}

function fill() {
  while (shown < chosen.length && end.getBoundingClientRect().top < window.innerHeight + 1200) {
    const next = chosen.slice(shown, shown + STEP);
    tiles.append(...next.map(tile));
    shown += next.length;
  }
}

function choose() {
  const text = search.value.toLowerCase();
  chosen = all.filter(
    (one) => (!decision.value || one.decision === decision.value) && one.name.toLowerCase().includes(text)
  );
  tiles.replaceChildren();
  shown = 0;
  document.getElementById("count").textContent = `${chosen.length} images`;
  fill();
}

decision.addEventListener("change", choose);
search.addEventListener("input", choose);
opacity.addEventListener("input", () =>
  document.documentElement.style.setProperty("--opacity", opacity.value / 100)
);
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("scroll", fill, { passive: true });
window.addEventListener("resize", fill);
choose();
