// Draws the photo, the segments' colors over it, their outlines, and marks of those pointed at and selected.
const part = (name) => element.querySelector(name);
const [caption, empty, stage, photo, tip, bar, list] =
  ["figcaption", ".gs-empty", ".gs-stage", "img", ".gs-tip", ".gs-bar", ".gs-list"].map(part);
const [fill, lines, marks] = [".gs-fill", ".gs-lines", ".gs-marks"].map(part);
const buttons = Object.fromEntries([...bar.querySelectorAll("button")].map((button) => [button.dataset.does, button]));
const LISTED = 24; // segments; smaller ones are found by pointing
const HINT = matchMedia("(pointer: coarse)").matches
  ? "Tap segments to select them."
  : "Click a segment to select it, shift-click for more.";
const WHITE = 0xffffffff, VEIL = 0x90ffffff, TINT = 0x40ffffff, HOVERED = 0xff1c1614, SELECTED = 0xffeb6325; // ABGR
let view = {}, labels = null, hovered = -1, selected = new Set(), shown = 0;

// The label of each pixel, whose color is the label: R + 256 G + 65536 B.
async function labelsOf(uri, width, height) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return new Uint32Array(context.getImageData(0, 0, width, height).data.buffer).map((pixel) => pixel & 0xffffff);
}

function paint(canvas, colorAt) {
  const { width, height } = view;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) pixels[i] = colorAt(i, x, y);
  context.putImageData(image, 0, 0);
}

function drawSegments() {
  const { width, height } = view;
  const colors = Uint32Array.from(view.colors, ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0);
  paint(fill, (i) => colors[labels[i]]);
  paint(lines, (i, x, y) => {
    const alike = (x + 1 === width || labels[i] === labels[i + 1]) && (y + 1 === height || labels[i] === labels[i + width]);
    return alike ? 0 : WHITE;
  });
}

function drawMarks() {
  const { width, height } = view, rim = Math.max(2, Math.round(width / 350));
  const kinds = new Uint8Array(view.areas.length); // 1 for selected ones, 2 for the one pointed at
  for (const label of selected) kinds[label] = 1;
  if (hovered >= 0) kinds[hovered] |= 2;
  const kindAt = (i) => kinds[labels[i]];
  paint(marks, (i, x, y) => {
    const kind = kindAt(i);
    if (!kind) return selected.size ? VEIL : 0;
    const inside =
      x >= rim && x + rim < width && y >= rim && y + rim < height &&
      kindAt(i - rim) === kind && kindAt(i + rim) === kind &&
      kindAt(i - rim * width) === kind && kindAt(i + rim * width) === kind;
    if (inside) return kind & 2 ? TINT : 0;
    return kind & 1 ? SELECTED : HOVERED;
  });
  for (const chip of list.children) {
    const label = Number(chip.dataset.label);
    chip.classList.toggle("gs-hovered", label === hovered);
    chip.setAttribute("aria-pressed", selected.has(label));
  }
}

const areaOf = (some) => some.reduce((area, label) => area + view.areas[label], 0);

function sizeOf(some) {
  const area = areaOf(some), percent = (100 * area) / areaOf([...view.areas.keys()]);
  const share = percent < 0.1 ? "<0.1" : percent.toFixed(percent < 10 ? 1 : 0);
  return [share + "%", area.toLocaleString("en") + " pixels"];
}

const nameOf = (label) => view.names?.[label] || "Segment " + label;
const words = (label) => [nameOf(label), ...sizeOf([label])].join(" · ");

function hover(label) {
  if (label === hovered) return;
  hovered = label;
  drawMarks();
}

// Selects segments, and tells the server and the other picture, whose selection ends.
function select(some) {
  if (!some.size && !selected.size) return;
  mark(some);
  trigger("pick", { which: view.which, labels: [...selected] });
  document.dispatchEvent(new CustomEvent("gs-select", { detail: element }));
}

function mark(some) {
  selected = some;
  drawMarks();
  drawBar();
}

// A click selects one segment, with shift or by touch one more or less; on the only one that is, none.
function click(label, event) {
  const some = new Set(event.shiftKey || event.pointerType === "touch" ? selected : []);
  if (some.has(label) || (selected.size === 1 && selected.has(label))) some.delete(label);
  else some.add(label);
  select(some);
}

function drawBar() {
  const some = [...selected], name = some.length === 1 ? nameOf(some[0]) : some.length + " segments";
  bar.firstElementChild.textContent = some.length ? [name, ...sizeOf(some)].join(" · ") : HINT;
  for (const does of ["cutout.png", "masks.json", "clear"]) buttons[does].hidden = !some.length;
  buttons.join.hidden = some.length < 2;
  buttons.undo.hidden = !view.joined;
}

function drawList() {
  const present = [...view.areas.keys()].filter((label) => view.areas[label] > 0);
  present.sort((a, b) => view.areas[b] - view.areas[a]);
  list.replaceChildren(
    ...present.slice(0, LISTED).map((label) => {
      const chip = document.createElement("button"), swatch = document.createElement("span");
      chip.type = "button";
      chip.dataset.label = label;
      chip.title = words(label);
      swatch.style.background = "rgb(" + view.colors[label].join(",") + ")";
      chip.append(swatch, (view.names?.[label] || label) + " · " + sizeOf([label])[0]);
      chip.onmouseenter = chip.onfocus = () => hover(label);
      chip.onmouseleave = chip.onblur = () => hover(-1);
      chip.onclick = (event) => click(label, event);
      return chip;
    }),
    present.length > LISTED ? "and " + (present.length - LISTED) + " smaller" : ""
  );
  element.dataset.shown = String(present.length);
}

async function show() {
  const turn = ++shown, next = props.value || {};
  const read = next.labels ? await labelsOf(next.labels, next.width, next.height) : null;
  if (turn !== shown) return;
  [view, labels, hovered, selected] = [next, read, -1, new Set()];
  empty.hidden = Boolean(view.photo);
  photo.hidden = !view.photo;
  if (view.photo) photo.src = view.photo;
  caption.textContent = view.title || "";
  tip.hidden = true;
  for (const canvas of [fill, lines, marks]) canvas.hidden = !labels;
  stage.classList.toggle("gs-live", Boolean(labels));
  bar.hidden = !labels;
  if (labels) {
    drawBar();
    drawSegments();
    drawList();
    drawMarks();
  } else {
    list.replaceChildren();
    element.dataset.shown = view.photo ? "photo" : "";
  }
}

function labelAt(event) {
  const box = stage.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * view.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * view.height);
  return labels && x >= 0 && y >= 0 && x < view.width && y < view.height ? labels[y * view.width + x] : -1;
}

stage.addEventListener("pointermove", (event) => {
  const label = event.pointerType === "touch" ? -1 : labelAt(event);
  if (labels) hover(label);
  tip.hidden = label < 0;
  if (label < 0) return;
  const box = stage.getBoundingClientRect();
  tip.textContent = words(label);
  tip.style.left = Math.max(Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4), 4) + "px";
  tip.style.top = Math.min(event.clientY - box.top + 18, box.height - tip.offsetHeight - 4) + "px";
});
stage.addEventListener("pointerleave", () => {
  tip.hidden = true;
  if (labels) hover(-1);
});
stage.addEventListener("click", (event) => labelAt(event) >= 0 && click(labelAt(event), event));
bar.addEventListener("click", ({ target }) => {
  const does = target.dataset.does, event = { which: view.which, labels: [...selected] };
  if (does === "clear") select(new Set());
  else if (does === "join" || does === "undo") trigger(does, event);
  else if (does) trigger("save", { ...event, kind: does });
});
document.addEventListener("keydown", (event) => event.key === "Escape" && element.isConnected && select(new Set()));
// Beside the picture is where no component is, nor a dropdown's list, which is gone when a press on it becomes a click.
const isBeside = (target) => [bar, list, caption].includes(target) || !target.closest(".block, button, [role=listbox], [role=alert]");
let pressed = false;
document.addEventListener("pointerdown", ({ target }) => (pressed = isBeside(target)), true);
document.addEventListener("click", ({ target }) => element.isConnected && pressed && isBeside(target) && select(new Set()));
document.addEventListener("gs-select", ({ detail }) => detail !== element && labels && selected.size && mark(new Set()));
watch("value", show);
show();
