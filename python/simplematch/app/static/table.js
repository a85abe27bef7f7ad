// The table of matches: what the marks show, for reading, for screen readers and for the keyboard.

import { axesOf } from "./panel.js";

const MOST = 200; // rows that are shown

export class Table {
  /** @param {{onSelect: (id: number) => void, onRemove: (id: number) => void, onRestore: (id: number) => void}} listeners */
  constructor(listeners) {
    this.listeners = listeners;
    this.body = document.getElementById("rows");
    this.scroll = document.getElementById("table-scroll");
    this.none = document.getElementById("no-matches");
    this.more = document.getElementById("more-rows");
    this.body.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) listeners[button.dataset.does](Number(button.closest("tr").dataset.id));
    });
  }

  show(matches, selected, hidden) {
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [focused.closest("tr").dataset.id, focused.dataset.does];
    this.body.replaceChildren(...matches.slice(0, MOST).map((match) => row(match, match.id === selected)));
    this.scroll.hidden = matches.length === 0;
    this.none.hidden = matches.length > 0;
    this.none.textContent = hidden ? `${hidden} points are hidden: none of them is mutual.`
      : "None yet. Click a point of the left picture, or fill it with a grid.";
    this.more.hidden = matches.length <= MOST;
    this.more.textContent = `The first ${MOST} of ${matches.length} are listed; downloads have all of them.`;
    if (place) (this.body.querySelector(`[data-id="${place[0]}"] [data-does="${place[1]}"]`) ?? this.scroll).focus();
  }
}

function row(match, selected) {
  const tr = document.createElement("tr");
  tr.dataset.id = match.id;
  if (selected) tr.setAttribute("aria-current", "true");
  const head = document.createElement("th");
  head.scope = "row";
  head.append(button("onSelect", `${match.number}`, `Choose point ${match.number}`, "point"));
  tr.append(head, cell(pair(match.x, match.y)));
  const { found, corrected } = match;
  const there = cell(match.right ? pair(...match.right) : "…");
  if (match.right) Object.assign(there.dataset, { x: match.right[0], y: match.right[1] });
  tr.append(there);
  const confidence = cell(corrected || !found ? "–" : found.confidence?.toFixed(3) ?? "–");
  if (found) confidence.prepend(swatch(match.colour));
  tr.append(confidence, cell(corrected || !found ? "–" : spread(found)));
  tr.append(cell(corrected || !found ? "–" : found.cycle_distance?.toFixed(1) ?? "–"));
  tr.append(cell(corrected ? "corrected" : !found ? "–" : found.mutual ? "mutual" : "one way"));
  const changes = document.createElement("td");
  if (corrected) changes.append(button("onRestore", "Restore", `Restore the model's match of point ${match.number}`, "quiet"));
  changes.append(button("onRemove", "Remove", `Remove point ${match.number}`, "quiet"));
  tr.append(changes);
  return tr;
}

function spread(found) {
  if (found.variance_x === null) return "–";
  const { large, small } = axesOf([found.variance_x, found.covariance_xy, found.variance_y]);
  return `${large.toFixed(1)} × ${small.toFixed(1)}`;
}

function pair(x, y) {
  return `${x.toFixed(1)}, ${y.toFixed(1)}`;
}

function cell(text) {
  const td = document.createElement("td");
  td.textContent = text;
  return td;
}

function swatch(colour) {
  const span = document.createElement("span");
  span.className = "swatch";
  span.style.backgroundColor = colour;
  return span;
}

function button(does, text, label, style) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = style;
  made.textContent = text;
  made.dataset.does = does;
  made.setAttribute("aria-label", label);
  return made;
}
