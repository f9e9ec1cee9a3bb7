// A node's output: its last lines, and then each one as it is written.
import { signal } from '../lib/html.js';
import { parse } from '../lib/lines.js';
import { getText, path, socketURL } from './api.js';
import { Link } from './link.js';
import { clusterName } from './objects.js';

export const most = 10000; // lines that are kept

// Output holds the lines. version rises when they change; total counts all that
// ever came, so total - lines.length have gone.
export class Output {
  lines = [];
  total = 0;
  version = signal(0);
  state = signal('loading'); // live, down, whole (nothing more will come), failed
  error = null;
  #pending = '';
  #fresh = true; // what comes next replaces what is here
  #turn = 0;

  constructor(node, previous) {
    const url = (follow) => path(`/nodes/${encodeURIComponent(node)}/logs`, { tail: most, follow: follow ? 1 : undefined, previous: previous ? 1 : undefined, cluster: clusterName.peek() });
    if (previous) this.#readOnce(url(false));
    else this.link = new Link((link) => this.#follow(link, url(true)));
  }

  async #readOnce(url) {
    try {
      this.#add(await getText(url));
      this.#flush();
      this.#set('whole');
    } catch (err) {
      this.error = err;
      this.#set('failed');
    }
  }

  #follow(link, url) {
    const socket = new WebSocket(socketURL(url));
    this.#fresh = true;
    this.#pending = '';
    socket.onopen = () => {
      link.up();
      this.#set('live');
    };
    socket.onmessage = ({ data }) => this.#add(data);
    socket.onclose = () => {
      this.#set('down');
      link.down();
    };
    return () => {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    };
  }

  #set(state) {
    this.state.value = state;
    this.version.value++;
  }

  // What arrives within a frame is shown together.
  #add(text) {
    this.#pending += text;
    if (!this.#turn) this.#turn = document.hidden ? setTimeout(() => this.#flush(), 250) : requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    this.#turn = 0;
    if (this.closed) return;
    if (this.#fresh) {
      this.#fresh = false;
      this.lines = [];
    }
    const parts = this.#pending.split('\n');
    this.#pending = parts.pop();
    if (this.#pending && this.#pending.length > 1 << 20) parts.push(this.#pending), (this.#pending = '');
    this.total += parts.length;
    const added = parts.slice(-most).map((t) => parse(t.endsWith('\r') ? t.slice(0, -1) : t));
    this.lines = this.lines.concat(added);
    if (this.lines.length > most) this.lines = this.lines.slice(-most);
    this.version.value++;
  }

  close() {
    this.closed = true;
    this.link?.close();
  }
}
