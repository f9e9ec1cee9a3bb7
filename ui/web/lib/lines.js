// Lines of a node's output: what they say, their level and time, and their
// colours. Pure.

const escape = /\x1b(?:\[([0-9;:]*)m|\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g;
const slog = /^(time=(\S+)) (level=(\w+)) (msg=(?:"(?:[^"\\]|\\.)*"|\S*))/;
const levels = { DEBUG: 0, INFO: 1, WARN: 2, ERROR: 3 };

// parse makes a line of its text: {text, spans, level, time}. Text is without
// colours; spans are [length, class, style]. A line without a level has -1, one
// without a time NaN.
export function parse(raw) {
  const { text, spans } = raw.includes('\x1b') ? colours(raw) : { text: raw, spans: null };
  const m = slog.exec(text);
  // What the server says between the lines begins with three dashes.
  if (!m) return { text, spans: spans || [[text.length, text.startsWith('--- ') ? 'l-rule' : '', null]], level: -1, time: NaN, width: width(text) };
  const level = levels[m[4]] ?? 1;
  return {
    text,
    spans: spans || [[m[1].length + 1, 'l-dim', null], [m[3].length + 1, 'l-level-' + level, null], [m[5].length, '', null], [text.length - m[0].length, 'l-dim', null]],
    level,
    time: Date.parse(m[2]),
    width: width(text),
  };
}

// width is the number of columns: two for wide characters.
export function width(text) {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let n = 0;
  for (const c of text) {
    const p = c.codePointAt(0);
    n += p >= 0x1100 && (p <= 0x115f || (p >= 0x2e80 && p <= 0xa4cf) || (p >= 0xac00 && p <= 0xd7a3) || (p >= 0xf900 && p <= 0xfaff) || (p >= 0xfe30 && p <= 0xfe6f) || (p >= 0xff00 && p <= 0xff60) || (p >= 0x1f300 && p <= 0x1faff)) ? 2 : 1;
  }
  return n;
}

function colours(raw) {
  const spans = [];
  let text = '';
  let at = 0;
  let state = {};
  const push = (part) => {
    if (!part) return;
    text += part;
    spans.push([part.length, classOf(state), styleOf(state)]);
  };
  for (const m of raw.matchAll(escape)) {
    push(raw.slice(at, m.index));
    at = m.index + m[0].length;
    if (m[1] !== undefined) state = sgr(state, m[1]);
  }
  push(raw.slice(at));
  return { text, spans };
}

// sgr applies the numbers of a colour sequence.
function sgr(state, numbers) {
  const s = { ...state };
  const n = numbers.split(/[;:]/).map(Number);
  for (let i = 0; i < n.length; i++) {
    const c = n[i];
    if (c === 0) for (const k in s) delete s[k];
    else if (c === 1) s.bold = true;
    else if (c === 2) s.dim = true;
    else if (c === 3) s.italic = true;
    else if (c === 4) s.under = true;
    else if (c === 22) s.bold = s.dim = false;
    else if (c === 23) s.italic = false;
    else if (c === 24) s.under = false;
    else if (c >= 30 && c <= 37) s.fg = c - 30;
    else if (c >= 90 && c <= 97) s.fg = c - 82;
    else if (c === 39) delete s.fg;
    else if (c >= 40 && c <= 47) s.bg = c - 40;
    else if (c >= 100 && c <= 107) s.bg = c - 92;
    else if (c === 49) delete s.bg;
    else if (c === 38 || c === 48) {
      const key = c === 38 ? 'fg' : 'bg';
      if (n[i + 1] === 5) {
        s[key] = indexed(n[i + 2]);
        i += 2;
      } else if (n[i + 1] === 2) {
        s[key] = `rgb(${n.slice(i + 2, i + 5).map((x) => Math.min(255, x | 0)).join(' ')})`;
        i += 4;
      }
    }
  }
  return s;
}

// indexed is a colour of the 256: the first 16 by our names, the cube, the greys.
function indexed(n) {
  if (!(n >= 0 && n <= 255)) return undefined;
  if (n < 16) return n;
  if (n >= 232) return `rgb(${Array(3).fill(8 + 10 * (n - 232)).join(' ')})`;
  const level = (v) => (v === 0 ? 0 : 55 + 40 * v);
  return `rgb(${level(Math.floor((n - 16) / 36))} ${level(Math.floor((n - 16) / 6) % 6)} ${level((n - 16) % 6)})`;
}

function classOf(s) {
  const c = [];
  if (s.bold) c.push('a-bold');
  if (s.dim) c.push('l-dim');
  if (s.italic) c.push('a-italic');
  if (s.under) c.push('a-under');
  if (typeof s.fg === 'number') c.push('a-fg' + s.fg);
  if (typeof s.bg === 'number') c.push('a-bg' + s.bg);
  return c.join(' ');
}

function styleOf(s) {
  if (typeof s.fg !== 'string' && typeof s.bg !== 'string') return null;
  return { color: typeof s.fg === 'string' ? s.fg : undefined, backgroundColor: typeof s.bg === 'string' ? s.bg : undefined };
}

// pattern makes a search of what was typed: text in any case, or /regexp/. It
// returns null for nothing, and throws a SyntaxError for a bad regexp.
export function pattern(typed) {
  if (!typed) return null;
  const m = /^\/(.+)\/$/.exec(typed);
  return new RegExp(m ? m[1] : typed.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gi');
}

// pieces cuts a line where its colour or a match begins or ends: [text, class,
// style, matched].
export function pieces(line, re) {
  const marks = [];
  if (re) {
    for (const m of line.text.matchAll(re)) {
      if (m[0]) marks.push([m.index, m.index + m[0].length]);
      if (marks.length > 200) break;
    }
  }
  const out = [];
  let at = 0;
  let k = 0;
  for (const [length, cls, style] of line.spans) {
    const end = at + length;
    while (at < end) {
      while (k < marks.length && marks[k][1] <= at) k++;
      const m = marks[k];
      const inside = !!m && m[0] <= at;
      const stop = Math.min(end, !m ? end : inside ? m[1] : m[0]);
      out.push([line.text.slice(at, stop), cls, style, inside]);
      at = stop;
    }
  }
  return out;
}
