"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const named = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; named(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", named);
  named();

  const data = document.getElementById("data");
  if (!data) return;
  const { cases, classes, runs } = JSON.parse(data.textContent);
  const find = (id) => document.getElementById(id);
  const make = (tag, parent, properties = {}) => parent.appendChild(Object.assign(document.createElement(tag), properties));
  const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const colours = Array.from({ length: 256 }, (_, value) => (classes[value] ? rgb(classes[value].colour) : [255, 255, 255]));
  const variable = (name) => rgb(getComputedStyle(root).getPropertyValue(name).trim());
  const errorColours = { missed: variable("--missed"), invented: variable("--invented"), confused: variable("--confused") };
  const slider = find("slice");
  let current = cases[0];
  let turn = 0;

  async function labels(text) {
    if (!text) return null;
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function picture(address) {
    const image = new Image();
    image.src = address;
    await image.decode();
    return image;
  }

  const panels = ["truth", ...runs].map((name, index) => {
    const figure = make("figure", find("panels"));
    const canvas = make("canvas", figure);
    canvas.setAttribute("role", "img");
    make("figcaption", figure, { textContent: index ? (runs.length > 1 ? name : "prediction") : "truth" });
    return { canvas, figure, name, run: index - 1 };
  });

  cases.forEach((each, index) => {
    const label = make("label", find("tabs"));
    const input = make("input", label, { type: "radio", name: "case", checked: index === 0 });
    input.addEventListener("change", () => choose(each));
    make("span", label, { textContent: each.title });
  });
  classes.slice(1).forEach((organ, index) => {
    const label = make("label", find("organs"));
    const input = make("input", label, { type: "checkbox", checked: true });
    input.dataset.organ = index + 1;
    make("span", label, { className: "dot" }).style.background = organ.colour;
    make("span", label, { textContent: organ.name });
  });
  const switches = [...find("organs").querySelectorAll("input")];
  find("viewer").addEventListener("change", (event) => { if (event.target.type === "checkbox") draw(); });
  slider.addEventListener("input", draw);
  for (const [id, checked] of [["all", true], ["none", false]]) {
    find(id).addEventListener("click", () => { switches.forEach((each) => { each.checked = checked; }); draw(); });
  }

  function choose(chosen) {
    current = chosen;
    slider.max = chosen.slices.length - 1;
    slider.value = chosen.start;
    slider.parentElement.classList.toggle("alone", chosen.slices.length < 2);
    find("told").textContent = `Shown of ${chosen.name}: ${chosen.told}.`;
    draw();
  }

  // Colour with which a pixel lies on an organ's outline: some pixel at a small distance has another label.
  function outline(map, value, x, y, width, height, scale, thick) {
    const at = (column, row) => map[Math.floor(row / scale) * (width / scale) + Math.floor(column / scale)];
    return at(Math.max(0, x - thick), y) !== value || at(Math.min(width - 1, x + thick), y) !== value
      || at(x, Math.max(0, y - thick)) !== value || at(x, Math.min(height - 1, y + thick)) !== value;
  }

  function overlay(truth, prediction, layers, shown) {
    const scale = Math.max(1, Math.ceil(512 / current.width));
    const width = current.width * scale;
    const height = current.height * scale;
    const thick = Math.max(1, Math.round(width / 400));
    const pixels = new ImageData(width, height);
    const set = (at, colour, alpha) => { pixels.data.set(colour, at); pixels.data[at + 3] = alpha; };
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at += 4) {
        const place = Math.floor(y / scale) * current.width + Math.floor(x / scale);
        const wanted = truth ? truth[place] : 0;
        const found = prediction ? prediction[place] : 0;
        const ignored = truth && wanted === current.ignored;
        if (prediction && truth && layers.errors && wanted !== found && !ignored && (shown[wanted] || shown[found])) {
          set(at, errorColours[!found ? "missed" : !wanted ? "invented" : "confused"], 150);
        }
        if (truth && layers.truth && shown[wanted] && !ignored && (!prediction || (x + y) % (6 * thick) < 4 * thick)
            && outline(truth, wanted, x, y, width, height, scale, thick)) {
          set(at, prediction ? [255, 255, 255] : colours[wanted], 255);
        }
        if (prediction && layers.prediction && shown[found] && outline(prediction, found, x, y, width, height, scale, thick)) {
          set(at, colours[found], 255);
        }
      }
    }
    return pixels;
  }

  function counted(truth, prediction, shown) {
    let wrong = 0, all = 0;
    for (let place = 0; place < truth.length; place++) {
      if (truth[place] === current.ignored || !(shown[truth[place]] || shown[prediction[place]])) continue;
      all += 1;
      wrong += truth[place] !== prediction[place];
    }
    return `${wrong} of ${all} organ pixels wrong`;
  }

  async function draw() {
    const mine = ++turn;
    const slice = current.slices[slider.value];
    const [image, truth, ...predictions] = await Promise.all(
      [picture(slice.image), labels(slice.truth), ...slice.predictions.map(labels)]);
    if (mine !== turn) return;
    const layers = {};
    find("layers").querySelectorAll("input").forEach((each) => { layers[each.dataset.layer] = each.checked; });
    const shown = Array(256).fill(false);
    switches.forEach((each) => { shown[each.dataset.organ] = each.checked; });
    const place = current.of[0] > 1 ? `slice ${slice.number + 1} of ${current.of[0]}` : "image";
    const said = [place];
    for (const { canvas, figure, name, run } of panels) {
      const prediction = run < 0 ? null : predictions[run];
      figure.hidden = run < 0 ? !truth : !prediction;
      if (figure.hidden) continue;
      const pixels = overlay(truth, prediction, layers, shown);
      Object.assign(canvas, { width: pixels.width, height: pixels.height });
      canvas.style.aspectRatio = current.aspect;
      const layer = Object.assign(document.createElement("canvas"), { width: pixels.width, height: pixels.height });
      layer.getContext("2d").putImageData(pixels, 0, 0);
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0, pixels.width, pixels.height);
      context.drawImage(layer, 0, 0);
      const wrong = truth && prediction ? counted(truth, prediction, shown) : "";
      canvas.setAttribute("aria-label", `${current.name}, ${place}: ${run < 0 ? "truth" : `prediction of ${name}`}${wrong ? `, ${wrong}` : ""}`);
      if (wrong) said.push(runs.length > 1 ? `${name}: ${wrong}` : wrong);
    }
    find("said").textContent = said.join("; ");
    find("viewer").dataset.drawn = mine;
  }

  find("viewer").hidden = false;
  choose(cases[0]);
})();
