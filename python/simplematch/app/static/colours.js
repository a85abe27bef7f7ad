// Colours of the heat map and of confidences, and their scales.

const HEAT = [
  [0, 8, 10, 34, 0.44], [0.3, 76, 18, 110, 0.5], [0.6, 204, 48, 84, 0.62], [0.8, 250, 146, 36, 0.76], [1, 255, 248, 170, 0.86],
];
const CONTRAST = 1.6; // darkens the middle of the heat map, so that its peak stands out
const CONFIDENCE = [[0, 190, 46, 46], [0.45, 240, 160, 40], [0.7, 240, 222, 90], [1, 40, 178, 132]];
export const CONFIDENCE_RANGE = [0.5, 1];

function blend(stops, at) {
  let i = 1;
  while (i < stops.length - 1 && stops[i][0] < at) i++;
  const [from, ...low] = stops[i - 1], [to, ...high] = stops[i];
  const along = (at - from) / (to - from);
  return low.map((value, k) => value + along * (high[k] - value));
}

const LEVELS = 256;
const palette = new Uint8ClampedArray(4 * LEVELS);
for (let i = 0; i < LEVELS; i++) {
  const [red, green, blue, alpha] = blend(HEAT, i / (LEVELS - 1));
  palette.set([red, green, blue, 255 * alpha], 4 * i);
}

/** Paint a row of similarities into the pixels of a map, from `low` to `high`. */
export function paintHeat(row, low, high, pixels) {
  const scale = high > low ? 1 / (high - low) : 0;
  for (let i = 0; i < row.length; i++) {
    const share = Math.min(Math.max((row[i] - low) * scale, 0), 1);
    const from = 4 * Math.round(share ** CONTRAST * (LEVELS - 1));
    for (let k = 0; k < 4; k++) pixels[4 * i + k] = palette[from + k];
  }
}

export function confidenceColour(value) {
  if (value === null || value === undefined) return "rgb(120 150 235)"; // the user's own
  const [low, high] = CONFIDENCE_RANGE;
  const share = Math.min(Math.max((value - low) / (high - low), 0), 1);
  return `rgb(${blend(CONFIDENCE, share).map(Math.round).join(" ")})`;
}

/** Draw the scale of both palettes. */
export function drawScales(heat, confidence) {
  for (const [canvas, colour] of [
    [heat, (x) => { const [r, g, b] = blend(HEAT, x ** CONTRAST); return `rgb(${r} ${g} ${b})`; }],
    [confidence, (x) => confidenceColour(CONFIDENCE_RANGE[0] + x * (CONFIDENCE_RANGE[1] - CONFIDENCE_RANGE[0]))],
  ]) {
    const context = canvas.getContext("2d");
    for (let x = 0; x < canvas.width; x++) {
      context.fillStyle = colour(x / (canvas.width - 1));
      context.fillRect(x, 0, 1, canvas.height);
    }
  }
}
