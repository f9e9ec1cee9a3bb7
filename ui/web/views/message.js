// Messages as a list; one opens to show all of it. Long values are cut, so that
// a large one does not hold the page up.
import { html, useState } from '../lib/html.js';
import { bytes, count, dayTime, micros } from '../lib/format.js';

const preview = 240; // characters in the list
const whole = 64 * 1024; // characters when opened, at first

export function Messages({ list, many, fresh }) {
  return html`<ul class="msgs">${list.map((m) => html`<${Message} key=${m.partition + '@' + m.offset} m=${m} many=${many} fresh=${fresh} />`)}</ul>`;
}

function Message({ m, many, fresh }) {
  const [open, setOpen] = useState(false);
  const text = m.value ?? '';
  const binary = m.value === undefined;
  return html`<li class=${fresh ? 'msg fresh' : 'msg'}>
    <button class="msgrow" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      <span class="off num">${many ? m.partition + '@' : ''}${count(m.offset)}</span>
      <span class="when num" title=${m.eps < 0 ? 'the stamp is unsynchronised' : '± ' + micros(m.eps)}>${dayTime(m.ts / 1000, true)}</span>
      <span class="key">${m.key ?? ''}</span>
      <span class="val">${binary ? html`<i>binary, ${bytes(Math.floor((m.valueBase64.length * 3) / 4))}</i>` : text === '' ? html`<i>empty</i>` : text.length > preview ? text.slice(0, preview) + '…' : text}</span>
    </button>
    ${open && html`<${Detail} m=${m} />`}
  </li>`;
}

function Detail({ m }) {
  const [raw, setRaw] = useState(false);
  const [all, setAll] = useState(false);
  const source = m.value ?? m.valueBase64;
  let text = source;
  let pretty = false;
  if (m.value !== undefined && !raw && source.length <= whole && /^\s*[[{]/.test(source)) {
    try {
      text = JSON.stringify(JSON.parse(source), null, 2);
      pretty = true;
    } catch {
      // not JSON: as it is
    }
  }
  const cut = !all && text.length > whole;
  const fact = (n, v) => v !== undefined && v !== '' && html`<div><dt>${n}</dt><dd>${v}</dd></div>`;
  return html`<div class="detail">
    <dl class="facts">${fact('partition', m.partition)}${fact('offset', count(m.offset))}${fact('stamp', dayTime(m.ts / 1000, true))}${fact('eps', m.eps < 0 ? 'unsynchronised' : '± ' + micros(m.eps))}
      ${fact('lamport', count(m.lamport))}${fact('key', m.key)}${fact('id', m.id)}${m.late && fact('order', 'late')}
      ${Object.entries(m.headers || {}).map(([n, v]) => fact(n, v))}</dl>
    <pre tabindex="0" aria-label="Value">${cut ? text.slice(0, whole) : text}</pre>
    <p class="buttons">
      ${cut && html`<button class="small" onClick=${() => setAll(true)}>Show all ${count(text.length)} characters</button>`}
      ${(pretty || raw) && html`<button class="small" aria-pressed=${raw} onClick=${() => setRaw(!raw)}>As it is</button>`}
      <button class="small" onClick=${() => navigator.clipboard?.writeText(source)}>Copy</button>
    </p>
  </div>`;
}
