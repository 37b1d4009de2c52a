// The page of a run.
function runPage() {
  const { epochs, result, run } = data;
  const xs = epochs.map((epoch) => epoch.epoch);
  const decimals = data.decimals;
  const metric = (value) => (isNumber(value) ? value.toFixed(decimals) : '–');
  const column = (...keys) => epochs.map((epoch) => keys.reduce((value, key) => (value === undefined || value === null ? null : value[key]), epoch) ?? null);
  const last = epochs[epochs.length - 1] || {};

  const validScores = column('valid', data.valid_metric);
  let best = -1;
  epochs.forEach((epoch, i) => { if (epoch.improved) best = i; });

  const mean = (values) => { const all = values.filter(isNumber); return all.length ? all.reduce((a, b) => a + b, 0) / all.length : null; };
  const seconds = column('seconds').filter(isNumber).reduce((a, b) => a + b, 0);

  function head() {
    const state = result ? ['finished', 'good'] : ['not finished', 'bad'];
    const lines = [make('h1', {}, data.dataset, make('span', { class: `badge ${state[1]}` }, state[0]))];
    lines.push(make('p', {}, `GRU4Rec training run in ${data.folder}`));
    if (run) lines.push(make('p', {}, `${run.world_size} ${run.world_size === 1 ? 'rank' : 'ranks'}, ${run.replicas} ${run.replicas === 1 ? 'replica' : 'replicas'}, ${run.precision} products on ${run.device}, started ${run.started}`));
    if (!result) lines.push(make('p', {}, `Stopped, killed or still running${epochs.length ? ` after epoch ${last.epoch}` : ' before the end of its first epoch'}: the same command with --resume goes on.`));
    return make('header', {}, ...lines);
  }
  function cards() {
    const shown = [];
    if (best >= 0) shown.push(card(metric(validScores[best]), `best valid ${data.valid_metric}, epoch ${xs[best]}`));
    if (result?.test) for (const name of ['recall@20', 'mrr@20']) shown.push(card(metric(result.test[name]), `test ${name}`));
    if (epochs.length) shown.push(card(String(last.epoch + 1), `epochs, ${whole(last.step)} steps`));
    shown.push(card(duration(result ? result.train_seconds : seconds), result ? 'training time' : 'time in ended epochs'));
    const rate = mean(column('targets_per_second'));
    if (rate !== null) shown.push(card(whole(rate), 'targets/s, all ranks'));
    return make('div', { class: 'cards' }, ...shown);
  }

  const metricFamilies = () => {
    const families = new Map();
    for (const epoch of epochs)
      for (const name of Object.keys(epoch.valid || {})) {
        const [family, k] = name.split('@');
        if (!families.has(family)) families.set(family, new Set());
        families.get(family).add(Number(k));
      }
    const order = ['recall', 'mrr', 'ndcg', 'hit', 'precision'];
    return [...families].map(([family, ks]) => ({ family, ks: [...ks].sort((a, b) => a - b) })).sort((a, b) => order.indexOf(a.family) - order.indexOf(b.family));
  };
  function metricCharts() {
    return metricFamilies().map(({ family, ks }) => lineChart({
      title: `${family}, valid`, xs, yName: family, size: 'small', format: metric,
      series: ks.map((k) => ({ name: `@${k}`, values: column('valid', `${family}@${k}`) })),
    }));
  }

  // Of many ranks the slowest, the middle and the fastest one.
  function rankSeries() {
    const rates = column('rank_targets_per_second');
    const ranks = Math.max(0, ...rates.map((one) => (one ? one.length : 0)));
    if (ranks <= 8) return Array.from({ length: ranks }, (_, rank) => ({ name: `rank ${rank}`, values: rates.map((one) => one?.[rank] ?? null) }));
    const sorted = rates.map((one) => (one ? [...one].sort((a, b) => a - b) : null));
    return [['slowest', () => 0], ['median', (one) => one.length >> 1], ['fastest', (one) => one.length - 1]]
      .map(([name, at]) => ({ name, values: sorted.map((one) => (one ? one[at(one)] : null)) }));
  }

  const phases = [
    ['compute', 'forward and backward'], ['batches', 'reading the batch'], ['agreement', 'waiting for other ranks'],
    ['sum', 'sum over ranks'], ['optimizer', 'optimizer'], ['evaluation', 'evaluation'], ['checkpoint', 'checkpoints'], ['other', 'other'],
  ];
  function timeParts() {
    if (!epochs.some((epoch) => epoch.time)) return [];
    const chart = stackedChart({
      title: 'Where the time goes', note: 'Wall time of rank 0. A checkpoint counts with the epoch after it.', xs, yName: 'seconds', format: duration,
      series: phases.map(([key, name]) => ({ name, values: column('time', key) })),
    });
    const sums = phases.map(([key]) => column('time', key).filter(isNumber).reduce((a, b) => a + b, 0));
    const total = sums.reduce((a, b) => a + b, 0) || 1;
    const steps = last.step;  // of all starts; the times are of as many
    const perStep = (i) => (i < 5 ? duration(sums[i] / steps) : '');
    const rows = phases.map(([, name], i) => make('tr', {}, make('td', {}, swatch(i), name), cell(duration(sums[i]), true), cell(percent(sums[i] / total), true), cell(perStep(i), true)));
    return [chart, box('Breakdown of the time', table(['part', 'time', 'share', 'a step'], rows), make('p', { class: 'note' }, `${duration(total)} in ${xs.length} ${xs.length === 1 ? 'epoch' : 'epochs'} on rank 0.`))];
  }

  function resultTable() {
    if (!result?.best_valid && !result?.test) return null;
    const names = [...new Set([...Object.keys(result.best_valid || {}), ...Object.keys(result.test || {})])]
      .sort((a, b) => a.split('@')[0].localeCompare(b.split('@')[0]) || a.split('@')[1] - b.split('@')[1]);
    const rows = names.map((name) => {
      const row = make('tr', name === data.valid_metric ? { class: 'chosen' } : {}, cell(name), cell(metric(result.best_valid?.[name]), true), cell(metric(result.test?.[name]), true));
      return row;
    });
    return box('Result', table(['metric', 'valid, best epoch', 'test'], rows), make('p', { class: 'note' }, `Highlighted: ${data.valid_metric}, which chose the epoch.`));
  }
  function dataTable() {
    const store = run?.store;
    if (!store) return null;
    const counts = [['sessions', store.sessions], ['items', store.items], ['events', store.events], ['training targets', store.train_targets],
      ['valid targets', store.valid_targets], ['test targets', store.test_targets]].map(([name, count]) => [name, whole(count)]);
    return box('Data', table(['', ''], [...counts, ['events a session, mean', short(store.events / store.sessions)], ['events an item, mean', short(store.events / store.items)],
      ['evaluation', store.protocol], ['store', store.folder], ['digest', store.digest]]));
  }
  function runTable() {
    if (!run) return null;
    const shown = run.ranks.length > 9 ? [...run.ranks.slice(0, 8), `and ${run.ranks.length - 8} more, see run.json`] : run.ranks;
    return box('Run', table(['', ''], [['gru4rec', run.version], ['trained parameters', whole(run.parameters)], ['precision of products', run.precision],
      ['ranks', whole(run.world_size)], ['replicas', whole(run.replicas)], ...shown.map((where, i) => [i === 0 ? 'where' : '', where])]));
  }
  function optionTable() {
    const rows = [];
    let section = '';
    for (const option of data.options) {
      const changed = option.value !== option.default;
      if (option.section !== section) {
        section = option.section;
        const any = data.options.some((other) => other.section === section && other.value !== other.default);
        rows.push(make('tr', { class: any ? 'section' : 'section plain' }, make('td', { colspan: 3 }, section)));
      }
      rows.push(make('tr', { class: changed ? 'changed' : 'plain' }, make('td', { class: 'text' }, make('code', {}, option.key)), make('td', { class: 'text' }, make('code', {}, option.value)), make('td', { class: 'text' }, changed ? option.default : '')));
    }
    const only = make('input', { type: 'checkbox' });
    const all = make('div', { class: 'box' }, make('label', { class: 'switch' }, only, `only the ${data.options.filter((option) => option.value !== option.default).length} of ${data.options.length} that differ from the default`), make('table', {},
      make('thead', {}, make('tr', {}, make('th', {}, 'option'), make('th', {}, 'value'), make('th', {}, 'default, if it differs'))), make('tbody', {}, ...rows)));
    only.addEventListener('change', () => all.classList.toggle('few', only.checked));
    only.checked = true;
    all.classList.add('few');
    return all;
  }

  const ranks = rankSeries();
  const page = document.getElementById('page');
  page.append(head(), cards());
  if (epochs.length) {
    page.append(...section('Learning', make('div', { class: 'charts' }, ...[
      lineChart({ title: 'Training loss', note: 'Mean over the targets of an epoch.', xs, yName: 'loss', series: [{ name: 'loss', values: column('train_loss') }] }),
      lineChart({ title: `Valid ${data.valid_metric}`, note: 'Chooses the best epoch and stops early.', xs, yName: data.valid_metric, series: [{ name: data.valid_metric, values: validScores }], best, format: metric }),
    ].filter(Boolean)), make('div', { class: 'charts small' }, ...[
      ...metricCharts(),
      lineChart({ title: 'Learning rate, last step', xs, yName: 'learning rate', zero: true, size: 'small', series: [{ name: 'learning rate', values: column('learning_rate') }] }),
    ].filter(Boolean))));
    page.append(...section('Speed', make('div', { class: 'charts' }, ...[
      lineChart({ title: 'Throughput', note: 'Targets a second over all ranks, in the steps of an epoch.', xs, yName: 'targets/s', zero: true, series: [{ name: 'all ranks', values: column('targets_per_second') }], format: whole }),
      ranks.length > 1 ? lineChart({ title: 'Throughput by rank', note: 'Targets a second while the rank itself computes: the slowest keeps the others waiting.', xs, yName: 'targets/s', zero: true, series: ranks, format: whole }) : null,
      ...timeParts(),
    ].filter(Boolean))));
  }
  page.append(...section('Result, data and run', make('div', { class: 'columns' }, ...[resultTable(), dataTable(), runTable()].filter(Boolean))));
  page.append(...section('Options', optionTable()), footer());
}
if (data.kind === 'run') runPage();
