// Takes an image by file, drop, paste or example; its bytes go to the server as they are.
const zone = element.querySelector(".gs-drop");
const input = element.querySelector("input");
const problem = element.querySelector(".gs-problem");

function say(words) {
  problem.textContent = words;
  problem.hidden = !words;
}

async function send(file) {
  say("");
  if (file.size > props.value.most) {
    say("the file has more than the " + props.value.most / 1e6 + " MB allowed here; scale it down");
    return;
  }
  zone.classList.add("gs-busy");
  try {
    const reply = await fetch("image/" + props.value.token, {
      method: "POST",
      body: file,
      headers: { "x-name": encodeURIComponent(file.name || "image.png") },
    });
    if (reply.ok) trigger("taken", {});
    else say(await reply.text());
  } catch {
    say("the image could not be sent; is genseg app still running?");
  } finally {
    zone.classList.remove("gs-busy");
    input.value = "";
  }
}

element.querySelector(".gs-browse").onclick = () => input.click();
input.onchange = () => input.files.length && send(input.files[0]);
zone.addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("gs-over");
});
zone.addEventListener("dragleave", () => zone.classList.remove("gs-over"));
zone.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("gs-over");
  if (event.dataTransfer.files.length && props.value.token) send(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file && props.value.token) send(file);
});
for (const button of element.querySelectorAll(".gs-examples button")) {
  button.onclick = () => {
    say("");
    trigger("example", { name: button.dataset.name });
  };
}

// Nothing can be sent before the server has said where to.
function ready() {
  if (!props.value.token) return;
  zone.dataset.ready = "true";
  for (const button of element.querySelectorAll("button")) button.disabled = false;
}
watch("value", ready);
ready();
