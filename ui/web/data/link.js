// Links to the server come back by themselves. What is shared is when: a link
// that breaks tries again after 0.5 s, then longer, at most 8 s; when one
// succeeds, or a person asks, all that wait try at once.
import { computed, signal } from '../lib/html.js';

const first = 500;
const longest = 8000;

const waiting = signal(new Map()); // link -> when it tries again (Date.now)

// outage is null, or {retryAt} while a link that matters is down.
export const outage = computed(() => {
  let retryAt = Infinity;
  for (const [link, at] of waiting.value) if (link.matters && at < retryAt) retryAt = at;
  return retryAt === Infinity ? null : { retryAt };
});

function setWaiting(link, at) {
  const next = new Map(waiting.value);
  if (at === undefined) next.delete(link);
  else next.set(link, at);
  waiting.value = next;
}

// tryNow makes every link that waits try at once.
export function tryNow() {
  for (const link of [...waiting.value.keys()]) link.try();
}

// Link calls open again and again until close. open gets the link; it calls
// link.up() when data flows and link.down() when it broke, and returns what
// ends the attempt.
export class Link {
  constructor(open, { matters = false } = {}) {
    this.open = open;
    this.matters = matters;
    this.failures = 0;
    this.closed = false;
    this.try();
  }

  try() {
    if (this.closed) return;
    clearTimeout(this.timer);
    this.end?.();
    let over = false; // this attempt
    this.down = () => {
      if (over) return;
      over = true;
      this.broke();
    };
    const ended = this.open(this);
    this.end = () => {
      over = true;
      ended?.();
    };
  }

  up() {
    this.failures = 0;
    if (!waiting.value.has(this)) return;
    setWaiting(this, undefined);
    if (this.matters) tryNow();
  }

  broke() {
    if (this.closed) return;
    const pause = Math.min(longest, first * 2 ** this.failures) * (0.9 + 0.2 * Math.random());
    this.failures++;
    setWaiting(this, Date.now() + pause);
    this.timer = setTimeout(() => this.try(), pause);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.end?.();
    setWaiting(this, undefined);
  }
}

// visible is false while nobody can see the page: polls rest then.
export const visible = signal(!document.hidden);
document.addEventListener('visibilitychange', () => {
  visible.value = !document.hidden;
  if (visible.value) tryNow();
});
