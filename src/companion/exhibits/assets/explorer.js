// The self-teacher at one token: objective.py's equations (6 to 20) in float64, and sliders.
"use strict";

const method = (() => {
  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // log softmax(z / tau): the student at tau = 1, the self-teacher otherwise.
  function logProbs(logits, tau = 1) {
    const scaled = logits.map((z) => z / tau), top = Math.max(...scaled);
    const whole = Math.log(sum(scaled.map((z) => Math.exp(z - top))));
    return scaled.map((z) => z - top - whole);
  }
  const entropy = (logP) => -sum(logP.map((l) => Math.exp(l) * l));
  const kl = (logA, logB) => sum(logA.map((a, i) => Math.exp(a) * (a - logB[i])));

  // Of the KL between a student's logits and a teacher that takes no gradient.
  const gradients = {
    forward: (logP, logQ) => logP.map((l, i) => Math.exp(l) - Math.exp(logQ[i])),
    reverse: (logP, logQ) => {
      const whole = kl(logP, logQ);
      return logP.map((l, i) => Math.exp(l) * (l - logQ[i] - whole));
    },
  };

  // Gradient descent on the logits, towards a teacher that moves along or one that stands still.
  // Entropies of the start and after each step, and the logits after `count` of them.
  function descend(logits, tau, direction, teacher, steps, count, rate) {
    const still = logProbs(logits, tau);
    let z = logits, there = logits;
    const entropies = [entropy(logProbs(z))];
    for (let step = 1; step <= steps; step++) {
      const logQ = teacher === "live" ? logProbs(z, tau) : still;
      const gradient = gradients[direction](logProbs(z), logQ);
      z = z.map((value, i) => value - rate * gradient[i]);
      entropies.push(entropy(logProbs(z)));
      if (step === count) there = z;
    }
    return { entropies, logits: there };
  }
  return { logProbs, entropy, kl, gradients, descend };
})();

const chart = (() => {
  const draw = (name, attributes = {}, text = null) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const WIDTH = 440, HEIGHT = 250, LEFT = 46, BOTTOM = 34, TOP = 12;

  function frame(place, label, low, high, ticks, scale = (y) => y) {
    place.replaceChildren();
    const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
    const y = (value) => {
      const at = Math.min(Math.max(value, Math.min(low, high)), Math.max(low, high));
      return HEIGHT - BOTTOM -
        (HEIGHT - BOTTOM - TOP) * (scale(at) - scale(low)) / (scale(high) - scale(low));
    };
    for (const tick of ticks) {
      svg.append(draw("line", { x1: LEFT, x2: WIDTH, y1: y(tick), y2: y(tick), class: "grid" }));
      svg.append(draw("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick).replace("-", "−")));
    }
    place.append(svg);
    return { svg, y };
  }

  // Two bars for each of the first tokens.
  function bars(place, label, tokens, series, low, high, ticks) {
    const { svg, y } = frame(place, label, low, high, ticks);
    const each = (WIDTH - LEFT) / tokens.length;
    tokens.forEach((token, i) => {
      series.forEach(({ values, name }, s) => {
        const top = y(Math.max(values[i], 0)), bottom = y(Math.min(values[i], 0));
        const bar = draw("rect", {
          x: LEFT + each * (i + 0.14 + 0.36 * s), width: each * 0.34, y: top,
          height: Math.max(bottom - top, 0.5), class: `bar-${name}`,
        });
        svg.append(bar);
      });
      svg.append(draw("text", {
        x: LEFT + each * (i + 0.5), y: HEIGHT - 14, "text-anchor": "middle", class: "token",
      }, token.length > 6 ? `${token.slice(0, 5)}…` : token));
    });
    svg.append(draw("line", { x1: LEFT, x2: WIDTH, y1: y(0), y2: y(0), class: "axis" }));
  }

  // Lines over steps, on a logarithmic scale, with levels and the step that is looked at.
  function lines(place, label, series, levels, step, low, high, ticks) {
    const { svg, y } = frame(place, label, low, high, ticks, Math.log);
    const last = series[0].values.length - 1;
    const x = (at) => LEFT + (WIDTH - LEFT - 8) * at / last;
    for (const { value, name } of levels) {
      svg.append(draw("line", { x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value), class: `level ${name}` }));
    }
    for (const { values, name } of series) {
      const path = values.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`);
      svg.append(draw("path", { d: path.join(""), class: `line-${name}` }));
      svg.append(draw("circle", { cx: x(step), cy: y(values[step]), r: 4, class: `dot-${name}` }));
    }
    svg.append(draw("line", { x1: x(step), x2: x(step), y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor" }));
    for (const [at, anchor] of [[0, "start"], [last / 2, "middle"], [last, "end"]]) {
      svg.append(draw("text", { x: x(at), y: HEIGHT - 14, "text-anchor": anchor }, String(at)));
    }
  }
  return { bars, lines };
})();

widgets.explorer = (place, data) => {
  const STEPS = 400, RATE = 0.5, SHOWN = 8;
  const find = (name) => place.querySelector(`[data-part="${name}"]`);
  const number = (value) => value.toFixed(3).replace("-", "−");
  const chosen = (name) => place.querySelector(`input[name="${name}"]:checked`).value;

  const list = find("positions");
  data.positions.forEach((position, i) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "position", value: String(i), checked: i === data.positions.length - 1 });
    label.append(input, ` ${position.name}`);
    list.append(label);
  });
  find("tau").value = data.tau;

  // Axes do not move with τ: the largest step that any τ of the slider asks for, by position.
  const highest = data.positions.map(({ logits }) => {
    const logP = method.logProbs(logits), { min, max } = find("tau");
    const all = [Number(min), Number(max)].flatMap((tau) => {
      const logQ = method.logProbs(logits, tau);
      return ["forward", "reverse"].flatMap((d) => method.gradients[d](logP, logQ).map(Math.abs));
    });
    const most = Math.max(...all), unit = 10 ** Math.floor(Math.log10(most));
    return Math.ceil(most / unit) * unit;
  });

  function update() {
    const which = Number(chosen("position")), position = data.positions[which];
    const tau = Number(find("tau").value), step = Number(find("step").value), direction = chosen("direction");
    const logP = method.logProbs(position.logits), logQ = method.logProbs(position.logits, tau);
    const forward = method.gradients.forward(logP, logQ), reverse = method.gradients.reverse(logP, logQ);
    const first = (values) => values.slice(0, SHOWN);
    const probabilities = (logs) => first(logs).map(Math.exp);
    const tokens = first(position.tokens);

    find("where").textContent = `${position.prompt}   ⟶   ${position.soFar} …`;
    find("tau-value").textContent = tau.toFixed(2);
    find("step-value").textContent = String(step);
    chart.bars(find("distributions"), "Student and teacher: the probability of the likeliest tokens", tokens,
      [{ values: probabilities(logP), name: "student" }, { values: probabilities(logQ), name: "teacher" }],
      0, 1, [0, 0.5, 1]);
    const most = highest[which];
    chart.bars(find("gradients"), "Where either KL pushes the logits", tokens,
      [{ values: first(forward).map((g) => -g), name: "forward" }, { values: first(reverse).map((g) => -g), name: "reverse" }],
      -most, most, [-most, 0, most].map((tick) => Number(tick.toPrecision(1))));

    const run = (teacher) => method.descend(position.logits, tau, direction, teacher, STEPS, step, RATE);
    const live = run("live"), frozen = run("frozen");
    const after = { live: method.logProbs(live.logits), frozen: method.logProbs(frozen.logits) };
    chart.lines(find("paths"), "Entropy over steps, by teacher",
      [{ values: live.entropies, name: "live" }, { values: frozen.entropies, name: "frozen" }],
      [{ value: method.entropy(logQ), name: "fixed" }, { value: Math.log(position.logits.length), name: "uniform" }],
      step, 0.01, 10, [0.01, 0.1, 1, 10]);
    chart.bars(find("students"), "The two students after these steps", tokens,
      [{ values: probabilities(after.live), name: "live" }, { values: probabilities(after.frozen), name: "frozen" }],
      0, 1, [0, 0.5, 1]);

    const state = {
      studentEntropy: method.entropy(logP), teacherEntropy: method.entropy(logQ),
      forwardKL: method.kl(logQ, logP), reverseKL: method.kl(logP, logQ),
      forwardGradient: forward, reverseGradient: reverse,
      liveEntropy: method.entropy(after.live), frozenEntropy: method.entropy(after.frozen),
    };
    for (const [name, value] of Object.entries(state)) {
      const shown = find(name);
      if (shown) shown.textContent = number(value);
    }
    place.dataset.state = JSON.stringify(state);
  }
  place.addEventListener("input", update);
  update();
};
