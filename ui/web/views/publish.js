// The form that publishes, and the receipt.
import { html, useRef, useState } from '../lib/html.js';
import { count, dayTime, micros } from '../lib/format.js';
import { publish } from '../data/messages.js';

export function Publish({ name, topic }) {
  const [value, setValue] = useState('');
  const [key, setKey] = useState('');
  const [id, setId] = useState('');
  const [partition, setPartition] = useState('');
  const [headers, setHeaders] = useState([]);
  const [busy, setBusy] = useState(false);
  const [answer, setAnswer] = useState(null); // {receipt} or {error}
  const area = useRef();

  const send = async (e) => {
    e?.preventDefault();
    if (busy) return;
    setBusy(true);
    const message = { value };
    if (key) message.key = key;
    if (id) message.id = id;
    const given = headers.filter(([n]) => n);
    if (given.length) message.headers = Object.fromEntries(given);
    try {
      setAnswer({ receipt: await publish(name, message, { partition }) });
      setValue('');
      setId('');
      area.current.focus();
    } catch (err) {
      setAnswer({ error: err });
    } finally {
      setBusy(false);
    }
  };
  const setHeader = (i, j, v) => setHeaders(headers.map((h, k) => (k === i ? h.with(j, v) : h)));
  const many = topic && topic.partitions.length > 1;
  return html`<section class="panel" aria-labelledby="publish-h">
    <h2 id="publish-h">Publish</h2>
    <form class="publish" onSubmit=${send}>
      <label for="p-value">Value</label>
      <textarea id="p-value" ref=${area} rows="4" spellcheck="false" value=${value} onInput=${(e) => setValue(e.target.value)}
        onKeyDown=${(e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) send(e); }} placeholder="Ctrl-Enter publishes"></textarea>
      <div class="pair">
        <span><label for="p-key">Key</label><input id="p-key" value=${key} onInput=${(e) => setKey(e.target.value)} autocomplete="off" /></span>
        <span><label for="p-id">Id, for once only</label><input id="p-id" value=${id} onInput=${(e) => setId(e.target.value)} autocomplete="off" /></span>
        ${many && html`<span><label for="p-part">Partition</label><select id="p-part" value=${partition} onChange=${(e) => setPartition(e.target.value)}>
          <option value="">by key, id or turn</option>${topic.partitions.map((p) => html`<option value=${p.partition}>${p.partition}</option>`)}</select></span>`}
      </div>
      ${headers.map(([n, v], i) => html`<div class="pair header" key=${i}>
        <input aria-label="Name of header ${i + 1}" placeholder="header" value=${n} onInput=${(e) => setHeader(i, 0, e.target.value)} />
        <input aria-label="Value of header ${i + 1}" placeholder="value" value=${v} onInput=${(e) => setHeader(i, 1, e.target.value)} />
        <button type="button" class="small quiet" aria-label="Remove header ${i + 1}" onClick=${() => setHeaders(headers.toSpliced(i, 1))}>✕</button>
      </div>`)}
      <div class="buttons">
        <button type="button" class="quiet" onClick=${() => setHeaders([...headers, ['', '']])}>+ Header</button>
        <button class="primary" disabled=${busy}>${busy ? 'Publishing…' : 'Publish'}</button>
      </div>
    </form>
    <div class="answer" role="status">${!answer ? html`<p class="dim">The receipt appears here: where the message is, and on how many disks.</p>` : (answer.receipt ? html`<${Receipt} r=${answer.receipt} />` : html`<${Failure} error=${answer.error} />`)}</div>
  </section>`;
}

function Receipt({ r }) {
  const fact = (n, v) => html`<div><dt>${n}</dt><dd>${v}</dd></div>`;
  return html`<div class="receipt">
    <p class="tone-ok"><span class="sign" aria-hidden="true">✓</span> ${r.duplicate ? 'Known already; this is the first receipt' : 'Acknowledged: on disk on a majority'}</p>
    <dl class="facts">
      ${fact('offset', html`<b>${count(r.offset)}</b>`)}${fact('partition', r.partition)}${fact('on disk', r.synced)}${fact('stamp', dayTime(r.ts / 1000, true))}
      ${fact('eps', r.eps < 0 ? 'unsynchronised' : '± ' + micros(r.eps))}${fact('term', count(r.term))}${fact('index', count(r.index))}${fact('lamport', count(r.lamport))}
    </dl>
  </div>`;
}

// Failure says what is known: only TIMEOUT and silence leave it open.
function Failure({ error }) {
  const open = error.code === 'TIMEOUT' || error.status === 0;
  return html`<div class="refusal"><span><b>${open ? 'It is not known whether it was written.' : 'It was not written.'}</b> ${error.code}: ${error.message}${open ? ' Publish it again with the same id, and it is stored once.' : ''}${error.retryAfter ? ` Try again in ${error.retryAfter} s.` : ''}</span></div>`;
}
