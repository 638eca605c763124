/** Server-sent events, as the HTML standard describes them (section 9.2.6). */

export interface ServerSentEvent {
  event: string;
  data: string;
}

const LONGEST_EVENT = 16 * 1024 * 1024;

/** The events of a body in UTF-8. Comments and fields other than `event` and `data` are passed over. */
export async function* eventsOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  let event = '';
  let data: string[] = [];
  for await (const part of body) {
    rest += decoder.decode(part, { stream: true });
    if (rest.length > LONGEST_EVENT) throw new Error('an event without end');
    // A carriage return at the end may be half of a line's end.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event: event || 'message', data: data.join('\n') };
        event = '';
        data = [];
        continue;
      }
      const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
      if (field === 'event') event = value;
      else if (field === 'data') data.push(value);
    }
  }
}
