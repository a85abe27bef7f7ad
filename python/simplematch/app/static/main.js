// The page: settings, points and their matches, on top of the two pictures.

import { Client, Refused } from "./client.js";
import { CONFIDENCE_RANGE, confidenceColour, drawScales, paintHeat } from "./colours.js";
import { drawPicture, exportFields, save } from "./downloads.js";
import { bestOf, clamp } from "./features.js";
import { EMPTY, History } from "./history.js";
import { pointLeft, pointRight } from "./pointing.js";
import { Side, SIDES, sentence } from "./sides.js";
import { Table } from "./table.js";

const SETTLE = 250; // milliseconds after the last change of a setting
const element = (id) => document.getElementById(id);

class App {
  constructor(client, options) {
    this.client = client;
    this.options = options;
    this.found = new Map(); // the model's matches by the id of their point
    this.asked = 0; // of requests for matches; answers to earlier ones are dropped
    this.selected = null;
    this.dragged = null; // {id, to} while a match is dragged
    this.nextId = 1;
    this.nextHover = null;
    this.heatCanvas = document.createElement("canvas");
    const listeners = { onFiles: (side, files) => this.load(side, files), onPicture: () => this.restart() };
    this.sides = Object.fromEntries(SIDES.map((name) => [name, new Side(name, client, options.limits, listeners)]));
    this.table = new Table({
      onSelect: (id) => this.select(id), onRemove: (id) => this.remove(id), onRestore: (id) => this.correct(id, null),
    });
    this.history = new History(() => this.changed());
    pointLeft(this.sides.a.panel, this);
    pointRight(this.sides.b.panel, this);
    this.fillSettings();
    this.listen();
  }

  // Settings

  fillSettings() {
    for (const [id, choices] of [["model", this.options.models], ["backend", this.options.backends]]) {
      element(id).replaceChildren(...choices.map(({ name, reason }) => {
        const option = new Option(reason ? `${name} (${reason})` : name, name);
        option.disabled = reason !== null;
        return option;
      }));
    }
    element("model").value = this.options.default;
    const { examples } = this.options;
    element("examples").hidden = examples.length === 0;
    element("examples").append(...examples.map(({ name, label }) => {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: label });
      button.addEventListener("click", () => this.loadExample(name, label));
      return button;
    }));
    drawScales(element("heat-scale"), element("confidence-scale"));
    [element("confidence-low").textContent, element("confidence-high").textContent] = CONFIDENCE_RANGE.map((x) => x.toFixed(1));
  }

  listen() {
    const settings = element("settings");
    let timer = null;
    settings.addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["window", "temperature", "backend"]) {
      element(id).addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => this.matchAgain(), SETTLE);
      });
    }
    element("model").addEventListener("change", () => this.encode(true));
    element("undo").addEventListener("click", () => this.history.undo());
    element("redo").addEventListener("click", () => this.history.redo());
    element("grid").addEventListener("click", () => this.grid());
    element("mutual").addEventListener("click", () => this.history.push({ onlyMutual: !this.history.state.onlyMutual }));
    element("clear").addEventListener("click", () => this.history.push({ ...EMPTY }));
    document.querySelectorAll("[data-download]").forEach((button) =>
      button.addEventListener("click", () => this.download(button.dataset.download)));
    document.addEventListener("keydown", (event) => this.shortcut(event));
    document.addEventListener("paste", (event) => this.paste(event));
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  }

  shortcut(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.matches("input, select")) return;
    const key = event.key.toLowerCase(), redo = key === "y" || (key === "z" && event.shiftKey);
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (redo ? this.history.redo() : this.history.undo()) this.say(redo ? "Done again." : "Undone.");
  }

  get model() {
    return element("model").value;
  }

  /** The settings of a request; null while a field is wrong. */
  settings() {
    const wrong = ["window", "temperature"].map(element).find((input) => !input.checkValidity());
    if (wrong) {
      this.say(`${wrong.id === "window" ? "Window" : "Temperature"}: ${wrong.validationMessage}`);
      return null;
    }
    const [window, temperature] = ["window", "temperature"].map((id) => Number(element(id).value));
    return { model: this.model, backend: element("backend").value, window, temperature };
  }

  // Pictures

  load(side, files) {
    const other = side === "a" ? "b" : "a";
    files.slice(0, 2).forEach((file, i) => this.sides[i === 0 ? side : other].load(file, file.name || "picture"));
  }

  async loadExample(name, label) {
    try {
      const blobs = await Promise.all(SIDES.map((side) => this.client.example(name, side)));
      await Promise.all(SIDES.map((side, i) => this.sides[side].load(blobs[i], `${name}-${i + 1}.png`)));
      this.say(`Example: ${label}.`);
    } catch (error) {
      this.say(error.message);
    }
  }

  paste(event) {
    const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
    if (!files.length || event.target.matches("input")) return;
    event.preventDefault();
    const focused = SIDES.find((side) => this.sides[side].root.contains(document.activeElement));
    this.load(focused ?? SIDES.find((side) => !this.sides[side].picture) ?? "b", files);
  }

  /** A picture changed: earlier points mean nothing. */
  restart() {
    const ratios = SIDES.map((side) => this.sides[side].picture).filter(Boolean).map(({ width, height }) => width / height);
    document.querySelector(".stage").style.setProperty("--ratio", clamp(Math.max(...ratios), 0.9, 1.8));
    this.found.clear();
    this.asked++;
    this.selected = null;
    this.history.reset();
    this.encode(true);
  }

  async encode(takeSettings = false) {
    const model = this.model;
    document.body.dataset.ready = "false";
    this.leave();
    const maps = await Promise.all(SIDES.map((side) => this.sides[side].map(model)));
    if (model !== this.model || !maps.every(Boolean)) return;
    this.time("encode", Math.max(...maps.map((map) => map.milliseconds)), "a picture, by the server");
    if (takeSettings && model !== this.settled) {
      this.settled = model;
      element("window").value = maps[0].window;
      element("temperature").value = maps[0].temperature;
    }
    document.body.dataset.ready = "true";
    this.say("Ready: move over the left picture, or click a point of it.");
    this.matchAgain();
  }

  maps() {
    const maps = SIDES.map((side) => this.sides[side].picture?.maps.get(this.model));
    return maps.every(Boolean) ? maps : null;
  }

  // The heat map

  hover(point, time, spoken = false) {
    if (!this.maps()) return;
    if (this.nextHover === null) requestAnimationFrame(() => this.heat());
    this.nextHover = { point, time, spoken };
  }

  heat() {
    const hover = this.nextHover, maps = this.maps(), { a, b } = this.sides;
    this.nextHover = null;
    if (!hover || !maps) return;
    const row = maps[1].similarities(maps[0].at(hover.point[0] / a.picture.width, hover.point[1] / a.picture.height));
    const { width, height } = maps[1], best = bestOf(row, maps[1]);
    let sum = 0;
    for (const value of row) sum += value;
    const low = Math.min(sum / row.length, best.value);
    const canvas = this.heatCanvas;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    paintHeat(row, low, best.value, image.data);
    context.putImageData(image, 0, 0);
    b.panel.heat = { canvas, best, frame: maps[1].frame };
    b.panel.draw();
    element("heat-low").textContent = low.toFixed(2);
    element("heat-high").textContent = best.value.toFixed(2);
    this.time("heat", performance.now() - hover.time, "from the movement to the picture");
    document.body.dataset.heatBest = `${best.x * b.picture.width},${best.y * b.picture.height}`;
    if (hover.spoken) {
      const [x, y] = hover.point.map(Math.round), there = [best.x * b.picture.width, best.y * b.picture.height].map(Math.round);
      this.say(`At ${x}, ${y}: most similar is ${there.join(", ")} of the right picture, ${best.value.toFixed(2)}.`);
    }
  }

  leave() {
    this.nextHover = null;
    if (!this.sides.b.panel.heat) return;
    this.sides.b.panel.heat = null;
    this.sides.b.panel.redraw();
  }

  // Points and matches

  add([x, y]) {
    if (!this.sides.b.picture) return this.say("Choose the right picture first.");
    const point = { id: this.nextId++, x, y, corrected: null };
    this.selected = point.id;
    this.clicked = performance.now();
    this.history.push({ points: [...this.history.state.points, point] });
  }

  grid() {
    const input = element("grid-count"), { width, height } = this.sides.a.picture;
    if (!input.reportValidity()) return;
    const tile = Math.max(width, height) / Number(input.value);
    const [columns, rows] = [width, height].map((side) => Math.max(Math.round(side / tile), 1));
    const points = Array.from({ length: columns * rows }, (_, i) => ({
      id: this.nextId++, corrected: null,
      x: (((i % columns) + 0.5) * width) / columns, y: ((Math.floor(i / columns) + 0.5) * height) / rows,
    }));
    this.selected = null;
    this.history.push({ points });
  }

  select(id) {
    this.selected = id;
    this.render();
    const match = this.matches().find((each) => each.id === id);
    if (match) this.say(described(match));
  }

  step(way) {
    const matches = this.matches();
    if (!matches.length) return this.say("There is no match yet.");
    const index = matches.findIndex((match) => match.id === this.selected);
    this.select(matches[index < 0 ? 0 : (index + way + matches.length) % matches.length].id);
  }

  remove(id = this.selected) {
    if (!this.history.state.points.some((point) => point.id === id)) return;
    if (id === this.selected) this.selected = null;
    this.history.remove(id);
    this.say("Removed.");
  }

  preview(id, to) {
    this.dragged = to && { id, to };
    this.render(false);
  }

  correct(id, to) {
    this.dragged = null;
    this.history.change(id, { corrected: to });
    const match = this.matches().find((each) => each.id === id);
    if (match) this.say(described(match));
  }

  /** Every shown point with its match. */
  matches() {
    const { points, onlyMutual } = this.history.state;
    const all = points.map((point, i) => {
      const found = this.found.get(point.id) ?? null;
      const moved = this.dragged?.id === point.id ? this.dragged.to : point.corrected;
      const corrected = Boolean(moved), right = moved ?? (found && [found.x, found.y]);
      const colour = confidenceColour(corrected || !found ? null : found.confidence);
      const known = found && !corrected && found.variance_x !== null;
      const covariance = known ? [found.variance_x, found.covariance_xy, found.variance_y] : null;
      return { ...point, number: i + 1, found, corrected, right, colour, covariance, mutual: corrected ? null : found?.mutual };
    });
    return onlyMutual ? all.filter((match) => match.corrected || match.mutual) : all;
  }

  changed() {
    this.render();
    this.refresh();
  }

  matchAgain() {
    this.found.clear();
    this.asked++;
    this.changed();
  }

  /** Ask for the matches that are missing. */
  async refresh() {
    const missing = this.history?.state.points.filter((point) => !this.found.has(point.id)) ?? [];
    if (!missing.length || !this.maps()) return;
    const settings = this.settings();
    if (!settings) return;
    const mine = ++this.asked, start = this.clicked ?? performance.now();
    this.clicked = null;
    try {
      const answer = await this.client.matches({ ...settings, points: missing.map(({ x, y }) => [x, y]) });
      if (mine !== this.asked) return;
      missing.forEach((point, i) => this.found.set(point.id, answer.matches[i]));
      this.render();
      this.time("match", performance.now() - start, `of which the server ${answer.milliseconds.toFixed(1)} ms`);
      const chosen = this.matches().find((match) => match.id === this.selected);
      if (missing.length > 1) this.say(`${missing.length} points matched.`);
      else this.say(chosen ? described(chosen) : "The match is not mutual, so it is hidden.");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (mine === this.asked) this.say(error.message);
    }
  }

  render(withTable = true) {
    if (!this.history) return;
    const matches = this.matches(), { a, b } = this.sides, found = matches.filter((match) => match.right);
    const common = (match) => ({ ...match, covariance: null });
    a.panel.marks = matches.map(common);
    b.panel.marks = found.map((match) => ({ ...match, x: match.right[0], y: match.right[1] }));
    for (const { panel } of [a, b]) {
      panel.selected = this.selected;
      panel.redraw();
    }
    if (!withTable) return;
    const { state } = this.history, all = state.points.length, none = all === 0, pictures = a.picture && b.picture;
    a.describe(matches.length);
    b.describe(found.length);
    this.table.show(matches, this.selected, all - matches.length);
    const mutual = matches.filter((match) => match.mutual).length;
    element("count").textContent = none ? "" : `${matches.length} shown, ${mutual} mutual`;
    element("undo").disabled = !this.history.canUndo;
    element("redo").disabled = !this.history.canRedo;
    element("grid").disabled = !pictures;
    element("clear").disabled = none;
    element("mutual").disabled = none && !state.onlyMutual;
    element("mutual").setAttribute("aria-pressed", String(state.onlyMutual));
    document.querySelectorAll("[data-download]").forEach((button) => (button.disabled = found.length === 0));
  }

  async download(kind) {
    const pictures = SIDES.map((side) => this.sides[side].picture), matches = this.matches();
    try {
      const fields = exportFields(pictures, this.model, matches);
      const blob = kind === "png" ? await drawPicture(pictures, matches) : await this.client.exported(kind, fields);
      save(kind, blob);
      this.say(`${fields.matches.length} matches written.`);
    } catch (error) {
      this.say(error.message);
    }
  }

  // Messages

  say(text) {
    element("status").textContent = sentence(text);
  }

  time(name, milliseconds, meaning) {
    const shown = element(`time-${name}`);
    shown.textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
    shown.title = meaning;
    document.body.dataset[`${name}Ms`] = milliseconds.toFixed(2);
  }
}

function described({ number, right, found, corrected }) {
  if (!right) return `Point ${number} has no match yet.`;
  const there = `Point ${number}: ${right.map(Math.round).join(", ")} of the right picture`;
  if (corrected) return `${there}, corrected.`;
  const check = found.mutual ? "mutual" : "not mutual";
  return `${there}, confidence ${found.confidence?.toFixed(2)}, ${check}, cycle ${found.cycle_distance?.toFixed(1)} pixels.`;
}

function banner(text) {
  element("banner").hidden = !text;
  element("banner").textContent = text ?? "";
}

const WHY = {
  restarted: "The server was started again. This page has sent its pictures again; you can go on.",
  dropped: "The server had dropped the pictures of this page to make room for others. They were sent again; you can go on.",
};
const client = new Client({
  onLost: () => banner("The server doesn't answer. Your points are safe in this page; it tries again every second."),
  onBack: () => element("banner").textContent.startsWith("The server doesn't") && banner(null),
  onRenewed: (why) => {
    banner(WHY[why]);
    setTimeout(() => element("banner").textContent === WHY[why] && banner(null), 12_000);
  },
});
new App(client, await client.options());
