// Feature maps: unit descriptors as float16, decoded once, and their cosines with the descriptor of one point.

let halves = null;

/** All 65536 values of float16: every engine reads them from a table quickly, and few decode them. */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    let value = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    if (exponent === 31) value = 0; // no unit descriptor has infinities; NaN would blank the whole heat map
    halves[bits] = bits & 0x8000 ? -value : value;
  }
  return halves;
}

export class FeatureMap {
  /**
   * @param {ArrayBuffer} buffer height * width descriptors of `channels` little-endian float16, cell after cell
   * @param {{height: number, width: number, channels: number, bilinear: boolean, frame: number[]}} facts `frame` is where the
   *   picture lies in the map, which may have bars: left, top, width and height as fractions of the map's
   */
  constructor(buffer, facts) {
    Object.assign(this, facts);
    const table = halfTable(), count = facts.height * facts.width * facts.channels, view = new DataView(buffer);
    this.values = new Float32Array(count);
    for (let i = 0; i < count; i++) this.values[i] = table[view.getUint16(2 * i, true)];
    this.row = new Float32Array(facts.height * facts.width);
  }

  /** The unit descriptor at a point, given as fractions 0..1 of the picture's width and height. */
  at(x, y) {
    const { width, height, channels, values, bilinear, frame } = this;
    const shift = bilinear ? 0.5 : 0;
    [x, y] = [frame[0] + x * frame[2], frame[1] + y * frame[3]];
    const column = clamp(x * width - shift, 0, width - 1), row = clamp(y * height - shift, 0, height - 1);
    const left = Math.floor(column), top = Math.floor(row);
    const alongX = bilinear ? column - left : 0, alongY = bilinear ? row - top : 0;
    const found = new Float32Array(channels);
    for (const [j, i, weight] of [
      [top, left, (1 - alongY) * (1 - alongX)], [top, left + 1, (1 - alongY) * alongX],
      [top + 1, left, alongY * (1 - alongX)], [top + 1, left + 1, alongY * alongX],
    ]) {
      if (weight === 0) continue;
      const start = (j * width + i) * channels;
      for (let c = 0; c < channels; c++) found[c] += weight * values[start + c];
    }
    let square = 0;
    for (let c = 0; c < channels; c++) square += found[c] * found[c];
    const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let c = 0; c < channels; c++) found[c] *= scale;
    return found;
  }

  /** The cosine of a unit descriptor with every cell; the same array at each call. */
  similarities(descriptor) {
    const { values, channels, row } = this;
    for (let cell = 0, start = 0; cell < row.length; cell++, start += channels) {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += descriptor[c] * values[start + c];
      row[cell] = sum;
    }
    return row;
  }
}

/** Where a row of similarities is highest: the value and the centre of its cell as fractions of the picture. */
export function bestOf(row, { width, height, frame }) {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  const x = ((best % width) + 0.5) / width, y = (Math.floor(best / width) + 0.5) / height;
  return { value: row[best], x: clamp((x - frame[0]) / frame[2], 0, 1), y: clamp((y - frame[1]) / frame[3], 0, 1) };
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
