// Numbers, times and sizes as people read them. All pure but for now().

const number = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

export const count = (n) => (n === undefined || n === null ? '–' : number.format(n));

// rate is messages per second: three figures at most.
export function rate(n) {
  if (n === undefined || n === null || Number.isNaN(n)) return '–';
  if (n >= 1e6) return (n / 1e6).toFixed(n < 1e7 ? 1 : 0) + 'M';
  if (n >= 1e4) return (n / 1e3).toFixed(0) + 'k';
  if (n >= 1e3) return (n / 1e3).toFixed(1) + 'k';
  if (n > 0 && n < 10) return n.toFixed(1);
  return n.toFixed(0);
}

export function bytes(n) {
  if (n < 1024) return n + ' B';
  if (n < 1024 * 1024) return (n / 1024).toFixed(1) + ' KiB';
  return (n / 1024 / 1024).toFixed(1) + ' MiB';
}

let offset = 0; // of the server's clock to this machine's, ms

// now is the server's time as far as it is known: countdowns and ages are about
// what the server wrote.
export const now = () => Date.now() + offset;

// learnDate takes the Date of an answer. It has whole seconds, so a difference
// below two says nothing.
export function learnDate(date) {
  const d = Date.parse(date) + 500 - Date.now();
  if (Number.isFinite(d)) offset = Math.abs(d) < 2000 ? 0 : d;
}

// age is kubectl's: 90s, 5m30s, 125m, 5h10m, 30h, 3d4h.
export function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const part = (big, unit, small, smallUnit) => big + unit + (small ? small + smallUnit : '');
  if (s < 120) return s + 's';
  const m = Math.floor(s / 60);
  if (m < 10) return part(m, 'm', s % 60, 's');
  if (m < 180) return m + 'm';
  const h = Math.floor(m / 60);
  if (h < 8) return part(h, 'h', m % 60, 'm');
  if (h < 48) return h + 'h';
  const d = Math.floor(h / 24);
  return d < 8 ? part(d, 'd', h % 24, 'h') : d + 'd';
}

export const since = (rfc3339) => (rfc3339 ? age(now() - Date.parse(rfc3339)) : '–');

// until is the countdown to a moment, never below 0: whole seconds, and as an age
// when they are many.
export function until(at) {
  const s = Math.max(0, Math.ceil((at - now()) / 1000));
  return s < 120 ? s + ' s' : age(1000 * s);
}

const two = (n) => String(n).padStart(2, '0');

// clockTime is the time of day here, with milliseconds if wanted.
export function clockTime(ms, millis = false) {
  const d = new Date(ms);
  const t = two(d.getHours()) + ':' + two(d.getMinutes()) + ':' + two(d.getSeconds());
  return millis ? t + '.' + String(d.getMilliseconds()).padStart(3, '0') : t;
}

// dayTime adds the date when it is not today.
export function dayTime(ms, millis = false) {
  const d = new Date(ms);
  const day = d.toDateString() === new Date().toDateString() ? '' : d.getFullYear() + '-' + two(d.getMonth() + 1) + '-' + two(d.getDate()) + ' ';
  return day + clockTime(ms, millis);
}

// micros is a duration given in microseconds, with its unit.
export function micros(us, sign = false) {
  if (us === undefined || us === null) return '–';
  const abs = Math.abs(us);
  const lead = us < 0 ? '−' : sign && us > 0 ? '+' : '';
  if (abs < 1000) return lead + abs.toFixed(0) + ' µs';
  if (abs < 1e6) return lead + (abs / 1000).toFixed(abs < 1e4 ? 2 : abs < 1e5 ? 1 : 0) + ' ms';
  return lead + (abs / 1e6).toFixed(2) + ' s';
}

// plural: "1 node", "3 nodes".
export const plural = (n, word) => count(n) + ' ' + word + (n === 1 ? '' : 's');
