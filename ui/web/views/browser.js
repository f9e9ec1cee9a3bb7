// History: pages of a partition, by offset or by time.
import { html, useEffect, useState } from '../lib/html.js';
import { count, dayTime } from '../lib/format.js';
import { read } from '../data/messages.js';
import { Messages } from './message.js';

const page = 50;

// Browser shows the page that begins at an offset. The newest page is the first
// one shown.
export function Browser({ name, topic }) {
  const [partition, setPartition] = useState(0);
  const [result, setResult] = useState(null); // {messages, asOf}
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(true);
  const [offset, setOffset] = useState('');
  const [time, setTime] = useState('');
  const many = (topic?.partitions.length ?? 1) > 1;
  const ends = topic?.partitions.find((p) => p.partition === partition);

  const load = async (query) => {
    setBusy(true);
    try {
      const answer = await read(name, many ? partition : undefined, { ...query, limit: page });
      if (query.reverse) answer.messages.reverse();
      setResult(answer);
      setError(null);
    } catch (err) {
      setError(err);
    } finally {
      setBusy(false);
    }
  };
  const newest = () => load({ reverse: 'true' });
  useEffect(() => {
    newest();
  }, [partition, many]);

  const list = result?.messages || [];
  const first = list[0]?.offset;
  const last = list.at(-1)?.offset;
  const atStart = first === undefined || (ends && first <= ends.first);
  const atEnd = last === undefined || (ends && last + 1 >= ends.next);
  const byOffset = (e) => {
    e.preventDefault();
    if (offset !== '') load({ from: offset });
  };
  const byTime = (e) => {
    e.preventDefault();
    const t = new Date(time);
    if (!Number.isNaN(t.getTime())) load({ from: t.toISOString() });
  };
  return html`<div class="toolbar">
      <span class="seg">
        <button class="small" disabled=${busy || atStart} onClick=${() => load({ from: 'earliest' })} aria-label="First page">⇤ First</button>
        <button class="small" disabled=${busy || atStart} onClick=${() => load({ from: Math.max(ends?.first ?? 0, first - page), until: first })} aria-label="Older messages">← Older</button>
        <button class="small" disabled=${busy || atEnd} onClick=${() => load({ from: last + 1 })} aria-label="Newer messages">Newer →</button>
        <button class="small" disabled=${busy} onClick=${newest} aria-label="Last page">Last ⇥</button>
      </span>
      ${many && html`<label>Partition <select value=${partition} onChange=${(e) => setPartition(Number(e.target.value))}>${topic.partitions.map((p) => html`<option value=${p.partition}>${p.partition}</option>`)}</select></label>`}
      <form onSubmit=${byOffset}><label>From offset <input class="num narrow" type="number" min="0" step="1" inputmode="numeric" value=${offset} onInput=${(e) => setOffset(e.target.value)} /></label> <button class="small">Go</button></form>
      <form onSubmit=${byTime}><label>From time <input class="num" type="datetime-local" step="1" value=${time} onInput=${(e) => setTime(e.target.value)} /></label> <button class="small">Go</button></form>
    </div>
    ${error && html`<p class="refusal" role="alert"><span>${error.code}: ${error.message}</span><button class="small" onClick=${newest}>To the newest</button></p>`}
    <div aria-busy=${busy} class=${busy ? 'busy' : ''}><${Messages} list=${list} many=${many} /></div>
    ${!busy && !error && list.length === 0 && html`<p class="blank">No message ${result && (offset || time) ? 'from there on' : 'is here yet'}.</p>`}
    ${busy && !result && html`<p class="blank">Loading…</p>`}
    ${list.length > 0 && html`<p class="foot num" role="status"><span>offsets ${count(first)} – ${count(last)}${ends ? ` of ${count(ends.first)} – ${count(ends.next - 1)}` : ''}</span><span>${dayTime(list[0].ts / 1000)} – ${dayTime(list.at(-1).ts / 1000)}</span><span>linearizable read</span></p>`}`;
}
