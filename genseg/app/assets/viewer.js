// Draws the photo, the segments' colours over it and their boundaries; reports clicks.
const caption = element.querySelector("figcaption");
const empty = element.querySelector(".gs-empty");
const stage = element.querySelector(".gs-stage");
const photo = stage.querySelector("img");
const fill = stage.querySelector(".gs-fill");
const lines = stage.querySelector(".gs-lines");
const tip = stage.querySelector(".gs-tip");
const list = element.querySelector(".gs-list");
let view = {}, labels = null, hovered = -1, shown = 0;

async function pixelsOf(uri, width, height) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, width, height).data;
  return Uint8Array.from({ length: width * height }, (_, i) => data[4 * i]);
}

function share(label) {
  const whole = view.areas.reduce((a, b) => a + b, 0);
  const part = (100 * view.areas[label]) / whole;
  return (part >= 10 ? part.toFixed(0) : part.toFixed(1)) + "%";
}

function words(label) {
  return "Segment " + label + ": " + view.areas[label].toLocaleString("en") + " pixels, " + share(label);
}

function drawFill() {
  const { width, height, colors } = view;
  fill.width = width;
  fill.height = height;
  const context = fill.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < labels.length; i++) {
    const color = colors[labels[i]];
    image.data.set([color[0], color[1], color[2], 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

function drawLines() {
  const { width, height } = view;
  lines.width = width;
  lines.height = height;
  const marked = hovered >= 0 ? hovered : (view.picked ?? -1);
  const context = lines.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const own = labels[i];
      const right = x + 1 < width ? labels[i + 1] : own;
      const below = y + 1 < height ? labels[i + width] : own;
      if (own !== right || own !== below) image.data.set([255, 255, 255, 255], 4 * i);
      else if (marked >= 0 && own !== marked) image.data.set([250, 250, 250, 150], 4 * i);
    }
  }
  context.putImageData(image, 0, 0);
  for (const chip of list.children) chip.classList.toggle("gs-marked", Number(chip.dataset.label) === marked);
}

function mark(label) {
  if (label === hovered) return;
  hovered = label;
  drawLines();
}

function drawList() {
  const present = view.areas.map((_, label) => label).filter((label) => view.areas[label] > 0);
  present.sort((a, b) => view.areas[b] - view.areas[a]);
  list.replaceChildren(
    ...present.map((label) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.dataset.label = label;
      chip.title = words(label);
      const swatch = document.createElement("span");
      swatch.style.background = "rgb(" + view.colors[label].join(",") + ")";
      chip.append(swatch, label + " · " + share(label));
      chip.onmouseenter = chip.onfocus = () => mark(label);
      chip.onmouseleave = chip.onblur = () => mark(-1);
      chip.onclick = () => trigger("pick", { label });
      return chip;
    })
  );
}

async function show() {
  const turn = ++shown;
  view = props.value || {};
  hovered = -1;
  empty.hidden = Boolean(view.photo);
  photo.hidden = !view.photo;
  caption.textContent = view.title || "";
  const read = view.labels ? await pixelsOf(view.labels, view.width, view.height) : null;
  if (turn !== shown) return;
  labels = read;
  if (view.photo) photo.src = view.photo;
  fill.hidden = lines.hidden = !labels;
  tip.hidden = true;
  stage.classList.toggle("gs-live", Boolean(labels));
  if (labels) {
    drawList();
    drawFill();
    drawLines();
  } else {
    list.replaceChildren();
  }
  element.dataset.shown = labels ? String(view.areas.filter((area) => area > 0).length) : view.photo ? "photo" : "";
}

function labelAt(event) {
  const box = lines.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * view.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * view.height);
  return x >= 0 && y >= 0 && x < view.width && y < view.height ? labels[y * view.width + x] : -1;
}

stage.addEventListener("mousemove", (event) => {
  if (!labels) return;
  const label = labelAt(event);
  mark(label);
  tip.hidden = label < 0;
  if (label < 0) return;
  const box = stage.getBoundingClientRect();
  tip.textContent = words(label);
  tip.style.left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4) + "px";
  tip.style.top = event.clientY - box.top + 18 + "px";
});
stage.addEventListener("mouseleave", () => {
  if (!labels) return;
  tip.hidden = true;
  mark(-1);
});
stage.addEventListener("click", (event) => {
  if (labels && labelAt(event) >= 0) trigger("pick", { label: labelAt(event) });
});
watch("value", show);
show();
