// Files that the user keeps: what the server writes, and a picture of both sides that the page draws.

import { drawMark } from "./panel.js";

const NAMES = { json: "matches.json", csv: "matches.csv", coco: "keypoints-coco.json", png: "matches.png" };
const LONGEST = 1400; // pixels of a side of each picture
const GAP = 12;

/** The fields of the server's export: every match that is shown and has been found. */
export function exportFields(pictures, model, matches) {
  const images = pictures.map(({ name, width, height }) => ({ file_name: name.slice(0, 300), width, height }));
  const rows = matches.filter((match) => match.right).map(({ x, y, right, found, corrected }) => {
    const row = { x_a: x, y_a: y, x_b: right[0], y_b: right[1], corrected };
    const names = ["confidence", "cycle_distance", "variance_x", "covariance_xy", "variance_y", "mutual"];
    for (const name of names) row[name] = corrected ? null : found[name];
    return row;
  });
  return { model, images, matches: rows };
}

/** Both pictures side by side with the matches between them, as a PNG. */
export function drawPicture(pictures, matches) {
  const scales = pictures.map(({ width, height }) => Math.min(LONGEST / Math.max(width, height), 1));
  const sizes = pictures.map(({ width, height }, i) => [Math.round(width * scales[i]), Math.round(height * scales[i])]);
  const canvas = document.createElement("canvas");
  canvas.width = sizes[0][0] + GAP + sizes[1][0];
  canvas.height = Math.max(sizes[0][1], sizes[1][1]);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const frames = pictures.map(({ bitmap }, i) => {
    const left = i === 0 ? 0 : sizes[0][0] + GAP;
    context.drawImage(bitmap, left, 0, ...sizes[i]);
    return { left, top: 0, scale: scales[i] };
  });
  const found = matches.filter((match) => match.right);
  context.lineWidth = 1.5;
  for (const { x, y, right, colour } of found) {
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(frames[0].left + x * scales[0], y * scales[0]);
    context.lineTo(frames[1].left + right[0] * scales[1], right[1] * scales[1]);
    context.stroke();
  }
  const many = found.length > 60;
  for (const match of found) {
    drawMark(context, frames[0], { ...match, covariance: null }, false, many);
    drawMark(context, frames[1], { ...match, x: match.right[0], y: match.right[1] }, false, many);
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

export function save(kind, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = NAMES[kind];
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
