// Requests to the controller. An answer of 400 and above becomes an ApiError
// with the server's own words.
import { learnDate } from '../lib/format.js';

export class ApiError extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    this.retryAfter = retryAfter; // seconds that the server asks to wait, or undefined
    this.status = status; // 0: nobody answered
    this.code = code;
  }
}

// path adds a query to a path; parameters that are undefined or '' are left out.
export function path(base, query = {}) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(query)) if (v !== undefined && v !== null && v !== '') q.set(k, v);
  const tail = q.toString();
  return tail ? base + '?' + tail : base;
}

async function request(method, url, { body, signal, timeout = 20000 } = {}) {
  const limit = AbortSignal.timeout(timeout);
  let response;
  try {
    response = await fetch(url, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (err) {
    if (signal?.aborted) throw err;
    if (limit.aborted) throw new ApiError(0, 'TIMEOUT', `no answer within ${timeout / 1000} s`);
    throw new ApiError(0, 'UNREACHABLE', 'the controller does not answer');
  }
  learnDate(response.headers.get('Date'));
  return response;
}

async function refuse(response) {
  const text = await response.text();
  let code = response.statusText || String(response.status);
  let message = text.trim() || code;
  try {
    const b = JSON.parse(text);
    if (b.error) [code, message] = [b.error.code, b.error.message];
    else if (b.message) [code, message] = [b.reason || code, b.message];
  } catch {
    // not JSON: the text itself
  }
  throw new ApiError(response.status, code, message, Number.parseInt(response.headers.get('Retry-After'), 10) || undefined);
}

// get reads JSON.
export async function get(url, options) {
  const response = await request('GET', url, options);
  if (!response.ok) await refuse(response);
  return response.json();
}

// getText reads plain text.
export async function getText(url, options) {
  const response = await request('GET', url, options);
  if (!response.ok) await refuse(response);
  return response.text();
}

// post asks for an action. The server waits for processes, so this may take long.
export async function post(url, body) {
  const response = await request('POST', url, { body, timeout: 120000 });
  if (!response.ok) await refuse(response);
  return response.json();
}

// socketURL is the WebSocket address of a path.
export const socketURL = (p) => location.origin.replace(/^http/, 'ws') + p;
