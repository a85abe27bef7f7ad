// The two pictures: where they come from, what the page shows of them, and their feature maps.

import { FeatureMap } from "./features.js";
import { Panel } from "./panel.js";

export const SIDES = ["a", "b"];
const NAMES = { a: "Left", b: "Right" };

export class Side {
  constructor(name, client, limits, listeners) {
    this.name = name;
    this.client = client;
    this.limits = limits;
    this.listeners = listeners;
    this.root = document.getElementById(`panel-${name}`);
    this.panel = new Panel(this.root);
    this.panel.canvas.toggleAttribute("data-none", true);
    this.picture = null; // {id, blob, name, width, height, bitmap, maps}
    this.latest = 0; // of the uploads, so that an earlier one doesn't replace a later one
    this.root.querySelectorAll("[data-choose]").forEach((input) => input.addEventListener("change", () => {
      if (input.files[0]) listeners.onFiles(name, [...input.files]);
      input.value = "";
    }));
    this.root.addEventListener("dragover", (event) => this.over(event, true));
    this.root.addEventListener("dragleave", (event) => this.over(event, false));
    this.root.addEventListener("drop", (event) => {
      this.over(event, false);
      const files = [...event.dataTransfer.files];
      if (files.length) listeners.onFiles(name, files);
      else this.note("Drop a file of a picture; a link or text isn't one.", true);
    });
  }

  over(event, inside) {
    event.preventDefault();
    this.panel.view.classList.toggle("over", inside);
  }

  part(name) {
    return this.root.querySelector(`[data-${name}]`);
  }

  /** Send a picture and show it; a picture that can't be read leaves the earlier one. */
  async load(blob, name) {
    const mine = ++this.latest;
    this.note(null);
    if (blob.size > this.limits.bytes) {
      const most = this.limits.bytes / 2 ** 20;
      return this.note(`${name}: the picture must have at most ${most} MiB; choose a smaller copy.`, true);
    }
    this.busy("Reading the picture …");
    let picture = null;
    try {
      picture = Object.assign(await this.client.upload(blob), { name, maps: new Map() });
      picture.bitmap = await createImageBitmap(await this.client.shown(picture));
      if (mine !== this.latest) return;
      this.picture = picture;
      this.client.keep(this.name, picture);
      this.show();
      this.note(picture.notes.length ? `${name}: ${picture.notes.join(" ")}` : null);
      this.listeners.onPicture(this.name);
    } catch (error) {
      if (mine === this.latest) this.note(`${name}: ${error.message}`, true);
    } finally {
      if (picture) this.client.forget(picture);
      if (mine === this.latest) this.busy(null);
    }
  }

  show() {
    const { name, width, height } = this.picture;
    this.panel.show(this.picture);
    this.part("empty").hidden = true;
    this.part("replace").hidden = false;
    this.part("file").textContent = `${name} · ${width} × ${height}`;
    this.part("file").title = name;
    this.describe(0);
  }

  describe(points) {
    if (!this.picture) return;
    const { name, width, height } = this.picture, count = points === 1 ? "1 point" : `${points} points`;
    const text = `${NAMES[this.name]} picture: ${name}, ${width} by ${height} pixels, ${count}`;
    this.panel.canvas.setAttribute("aria-label", text);
  }

  /** The feature map under a model, which is fetched once; null if another picture or error came first. */
  async map(model) {
    const { picture } = this;
    if (!picture || picture.maps.has(model)) return picture?.maps.get(model) ?? null;
    this.busy("Encoding …");
    try {
      const { buffer, facts } = await this.client.features(picture, model);
      const map = new FeatureMap(buffer, facts);
      picture.maps.set(model, map);
      return picture === this.picture ? map : null;
    } catch (error) {
      if (picture === this.picture) this.note(error.message, true);
      return null;
    } finally {
      if (picture === this.picture) this.busy(null);
    }
  }

  note(text, isError = false) {
    const note = this.part("note");
    note.hidden = !text;
    note.textContent = text ? sentence(text) : "";
    note.classList.toggle("error", isError);
  }

  busy(text) {
    this.part("busy").hidden = !text;
    this.part("busy").textContent = text ?? "";
  }
}

/** Begin with a capital letter, unless a file's name comes first. */
export function sentence(text) {
  return /^[a-z]+ /.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}
