// Messages: publishing one, reading pages of a partition, and what arrives now.
import { signal } from '../lib/html.js';
import { now } from '../lib/format.js';
import { get, path, post, socketURL } from './api.js';
import { Link } from './link.js';
import { clusterName } from './objects.js';

const base = (topic, partition) => `/topics/${encodeURIComponent(topic)}${partition === undefined ? '' : '/' + partition}`;

// publish returns the receipt.
export const publish = (topic, message, { partition, key }) =>
  post(path(base(topic) + '/messages', { partition, key, timeout: '10s', cluster: clusterName.peek() }), message);

// read returns {messages, next, asOf}.
export const read = (topic, partition, query, signal) =>
  get(path(base(topic, partition) + '/messages', { ...query, cluster: clusterName.peek() }), { signal });

// rfc3339 writes a stamp (microseconds) without losing any of them.
export function rfc3339(ts) {
  const ms = Math.floor(ts / 1000);
  return new Date(ms).toISOString().slice(0, -1) + String(ts - ms * 1000).padStart(3, '0') + 'Z';
}

const kept = 500;
const nameOf = (m) => m.partition + '@' + m.offset;

// Arrivals are the messages of a topic from now on. After a break it goes on
// where it was: it asks from the last stamp on and leaves out what it has.
export class Arrivals {
  messages = signal([]); // newest first, the last few
  state = signal('loading'); // live, down
  count = 0;
  #names = new Set();
  #waiting = [];
  #turn = 0;
  #newest = 0; // stamp that is gone on from after a break

  constructor(topic) {
    this.link = new Link((link) => {
      const from = this.#newest ? rfc3339(this.#newest) : 'latest';
      const socket = new WebSocket(socketURL(path(base(topic) + '/stream', { from, cluster: clusterName.peek() })));
      socket.onopen = () => {
        this.state.value = 'live';
        this.#newest ||= (now() - 500) * 1000;
        link.up();
      };
      socket.onmessage = ({ data }) => this.#add(JSON.parse(data));
      socket.onclose = () => {
        this.state.value = 'down';
        link.down();
      };
      return () => {
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close();
      };
    });
  }

  #add(m) {
    if (m.offset === undefined || this.#names.has(nameOf(m))) return; // not a message, or one that is here
    this.#names.add(nameOf(m));
    this.#newest = Math.max(this.#newest, m.ts);
    this.#waiting.push(m);
    this.count++;
    if (!this.#turn) this.#turn = document.hidden ? setTimeout(() => this.#flush(), 250) : requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    this.#turn = 0;
    const all = [...this.#waiting.reverse(), ...this.messages.value].slice(0, kept);
    this.#waiting = [];
    if (this.#names.size > 4 * kept) this.#names = new Set(all.map(nameOf));
    this.messages.value = all;
  }

  close() {
    this.link.close();
  }
}
