// The page of a tuning.
function tunePage() {
  const { trials, keys, metric } = data;
  const value = (score) => (isNumber(score) ? score.toFixed(4) : 'failed');
  const done = trials.filter((trial) => isNumber(trial.valid));
  const failed = trials.filter((trial) => !isNumber(trial.valid));
  // The first of equal ones, as the program chooses.
  const best = done.reduce((a, b) => (!a || b.valid > a.valid ? b : a), null);
  const about = (trial) => [trial.name, ...keys.map((key, i) => `${key}  ${trial.values[i]}`), isNumber(trial.valid) ? `valid ${metric}  ${value(trial.valid)}` : 'failed'].join('\n');
  const point = (trial, x) => ({ x, y: trial.valid ?? null, text: about(trial), best: trial === best });

  const page = document.getElementById('page');
  page.append(make('header', {}, make('h1', {}, `Tuning of ${data.name}`), make('p', {}, `${trials.length} ${trials.length === 1 ? 'trial has' : 'trials have'} ended in ${data.folder}; the best on the validation part by ${metric} is chosen.`)));
  const cards = [];
  if (best) {
    cards.push(card(value(best.valid), `best valid ${metric}, ${best.name}`));
    keys.forEach((key, i) => cards.push(card(best.values[i], `${key} of the best`)));
  }
  cards.push(card(String(done.length), 'trials with a result'), card(String(failed.length), 'failed'));
  const seconds = done.reduce((sum, trial) => sum + trial.seconds, 0);
  cards.push(card(duration(seconds), 'training time of all'));
  page.append(make('div', { class: 'cards' }, ...cards));

  if (done.length) {
    const running = [];
    trials.forEach((trial, i) => {
      if (!isNumber(trial.valid)) return;
      running.push([i + 1, Math.max(trial.valid, running.length ? running[running.length - 1][1] : -Infinity)]);
    });
    const numbered = trials.map((trial, i) => point(trial, i + 1));
    page.append(...section('Trials', make('div', { class: 'charts' }, dotChart({
      title: `Valid ${metric} of each trial`, note: `The line is the best so far${failed.length ? '; a cross at the foot is a trial that failed' : ''}.`, xName: 'trial', yName: metric, points: numbered, line: running, size: 'wide',
    }))));
    const varied = keys.map((key, i) => ({ key, i })).filter(({ i }) => new Set(trials.map((trial) => trial.values[i])).size > 1);
    page.append(...section('By option', make('div', { class: 'charts small' }, ...varied.map(({ key, i }) => dotChart({
      title: key, xName: key, yName: metric, points: trials.map((trial) => point(trial, trial.values[i])), size: 'small',
    })))));
    if (varied.length < keys.length) page.append(make('p', { class: 'note' }, `Not drawn, as all trials have the same: ${keys.filter((_, i) => !varied.some((one) => one.i === i)).join(', ')}.`));
  }
  const sorted = [...trials].sort((a, b) => (b.valid ?? -Infinity) - (a.valid ?? -Infinity) || a.name.localeCompare(b.name));
  const rows = sorted.map((trial, i) => make('tr', { class: trial === best ? 'chosen' : isNumber(trial.valid) ? 'trial' : 'failed' },
    cell(`${isNumber(trial.valid) ? i + 1 : '–'}`), cell(trial.name), ...trial.values.map((text) => cell(text, true)), cell(value(trial.valid), true), cell(isNumber(trial.epochs) ? String(trial.epochs) : '', true), cell(isNumber(trial.seconds) ? duration(trial.seconds) : '', true)));
  const names = ['#', 'trial', ...keys, `valid ${metric}`, 'epochs', 'time'];
  page.append(...section('All trials', make('div', { class: 'box' }, make('table', {}, make('thead', {}, make('tr', {}, ...names.map((name, i) => make('th', i > 1 ? { class: 'number' } : {}, name)))), make('tbody', {}, ...rows)))));
  if (failed.length) page.append(...section('Failed', make('div', { class: 'box' }, make('table', {}, make('tbody', {}, ...failed.map((trial) => make('tr', {}, make('td', { class: 'name' }, trial.name), cell(trial.failure || 'no reason was noted'))))))));
  page.append(footer());
}
if (data.kind === 'tune') tunePage();
