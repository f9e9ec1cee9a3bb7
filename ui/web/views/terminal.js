// A node's output as a list of lines of which only those in sight exist in the
// document, so that ten thousand scroll as ten do.
import { html, signal, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../lib/html.js';
import { clockTime, count, plural } from '../lib/format.js';
import { pattern, pieces } from '../lib/lines.js';
import { Output } from '../data/logs.js';

const rowHeight = 18;
const overscan = 12; // rows above and below those in sight
const sidePadding = 24;

// What a person sets stays when they go to another node.
const wrap = signal(true);
const level = signal(-1);
const levelNames = [[-1, 'All'], [1, 'Info'], [2, 'Warn'], [3, 'Error']];

// Terminal shows the output of a node; at is a moment to begin with (ms), if any.
export function Terminal({ id, at, restarts }) {
  const [previous, setPrevious] = useState(false);
  const output = useMemo(() => new Output(id, previous), [id, previous]);
  useEffect(() => () => output.close(), [output]);
  const [sought, setSought] = useState(at);
  useEffect(() => setSought(at), [at]);
  return html`<${Screen} key=${previous} output=${output} sought=${sought} onSought=${(found) => {
    // A moment before the first line is in the run before.
    if (found === 'before' && !previous && restarts !== 0) setPrevious(true);
    else setSought(undefined);
  }} id=${id} previous=${previous} setPrevious=${setPrevious} />`;
}

function Screen({ output, id, previous, setPrevious, sought, onSought }) {
  output.version.value;
  const scroller = useRef();
  const field = useRef();
  const [size, setSize] = useState({ rows: 30, columns: 100 });
  const [top, setTop] = useState(0);
  const [frozen, setFrozen] = useState(null); // {lines, total, byHand} while paused
  const [typed, setTyped] = useState('');
  const [here, setHere] = useState(-1); // index of the match that is looked at
  const [flash, setFlash] = useState(null); // line that was sought
  const lastSet = useRef(-1);

  let re = null;
  let wrong = '';
  try {
    re = pattern(typed);
  } catch (err) {
    wrong = err.message;
  }

  const all = frozen ? frozen.lines : output.lines;
  // Without a level a line belongs to what is above it, such as a stack: it is
  // shown at every level.
  const shown = useMemo(() => (level.value <= 0 ? all : all.filter((l) => l.level < 0 || l.level >= level.value)), [all, level.value]);
  const columns = wrap.value ? size.columns : Infinity;
  const tops = useMemo(() => {
    const t = new Float64Array(shown.length + 1);
    for (let i = 0; i < shown.length; i++) t[i + 1] = t[i] + rowHeight * Math.max(1, Math.ceil(shown[i].width / columns));
    return t;
  }, [shown, columns]);
  const matches = useMemo(() => {
    if (!re) return [];
    const found = [];
    shown.forEach((l, i) => {
      re.lastIndex = 0;
      if (re.test(l.text)) found.push(i);
    });
    return found;
  }, [shown, typed]);
  const counts = useMemo(() => {
    const c = [0, 0, 0, 0];
    for (const l of all) if (l.level >= 0) c[l.level]++;
    return c;
  }, [all]);

  useLayoutEffect(() => {
    const el = scroller.current;
    const measure = () => {
      const probe = document.createElement('span');
      probe.className = 'probe';
      probe.textContent = 'x'.repeat(100);
      el.append(probe);
      const w = probe.getBoundingClientRect().width / 100;
      probe.remove();
      setSize({ rows: Math.ceil(el.clientHeight / rowHeight), columns: Math.max(20, Math.floor((el.clientWidth - sidePadding) / w)) });
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(el);
    return () => observer.disconnect();
  }, []);

  const scrollTo = (y) => {
    const el = scroller.current;
    el.scrollTop = y;
    lastSet.current = el.scrollTop;
    setTop(el.scrollTop);
  };
  const total = tops[shown.length];
  useLayoutEffect(() => {
    if (!frozen) scrollTo(total);
  }, [total, frozen, size]);

  const pause = (byHand) => setFrozen((f) => f || { lines: output.lines, total: output.total, byHand });
  const resume = () => setFrozen(null);
  const onScroll = () => {
    const el = scroller.current;
    if (!el) return; // scrolled last before it was taken away
    setTop(el.scrollTop);
    if (Math.abs(el.scrollTop - lastSet.current) < 1) return;
    lastSet.current = -1;
    const atEnd = el.scrollHeight - el.scrollTop - el.clientHeight < 6;
    if (!atEnd) pause(false);
    else if (frozen && !frozen.byHand) resume();
  };

  const show = (i) => {
    pause(false);
    scrollTo(Math.max(0, tops[i] - scroller.current.clientHeight / 3));
  };
  const step = (by) => {
    if (matches.length === 0) return;
    let next = here + by;
    if (here < 0 || here >= matches.length) {
      const first = rowAt(tops, top);
      next = by > 0 ? matches.findIndex((i) => i >= first) : matches.findLastIndex((i) => i <= first);
    }
    next = (next + matches.length) % matches.length;
    setHere(next);
    show(matches[next]);
  };

  // A moment that was asked for is shown once there are lines.
  useEffect(() => {
    if (sought === undefined || output.state.value === 'loading' || all.length === 0) return;
    const dated = shown.findIndex((l) => !Number.isNaN(l.time));
    if (dated < 0) return;
    if (shown[dated].time > sought + 1000) {
      onSought('before');
      if (!previous) return;
    }
    let i = shown.findIndex((l) => l.time >= sought - 5);
    if (i < 0) i = shown.length - 1;
    setFlash(shown[i]);
    show(i);
    onSought('here');
  }, [sought, output.version.value]);

  useEffect(() => {
    const onKey = (e) => {
      const keys = { '/': () => field.current.focus(), n: () => step(1), N: () => step(-1), p: () => (frozen ? resume() : pause(true)), w: () => (wrap.value = !wrap.value), End: resume };
      if (!keys[e.detail]) return;
      e.preventDefault();
      keys[e.detail]();
    };
    addEventListener('wiber-key', onKey);
    return () => removeEventListener('wiber-key', onKey);
  });

  const first = Math.max(0, rowAt(tops, top) - overscan);
  const last = Math.min(shown.length, rowAt(tops, top + size.rows * rowHeight) + overscan);
  const current = matches[here];
  const waiting = frozen ? output.total - frozen.total : 0;
  return html`<section class="terminal" aria-label="Output of ${id}">
    <div class="toolbar">
      <span class="seg" role="radiogroup" aria-label="Which run">
        ${[[false, 'This run'], [true, 'The run before']].map(([p, word]) => html`<button class="small" role="radio" aria-checked=${previous === p} onClick=${() => setPrevious(p)}>${word}</button>`)}
      </span>
      <span class="seg" role="radiogroup" aria-label="Lowest level">
        ${levelNames.map(([l, word]) => html`<button class="small" role="radio" aria-checked=${level.value === l} onClick=${() => (level.value = l)}>${word}${l > 0 ? html` <span class="num dim">${count(counts.slice(l).reduce((a, b) => a + b))}</span>` : ''}</button>`)}
      </span>
      <button class="small" aria-pressed=${wrap.value} onClick=${() => (wrap.value = !wrap.value)}>Wrap</button>
      <span class="search">
        <input ref=${field} type="search" placeholder="Search, or /regexp/" aria-label="Search the output" value=${typed} aria-invalid=${!!wrong}
          onInput=${(e) => { setTyped(e.target.value); setHere(-1); }}
          onKeyDown=${(e) => { if (e.key === 'Enter') { e.preventDefault(); step(e.shiftKey ? -1 : 1); } }} />
        <span class="num found" role="status">${wrong ? 'not a regexp' : typed ? (here >= 0 && here < matches.length ? `${count(here + 1)} of ` : '') + plural(matches.length, 'line') : ''}</span>
        <button class="small" aria-label="Previous match" title="Previous match (N)" disabled=${!matches.length} onClick=${() => step(-1)}>↑</button>
        <button class="small" aria-label="Next match" title="Next match (n)" disabled=${!matches.length} onClick=${() => step(1)}>↓</button>
      </span>
      ${!previous && html`<button class="small pause" aria-pressed=${!!frozen} onClick=${() => (frozen ? resume() : pause(true))}>${frozen ? `Go on${waiting ? ` · ${count(waiting)} new` : ''}` : 'Pause'}</button>`}
    </div>
    <div class=${wrap.value ? 'lines wrapped' : 'lines'} ref=${scroller} tabindex="0" role="log" aria-live="off" aria-label="Lines of ${id}" onScroll=${onScroll}>
      <div class="whole" style=${{ height: total + 'px' }}>
        <div class="part" style=${{ transform: `translateY(${tops[first]}px)` }}>
          ${shown.slice(first, last).map((l, i) => html`<${Line} key=${first + i} line=${l} re=${re} typed=${typed} mine=${first + i === current} flash=${l === flash} />`)}
        </div>
      </div>
      <${Nothing} output=${output} shown=${shown.length} all=${all.length} id=${id} previous=${previous} />
    </div>
    <${Foot} output=${output} all=${all} previous=${previous} />
  </section>`;
}

function Line({ line, re, mine, flash }) {
  const cls = 'ln' + (line.level >= 2 ? ' level-' + line.level : '') + (mine ? ' mine' : '') + (flash ? ' flash' : '');
  return html`<div class=${cls}>${pieces(line, re).map(([text, c, style, mark]) =>
    mark ? html`<mark class=${c} style=${style}>${text}</mark>` : c || style ? html`<span class=${c} style=${style}>${text}</span>` : text)}</div>`;
}

function Nothing({ output, shown, all, id, previous }) {
  if (shown > 0) return null;
  const s = output.state.value;
  let text = 'Nothing has been written yet.';
  if (s === 'loading') text = 'Loading…';
  else if (s === 'failed') text = output.error.status === 404 ? `There is no run before this one of ${id}.` : output.error.message;
  else if (s === 'down') text = 'The output cannot be read; the page tries again by itself.';
  else if (all > 0) text = 'No line of this level.';
  else if (previous) text = 'The run before wrote nothing.';
  return html`<p class="nothing" role="status">${text}</p>`;
}

function Foot({ output, all, previous }) {
  const s = output.state.value;
  const dated = all.filter((l) => !Number.isNaN(l.time));
  const state = previous ? 'ended' : s === 'live' ? '● follows' : s === 'down' ? '◌ connecting again' : '';
  return html`<p class="foot num"><span>${plural(all.length, 'line')}${output.total > all.length ? ` of ${count(output.total)}` : ''}</span>
    <span>${dated.length ? `${clockTime(dated[0].time)} – ${clockTime(dated.at(-1).time)}` : ''}</span><span>${state}</span></p>`;
}

// rowAt finds the line at a height.
function rowAt(tops, y) {
  let lo = 0;
  let hi = tops.length - 1;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if (tops[mid] <= y) lo = mid;
    else hi = mid - 1;
  }
  return lo;
}
