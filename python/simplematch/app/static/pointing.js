// The mouse, a finger and the keys on both pictures. They call the app with pixels of a picture.

import { clamp } from "./features.js";

const MOVED = 3; // pixels of the screen from which a press is a drag

/**
 * @param {Panel} panel the left one
 * @param {{hover, leave, add, select, remove, step}} app
 */
export function pointLeft(panel, app) {
  const { canvas } = panel;
  canvas.addEventListener("pointermove", (event) => {
    const point = panel.locate(event);
    if (point) app.hover(point, event.timeStamp);
    else app.leave();
    canvas.toggleAttribute("data-grab", Boolean(point && panel.markAt(point)));
  });
  canvas.addEventListener("pointerleave", () => app.leave());
  canvas.addEventListener("click", (event) => {
    const point = panel.locate(event);
    if (!point) return;
    panel.cursor = null;
    const mark = panel.markAt(point);
    if (mark) app.select(mark.id);
    else app.add(point);
  });
  canvas.addEventListener("keydown", (event) => {
    if (!panel.picture || commonKey(event, app)) return;
    const step = arrow(event, panel.picture);
    if (step) {
      const from = panel.cursor ?? [panel.picture.width / 2, panel.picture.height / 2];
      panel.cursor = moved(from, panel.cursor ? step : [0, 0], panel.picture);
      panel.redraw();
      app.hover(panel.cursor, event.timeStamp, true);
    } else if ((event.key === "Enter" || event.key === " ") && panel.cursor) {
      app.add(panel.cursor);
    } else {
      return;
    }
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => {
    if (panel.cursor) app.leave();
    panel.cursor = null;
    panel.redraw();
  });
}

/**
 * @param {Panel} panel the right one, whose marks can be dragged
 * @param {{select, remove, step, preview, correct}} app
 */
export function pointRight(panel, app) {
  const { canvas } = panel;
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    const point = event.button === 0 ? panel.locate(event) : null;
    const mark = point && panel.markAt(point);
    if (!mark) return;
    canvas.setPointerCapture(event.pointerId);
    app.select(mark.id);
    drag = { id: mark.id, from: [event.clientX, event.clientY], offset: [mark.x - point[0], mark.y - point[1]], to: null };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) {
      const point = panel.locate(event);
      canvas.toggleAttribute("data-grab", Boolean(point && panel.markAt(point)));
      return;
    }
    const far = Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]) > MOVED;
    if (!far && !drag.to) return;
    canvas.toggleAttribute("data-grabbing", true);
    drag.to = moved(panel.locate(event, true), drag.offset, panel.picture);
    app.preview(drag.id, drag.to);
  });
  const end = (event) => {
    if (drag?.to && event.type === "pointerup") app.correct(drag.id, drag.to);
    else if (drag?.to) app.preview(drag.id, null);
    drag = null;
    canvas.toggleAttribute("data-grabbing", false);
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("keydown", (event) => {
    if (!panel.picture || commonKey(event, app)) return;
    const step = arrow(event, panel.picture), mark = panel.marks.find((each) => each.id === panel.selected);
    if (!step || !mark) return;
    app.correct(mark.id, moved([mark.x, mark.y], step, panel.picture));
    event.preventDefault();
  });
}

/** Keys of both pictures: Delete, and N and P for the next and the previous match. */
function commonKey(event, app) {
  if (event.ctrlKey || event.metaKey || event.altKey) return true; // a shortcut of the page or of the browser
  const key = event.key.toLowerCase();
  if (key === "delete" || key === "backspace") app.remove();
  else if (key === "n") app.step(1);
  else if (key === "p") app.step(-1);
  else return false;
  event.preventDefault();
  return true;
}

/** The way of an arrow key: a hundredth of the picture, or a pixel with Shift; null for other keys. */
function arrow(event, picture) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way) return null;
  const size = event.shiftKey ? 1 : Math.max(picture.width, picture.height) / 100;
  return way.map((x) => x * size);
}

function moved([x, y], [dx, dy], { width, height }) {
  return [clamp(x + dx, 0, width), clamp(y + dy, 0, height)];
}
