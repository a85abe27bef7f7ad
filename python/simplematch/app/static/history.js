// The user's points, with undo and redo. A state is never changed: every step makes a new one.

const LONGEST = 200;
export const EMPTY = Object.freeze({ points: Object.freeze([]), onlyMutual: false });

export class History {
  constructor(listener) {
    this.listener = listener;
    this.reset();
  }

  reset() {
    this.states = [EMPTY];
    this.index = 0;
    this.listener();
  }

  get state() {
    return this.states[this.index];
  }

  get canUndo() {
    return this.index > 0;
  }

  get canRedo() {
    return this.index < this.states.length - 1;
  }

  /** Make the next state; later ones, which were undone, are forgotten. */
  push(changes) {
    this.states = [...this.states.slice(0, this.index + 1), Object.freeze({ ...this.state, ...changes })].slice(-LONGEST);
    this.index = this.states.length - 1;
    this.listener();
  }

  undo() {
    if (!this.canUndo) return false;
    this.index--;
    this.listener();
    return true;
  }

  redo() {
    if (!this.canRedo) return false;
    this.index++;
    this.listener();
    return true;
  }

  /** Change one point: `changes` are merged into it. */
  change(id, changes) {
    this.push({ points: this.state.points.map((point) => (point.id === id ? { ...point, ...changes } : point)) });
  }

  remove(id) {
    this.push({ points: this.state.points.filter((point) => point.id !== id) });
  }
}
