// One picture on a canvas: the picture, the heat map over it, and marks with their ellipses.

import { clamp } from "./features.js";

const REACH = 12; // CSS pixels within which a mark is hit
const FEW = 60; // marks that all show their ellipse and number

export class Panel {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.view = root.querySelector(".view");
    this.picture = null; // {bitmap, width, height}
    this.heat = null; // {canvas, best: {x, y}, frame}: in fractions of the picture, and of the canvas
    this.marks = []; // {id, number, x, y, colour, covariance, corrected, mutual}
    this.selected = null;
    this.cursor = null; // [x, y] in pixels of the picture
    this.drawn = false;
    new ResizeObserver(() => this.redraw()).observe(this.view);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  show(picture) {
    this.picture = picture;
    this.heat = null;
    this.cursor = null;
    this.canvas.toggleAttribute("data-none", picture === null);
    this.redraw();
  }

  /** Draw at the next frame; several calls draw once. */
  redraw() {
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => this.draw());
  }

  /** Where the picture lies on the canvas, in CSS pixels. */
  frame() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.min(width / this.picture.width, height / this.picture.height);
    const shown = { width: this.picture.width * scale, height: this.picture.height * scale, scale };
    return { left: (width - shown.width) / 2, top: (height - shown.height) / 2, ...shown };
  }

  /** A pointer's place in pixels of the picture; null outside, unless `clamped`. */
  locate(event, clamped = false) {
    if (!this.picture) return null;
    const box = this.canvas.getBoundingClientRect(), frame = this.frame();
    const x = (event.clientX - box.left - this.canvas.clientLeft - frame.left) / frame.scale;
    const y = (event.clientY - box.top - this.canvas.clientTop - frame.top) / frame.scale;
    const { width, height } = this.picture;
    if (clamped) return [clamp(x, 0, width), clamp(y, 0, height)];
    return x < 0 || y < 0 || x > width || y > height ? null : [x, y];
  }

  /** The mark nearest to a point of the picture, if it is within reach. */
  markAt([x, y]) {
    const scale = this.frame().scale;
    let nearest = null, least = REACH;
    for (const mark of this.marks) {
      const distance = Math.hypot(mark.x - x, mark.y - y) * scale;
      if (distance <= least) [nearest, least] = [mark, distance];
    }
    return nearest;
  }

  draw() {
    this.drawn = false;
    const { canvas, picture } = this, ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!picture || !width || !height) return;
    this.drawContent(context, this.frame());
  }

  drawContent(context, frame) {
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture.bitmap, frame.left, frame.top, frame.width, frame.height);
    if (this.heat) {
      const { canvas, best: { x, y }, frame: [left, top, width, height] } = this.heat;
      const part = [left * canvas.width, top * canvas.height, width * canvas.width, height * canvas.height];
      context.drawImage(canvas, ...part, frame.left, frame.top, frame.width, frame.height);
      ring(context, frame.left + x * frame.width, frame.top + y * frame.height, 10);
    }
    const many = this.marks.length > FEW;
    for (const mark of this.marks) if (mark.id !== this.selected) drawMark(context, frame, mark, false, many);
    const selected = this.marks.find((mark) => mark.id === this.selected);
    if (selected) drawMark(context, frame, selected, true, false);
    if (this.cursor) cross(context, frame.left + this.cursor[0] * frame.scale, frame.top + this.cursor[1] * frame.scale);
  }
}

export function drawMark(context, frame, mark, selected, many) {
  const x = frame.left + mark.x * frame.scale, y = frame.top + mark.y * frame.scale, radius = selected ? 7 : many ? 4 : 5.5;
  if (mark.covariance && !many) ellipse(context, x, y, frame.scale, mark.covariance, selected);
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  outlined(context, selected ? 2.5 : 1.75);
  context.fillStyle = mark.colour;
  context.fill();
  if (mark.mutual === false) { // not mutual: hollow, so that the colour isn't alone in telling
    context.beginPath();
    context.arc(x, y, radius * 0.45, 0, 2 * Math.PI);
    context.fillStyle = "#111";
    context.fill();
  }
  if (!many) label(context, x + radius + 5, y, String(mark.number), selected);
}

/** Two standard deviations round a match, from the covariance [xx, xy, yy] in pixels of the picture squared. */
function ellipse(context, x, y, scale, [xx, xy, yy], selected) {
  const { large, small, angle } = axesOf([xx, xy, yy]);
  context.beginPath();
  context.ellipse(x, y, Math.max(large * scale, 0.5), Math.max(small * scale, 0.5), angle, 0, 2 * Math.PI);
  if (selected) {
    context.fillStyle = "rgb(255 255 255 / 22%)";
    context.fill();
  }
  outlined(context, selected ? 2 : 1.25);
}

/** Half axes of two standard deviations, and the angle of the larger one. */
export function axesOf([xx, xy, yy]) {
  const middle = (xx + yy) / 2, apart = Math.hypot((xx - yy) / 2, xy);
  const root = (value) => 2 * Math.sqrt(Math.max(value, 0));
  return { large: root(middle + apart), small: root(middle - apart), angle: Math.atan2(2 * xy, xx - yy) / 2 };
}

function outlined(context, width) {
  context.lineWidth = width + 2;
  context.strokeStyle = "rgb(0 0 0 / 65%)";
  context.stroke();
  context.lineWidth = width;
  context.strokeStyle = "#fff";
  context.stroke();
}

function ring(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  outlined(context, 2);
}

function cross(context, x, y) {
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + 4 * dx, y + 4 * dy);
    context.lineTo(x + 12 * dx, y + 12 * dy);
  }
  outlined(context, 1.5);
}

function label(context, x, y, text, selected) {
  context.font = `${selected ? 700 : 600} 12px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3.5;
  context.strokeStyle = "rgb(0 0 0 / 75%)";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}
