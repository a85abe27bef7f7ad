// Calls of the server. A page survives a server that is started again, or that dropped its pictures: it waits, sends
// them again, says so, and goes on with what it was doing.

const WAIT = 1000; // milliseconds between two tries
const LOOK = 3000; // and between two looks whether the server is still there
const MOST_RENEWALS = 3;

class ServerGone extends Error {}
class SessionGone extends Error {}

/** The server refused a request; the message is its sentence. */
export class Refused extends Error {}

export class Client {
  /**
   * @param {{onLost: () => void, onBack: () => void, onRenewed: (why: "restarted" | "dropped") => void}} listeners
   */
  constructor(listeners) {
    this.listeners = listeners;
    this.session = null;
    this.instance = null;
    this.pictures = { a: null, b: null }; // {blob, id, ...}: these and new ones are sent again
    this.arriving = new Set(); // pictures that no side shows yet
    this.opening = null;
    this.waiting = null;
    this.renewing = null;
    setInterval(() => this.look(), LOOK);
  }

  async options() {
    const found = await this.insist(async () => (await this.call("/api/options")).json());
    this.instance = found.instance;
    return found;
  }

  example(name, side) {
    return this.insist(async () => (await this.call(`/api/examples/${name}/${side}`)).blob());
  }

  /** Send a picture; returns {id, blob, width, height, notes}, for `keep` or `forget`. */
  upload(blob) {
    return this.insist(async () => {
      const sent = await this.send(await this.ownSession(), blob);
      const picture = { id: sent.picture, blob, width: sent.width, height: sent.height, notes: sent.notes };
      this.arriving.add(picture);
      return picture;
    });
  }

  async send(session, blob) {
    return (await this.call(`/api/sessions/${session}/pictures`, { method: "POST", body: blob })).json();
  }

  /** Make a picture that of a side. */
  keep(side, picture) {
    this.pictures[side] = picture;
    this.arriving.delete(picture);
  }

  forget(picture) {
    this.arriving.delete(picture);
  }

  /** The picture as the server decoded it, upright. */
  async shown(picture) {
    return this.insist(async () => (await this.call(`/api/sessions/${this.session}/pictures/${picture.id}`)).blob());
  }

  /** The feature map of a picture: its bytes and its facts. */
  features(picture, model) {
    return this.insist(async () => {
      const query = new URLSearchParams({ model });
      const answer = await this.call(`/api/sessions/${this.session}/features/${picture.id}?${query}`);
      return { buffer: await answer.arrayBuffer(), facts: JSON.parse(answer.headers.get("x-features")) };
    });
  }

  matches(fields) {
    return this.insist(async () => {
      const { a, b } = this.pictures;
      return (await this.post(`/api/sessions/${this.session}/matches`, { ...fields, a: a.id, b: b.id })).json();
    });
  }

  exported(kind, fields) {
    return this.insist(async () => (await this.post(`/api/export/${kind}`, fields)).blob());
  }

  post(path, fields) {
    const headers = { "content-type": "application/json" };
    return this.call(path, { method: "POST", headers, body: JSON.stringify(fields) });
  }

  async call(path, options) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      // A file that was moved or changed can't be read again; the browser reports it as it does a missing server.
      if (options?.body instanceof Blob && !(await readable(options.body))) {
        throw new Refused("the file can't be read any more; choose it again.");
      }
      throw new ServerGone(String(error));
    }
    if (answer.ok) return answer;
    const found = await answer.json().catch(() => ({}));
    if (answer.status === 410) throw new SessionGone(found.error);
    throw new Refused(found.error ?? `the server refused the request (${answer.status}).`);
  }

  /** The session of this page; what needs one at the same time shares it. */
  ownSession() {
    if (this.session !== null) return this.session;
    this.opening ??= (async () => {
      this.session = (await (await this.call("/api/sessions", { method: "POST" })).json()).session;
      return this.session;
    })().finally(() => (this.opening = null));
    return this.opening;
  }

  /** Do something, and again after the server came back or the pictures were sent again. */
  async insist(work) {
    for (let renewals = 0; ; ) {
      try {
        return await work();
      } catch (error) {
        if (error instanceof ServerGone) {
          await this.back();
        } else if (error instanceof SessionGone && renewals++ < MOST_RENEWALS) {
          await this.renew("dropped");
        } else {
          throw error instanceof SessionGone ? new Refused(error.message) : error;
        }
      }
    }
  }

  /** Wait until the server answers; what waits at the same time waits together. */
  back() {
    this.waiting ??= (async () => {
      this.listeners.onLost();
      for (;;) {
        await new Promise((done) => setTimeout(done, WAIT));
        const instance = await this.ask();
        if (instance === null) continue;
        const restarted = this.instance !== null && instance !== this.instance;
        this.instance = instance;
        if (restarted && !(await this.renewed("restarted"))) continue;
        break;
      }
      this.listeners.onBack();
    })().finally(() => (this.waiting = null));
    return this.waiting;
  }

  async look() {
    if (document.hidden || this.waiting || this.renewing || this.instance === null) return;
    const instance = await this.ask();
    if (instance === this.instance || this.waiting || this.renewing) return;
    if (instance === null) return void this.back();
    this.instance = instance;
    await this.renewed("restarted");
  }

  async ask() {
    try {
      return (await (await fetch("/api/status")).json()).instance;
    } catch {
      return null;
    }
  }

  renewed(why) {
    return this.renew(why).then(() => true, () => false);
  }

  /** Take a new session and send the pictures again. */
  renew(why) {
    this.renewing ??= (async () => {
      this.session = null;
      const session = await this.ownSession();
      const kept = Object.values(this.pictures).filter(Boolean);
      for (const picture of [...kept, ...this.arriving]) picture.id = (await this.send(session, picture.blob)).picture;
      const instance = await this.ask();
      const restarted = instance !== null && this.instance !== null && instance !== this.instance;
      if (instance !== null) this.instance = instance;
      this.listeners.onRenewed(restarted ? "restarted" : why);
    })().finally(() => (this.renewing = null));
    return this.renewing;
  }
}

async function readable(blob) {
  return blob.slice(0, 1).arrayBuffer().then(() => true, () => false);
}
