// Topics: what there is, how much is in it, and how fast it grows. The rates are
// measured here, from the ends of the partitions at two moments.
import { computed, effect, signal } from '../lib/html.js';
import { get, path } from './api.js';
import { Link, visible } from './link.js';
import { cluster, clusterName, nodes } from './objects.js';

const every = 1000; // while somebody looks; else
const everyHidden = 5000;
const longest = 10000;
const rateOver = 5000; // ms that a rate is the mean of
const keep = 2 * 3600; // samples of the whole

// topics is the list as the nodes have it, or null before the first answer.
export const topics = signal(null);
export const topicsState = signal('loading'); // live, down
export const topicsError = signal(null);

// samples are the whole cluster's [ms, messages per second], oldest first.
export const samples = signal([]);

let history = []; // [ms, Map topic -> sum of ends], the last few
let last = null;

// total is the rate of the whole cluster now.
export const total = computed(() => samples.value.at(-1)?.[1]);

const sum = (t) => t.partitions.reduce((n, p) => n + p.next, 0);

export const messagesIn = (t) => t.partitions.reduce((n, p) => n + p.next - p.first, 0);

function take(list) {
  const t = performance.now();
  const at = Date.now();
  const ends = new Map(list.map((x) => [x.name, sum(x)]));
  // A new topic's first messages count too; one that was made anew counts from 0.
  if (last) {
    let grown = 0;
    for (const [name, end] of ends) {
      const before = last.ends.get(name) ?? 0;
      grown += Math.max(0, end >= before ? end - before : end);
    }
    const next = samples.value.length >= keep ? samples.value.slice(-keep + 1) : samples.value.slice();
    next.push([at, (grown * 1000) / (t - last.t)]);
    samples.value = next;
  }
  last = { t, ends };
  history = [...history.filter(([then]) => t - then <= rateOver), [t, ends]];
  topics.value = list.slice().sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  topicsState.value = 'live';
  topicsError.value = null;
}

// rateOf is a topic's messages per second, or undefined before two answers.
export function rateOf(name) {
  topics.value;
  if (history.length < 2) return undefined;
  const [t0, first] = history[0];
  const [t1, now] = history.at(-1);
  return Math.max(0, (((now.get(name) ?? 0) - (first.get(name) ?? 0)) * 1000) / (t1 - t0));
}

// unknown says that the topics cannot be read now; rates begin anew.
function unknown(err) {
  topicsState.value = 'down';
  topicsError.value = err;
  last = null;
  history = [];
}

function poll(link) {
  let over = false;
  let timer;
  const turn = async () => {
    const begun = performance.now();
    if (!nodes.peek().some((n) => n.status?.phase === 'Running')) {
      unknown(new Error('no node is ready'));
      timer = setTimeout(turn, every);
      return;
    }
    try {
      const list = await get(path('/topics', { cluster: clusterName.peek() }));
      if (over) return;
      take(list);
      link.up();
      // A list that takes long, because there are very many, is asked for less often.
      const took = performance.now() - begun;
      timer = setTimeout(turn, Math.min(longest, Math.max(visible.peek() ? every : everyHidden, 2 * took)));
    } catch (err) {
      if (over) return;
      unknown(err);
      link.down();
    }
  };
  turn();
  return () => {
    over = true;
    clearTimeout(timer);
  };
}

// It begins when there is a cluster, and anew when another one is chosen.
let link;
let asked;
effect(() => {
  const name = cluster.value?.metadata.name;
  if (name === asked) return;
  asked = name;
  link?.close();
  last = null;
  history = [];
  samples.value = [];
  topics.value = null;
  link = name && new Link(poll);
});
