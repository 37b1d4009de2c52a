'use strict';
// Elements, scales and charts, shared by the pages of a run and of a tuning. All text goes in as text, never as markup.
const data = JSON.parse(document.getElementById('data').textContent);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);
const color = (index) => `var(--s${index % 8})`;
const swatch = (index) => {
  const square = make('i');
  square.style.background = color(index);
  return square;
};

// 0.00012 → 1.2e-4, 0.0123, 12.3, 12.35k, 1.23M
function short(value) {
  if (!isNumber(value)) return '–';
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size >= 1e9) return value.toExponential(1).replace('.0e+', 'e');
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(4)}k`;
  if (size < 1e-3) return value.toExponential(1).replace('.0e', 'e');
  return String(+value.toPrecision(4));
}
const whole = (value) => (isNumber(value) ? Math.round(value).toLocaleString('en-US') : '–');
function duration(seconds) {
  if (!isNumber(seconds)) return '–';
  if (seconds < 1) return `${+(1000 * seconds).toPrecision(3)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const all = Math.round(seconds), hours = Math.floor(all / 3600), minutes = Math.floor(all / 60) % 60;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${all % 60} s`;
}
const percent = (share) => `${(100 * share).toFixed(1)} %`;

// Round numbers that cover [low, high].
function linearTicks(low, high, wanted, integers) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / wanted));
  let step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= 1.4 * wanted);
  if (integers) step = Math.max(1, Math.round(step));
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) ticks.push(+(i * step).toPrecision(12));
  return ticks;
}
function logTicks(low, high) {
  const ticks = [];
  const factors = high / low < 200 ? [1, 2, 5] : [1];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); ++power)
    for (const factor of factors) {
      const tick = +(factor * 10 ** power).toPrecision(3);
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  const every = Math.ceil(ticks.length / 7);  // of many decades some
  return ticks.length > 1 ? ticks.filter((_, i) => i % every === 0) : linearTicks(low, high, 4);
}

// A scale maps values to pixels; its ticks are [value, text].
function linearScale(values, from, to, { zero = false, integers = false, count = 5 } = {}) {
  let low = Math.min(...values), high = Math.max(...values);
  if (zero) low = Math.min(0, low);
  if (low === high) [low, high] = zero ? [0, high || 1] : [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const room = (high - low) * 0.06;
  if (!integers) [low, high] = [zero && low === 0 ? 0 : low - room, high + room];
  return {
    at: (value) => from + ((value - low) / (high - low)) * (to - from),
    ticks: linearTicks(low, high, count, integers).map((tick) => [tick, short(tick)]),
  };
}
function logScale(values, from, to) {
  const room = (Math.max(...values) / Math.min(...values)) ** 0.08 * 1.02;
  const low = Math.min(...values) / room, high = Math.max(...values) * room;
  return {
    at: (value) => from + (Math.log(value / low) / Math.log(high / low)) * (to - from),
    ticks: logTicks(low, high).map((tick) => [tick, short(tick)]),
  };
}
function nameScale(names, from, to) {
  const width = (to - from) / names.length;
  return {
    at: (name) => from + (names.indexOf(name) + 0.5) * width,
    ticks: names.map((name) => [name, name.length > 14 ? `${name.slice(0, 13)}…` : name]),
  };
}

// The frame of a chart: title, a line below it, axes with ticks and names. `plot` is the rectangle that data go into.
const sizes = { small: [360, 210], normal: [560, 260], wide: [1140, 300] };
function frame({ title, note = '', legend = [], size = 'normal' }) {
  const [width, height] = sizes[size];
  const plot = { left: 68, right: width - 14, top: 12, bottom: height - 40, width, height };
  const svg = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title });
  const figure = make('figure', {}, make('figcaption', {}, title));
  if (note) figure.append(make('p', { class: 'note' }, note));
  if (legend.length > 1)
    figure.append(make('div', { class: 'legend' }, ...legend.map((name, i) => make('span', {}, swatch(i), name))));
  figure.append(svg);
  return { figure, svg, plot };
}
function axes(svg, plot, x, y, xName, yName) {
  for (const [value, text] of y.ticks) {
    const at = y.at(value);
    svg.append(draw('line', { class: 'grid', x1: plot.left, x2: plot.right, y1: at, y2: at }));
    svg.append(draw('text', { x: plot.left - 7, y: at + 4, 'text-anchor': 'end' }, text));
  }
  for (const [value, text] of x.ticks) {
    const at = x.at(value);
    svg.append(draw('line', { class: 'axis', x1: at, x2: at, y1: plot.bottom, y2: plot.bottom + 4 }));
    svg.append(draw('text', { x: at, y: plot.bottom + 17, 'text-anchor': 'middle' }, text));
  }
  svg.append(draw('line', { class: 'axis', x1: plot.left, x2: plot.right, y1: plot.bottom, y2: plot.bottom }));
  svg.append(draw('text', { x: (plot.left + plot.right) / 2, y: plot.height - 4, 'text-anchor': 'middle' }, xName));
  const middle = (plot.top + plot.bottom) / 2;
  svg.append(draw('text', { x: 11, y: middle, 'text-anchor': 'middle', transform: `rotate(-90 11 ${middle})` }, yName));
}

// A box beside the pointer; `nearest(x, y)` in units of the picture returns {x, text} or null.
function tooltips({ figure, svg, plot }, nearest) {
  const tip = make('div', { class: 'tip' });
  const cursor = draw('line', { class: 'cursor', y1: plot.top, y2: plot.bottom });
  svg.append(cursor);
  figure.append(tip);
  const hide = () => { tip.style.visibility = cursor.style.visibility = 'hidden'; };
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect(), outer = figure.getBoundingClientRect(), scale = plot.width / box.width;
    const found = nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
    if (!found) return hide();
    cursor.setAttribute('x1', found.x);
    cursor.setAttribute('x2', found.x);
    tip.textContent = found.text;
    const left = event.clientX - outer.left;
    tip.style.left = `${Math.max(4, left + 16 + tip.offsetWidth > outer.width ? left - tip.offsetWidth - 16 : left + 16)}px`;
    tip.style.top = `${event.clientY - outer.top + 12}px`;
    tip.style.visibility = cursor.style.visibility = 'visible';
  });
}
function indexNear(x, values, pixel) {
  let best = -1;
  values.forEach((value, i) => {
    if (best < 0 || Math.abs(x.at(value) - pixel) < Math.abs(x.at(values[best]) - pixel)) best = i;
  });
  return best;
}

// Curves over the epochs. series: [{name, values}], a value a position of `xs`, null where there is none.
function lineChart({ title, note, xs, xName = 'epoch', yName, series, zero = false, best = -1, format = short, size = 'normal' }) {
  const parts = frame({ title, note, legend: series.map((one) => one.name), size });
  const { svg, plot } = parts;
  const all = series.flatMap((one) => one.values).filter(isNumber);
  if (!all.length) return null;
  const x = linearScale(xs, plot.left + 8, plot.right - 8, { integers: true, count: size === 'small' ? 5 : 9 });
  const y = linearScale(all, plot.bottom, plot.top + (best >= 0 ? 12 : 0), { zero });  // room for a word
  axes(svg, plot, x, y, xName, yName);
  series.forEach((one, index) => {
    let path = '', open = false;
    const points = [];
    one.values.forEach((value, i) => {
      if (!isNumber(value)) return;
      path += `${open ? 'L' : 'M'}${x.at(xs[i]).toFixed(2)},${y.at(value).toFixed(2)}`;
      open = true;
      if (xs.length <= 400) points.push(draw('circle', { class: 'point', cx: x.at(xs[i]).toFixed(2), cy: y.at(value).toFixed(2), r: xs.length > 60 ? 1 : 2.7, fill: color(index) }));
    });
    const curve = draw('path', { class: 'curve', d: path });
    curve.style.stroke = color(index);
    svg.append(curve, ...points);
  });
  if (best >= 0) {
    const at = [x.at(xs[best]), y.at(series[0].values[best])];
    svg.append(draw('circle', { class: 'best', cx: at[0], cy: at[1], r: 6.5 }));
    const anchor = at[0] > plot.right - 50 ? 'end' : at[0] < plot.left + 50 ? 'start' : 'middle';
    svg.append(draw('text', { class: 'value', x: at[0], y: at[1] - 12, 'text-anchor': anchor }, `best ${format(series[0].values[best])}`));
  }
  tooltips(parts, (pixel) => {
    const i = indexNear(x, xs, pixel);
    const lines = series.map((one) => `${series.length > 1 ? `${one.name}  ` : ''}${format(one.values[i])}`);
    return { x: x.at(xs[i]), text: [`${xName} ${xs[i]}`, ...lines].join('\n') };
  });
  return parts.figure;
}

// A column an epoch, of parts that lie on each other.
function stackedChart({ title, note, xs, yName, series, format = short }) {
  const parts = frame({ title, note, legend: series.map((one) => one.name) });
  const { svg, plot } = parts;
  const totals = xs.map((_, i) => series.reduce((sum, one) => sum + (one.values[i] || 0), 0));
  const band = (plot.right - plot.left) / xs.length;
  const x = linearScale(xs, plot.left + band / 2, plot.right - band / 2, { integers: true, count: 9 });
  if (xs.length === 1) x.at = () => (plot.left + plot.right) / 2;
  const y = linearScale(totals, plot.bottom, plot.top, { zero: true });
  axes(svg, plot, x, y, 'epoch', yName);
  const width = Math.min(60, Math.max(0.5, band * (xs.length > 80 ? 1 : 0.78)));
  xs.forEach((value, i) => {
    let below = 0;
    series.forEach((one, index) => {
      const part = one.values[i] || 0;
      const top = y.at(below + part), bottom = y.at(below);
      below += part;
      svg.append(draw('rect', { class: 'part', x: (x.at(value) - width / 2).toFixed(2), width: width.toFixed(2), y: top.toFixed(2), height: Math.max(0, bottom - top).toFixed(2), fill: color(index) }));
    });
  });
  tooltips(parts, (pixel) => {
    const i = indexNear(x, xs, pixel);
    const lines = series.map((one) => `${one.name}  ${format(one.values[i] || 0)}`);
    return { x: x.at(xs[i]), text: [`epoch ${xs[i]}: ${format(totals[i])}`, ...lines].join('\n') };
  });
  return parts.figure;
}

// Dots. points: [{x, y or null, text, best}]; what has no y failed, and is a cross at the foot.
function dotChart({ title, note, xName, yName, points, size = 'normal', line = [] }) {
  const parts = frame({ title, note, size });
  const { svg, plot } = parts;
  const ys = points.map((point) => point.y).filter(isNumber);
  if (!ys.length) return null;
  const values = points.map((point) => point.x);
  const numbers = values.map(Number), numeric = values.every((value) => value !== '' && value !== true && value !== false) && numbers.every(Number.isFinite);
  const log = numeric && Math.min(...numbers) > 0 && Math.max(...numbers) / Math.min(...numbers) >= 8 && xName !== 'trial';
  const ends = [plot.left + 12, plot.right - 12];
  const scale = !numeric ? nameScale([...new Set(values.map(String))], ...ends)
    : log ? logScale(numbers, ...ends)
    : linearScale(numbers, ...ends, { count: size === 'wide' ? 18 : 5, integers: xName === 'trial' || (new Set(numbers).size < 6 && numbers.every(Number.isInteger)) });
  const place = (value) => scale.at(numeric ? Number(value) : String(value));
  const y = linearScale(ys, plot.bottom - 10, plot.top);
  axes(svg, plot, scale, y, log ? `${xName} (log)` : xName, yName);
  if (line.length) {
    const path = draw('path', { class: 'curve', d: line.map(([at, value], i) => `${i ? 'L' : 'M'}${place(at).toFixed(2)},${y.at(value).toFixed(2)}`).join('') });
    path.style.stroke = color(1);
    svg.append(path);
  }
  const spots = points.map((point) => ({ ...point, px: place(point.x), py: isNumber(point.y) ? y.at(point.y) : plot.bottom - 5 }));
  for (const spot of [...spots].sort((a, b) => Number(a.best) - Number(b.best))) {
    if (!isNumber(spot.y)) {
      svg.append(draw('path', { class: 'cross point', d: `M${spot.px - 4},${spot.py - 4}l8,8m0,-8l-8,8` }));
      continue;
    }
    svg.append(draw('circle', { class: 'point', cx: spot.px.toFixed(2), cy: spot.py.toFixed(2), r: size === 'small' ? 3.6 : 4.4, fill: color(spot.best ? 2 : 0), 'fill-opacity': spot.best ? 1 : 0.65 }));
    if (spot.best) svg.append(draw('circle', { class: 'best', cx: spot.px, cy: spot.py, r: 7.5 }));
  }
  tooltips(parts, (px, py) => {
    const near = spots.reduce((a, b) => (Math.hypot(a.px - px, a.py - py) <= Math.hypot(b.px - px, b.py - py) ? a : b));
    return Math.hypot(near.px - px, near.py - py) < 30 ? { x: near.px, text: near.text } : null;
  });
  return parts.figure;
}

const cell = (content, numeric) => make('td', { class: numeric ? 'number' : 'text' }, content);
function table(head, rows) {
  const body = rows.map((row) => (row instanceof Node ? row : make('tr', {}, ...row.map((content, i) => cell(content, i > 0)))));
  return make('table', {}, make('thead', {}, make('tr', {}, ...head.map((name, i) => make('th', i ? { class: 'number' } : {}, name)))), make('tbody', {}, ...body));
}
const box = (title, ...content) => make('div', { class: 'box' }, make('h3', {}, title), ...content);
const card = (value, name) => make('div', { class: 'card' }, make('b', {}, value), make('span', {}, name));
const section = (title, ...content) => [make('h2', {}, title), ...content];
const footer = () => make('footer', {}, `Made by gru4rec ${data.version} on ${data.made}, from the files in ${data.folder}.`);
