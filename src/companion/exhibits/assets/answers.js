// Answers of several policies to one problem, side by side; a token's shade is its entropy.
"use strict";

widgets.answers = (place, data) => {
  const SHADED = 1.0; // nats, of the deepest shade
  const LONGEST = 200;
  const find = (name) => place.querySelector(`[data-part="${name}"]`);
  const make = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  const choice = find("problem");
  data.problems.forEach(({ suite, prompt }, i) => {
    const option = make("option", `${suite}: ${prompt.length > 90 ? `${prompt.slice(0, 90)}…` : prompt}`);
    option.value = String(i);
    choice.append(option);
  });

  function answer([count, right, tokens, entropies]) {
    const card = make("li", undefined, right ? "answer right" : "answer wrong");
    const told = `${right ? "✓ right" : "✗ wrong"}${count > 1 ? `, ${count} times` : ""}`;
    card.append(make("p", told, "mark"));
    const text = make("p", undefined, "text");
    tokens.slice(0, LONGEST).forEach((token, i) => {
      const nats = entropies[i] / 100, word = make("span", data.words[token]);
      word.title = `${nats.toFixed(2)} nats`;
      word.style.setProperty("--heat", Math.min(nats / SHADED, 1).toFixed(2));
      text.append(word, data.apart ? " " : "");
    });
    if (tokens.length > LONGEST) text.append(make("em", " … goes on"));
    card.append(text);
    return card;
  }

  function update() {
    const problem = Number(choice.value), columns = find("policies");
    columns.replaceChildren();
    for (const [policy, problems] of Object.entries(data.policies)) {
      const answers = problems[problem];
      const all = answers.reduce((total, [count]) => total + count, 0);
      const right = answers.reduce((total, [count, good]) => total + (good ? count : 0), 0);
      const column = make("section", undefined, "policy");
      column.append(make("h4", policy));
      column.append(make("p", `${right} of ${all} right, ${answers.length} different`, "count"));
      const list = make("ul");
      list.append(...answers.map(answer));
      column.append(list);
      columns.append(column);
    }
  }
  find("next").addEventListener("click", () => {
    choice.value = String((Number(choice.value) + 1) % data.problems.length);
    update();
  });
  choice.addEventListener("input", update);
  update();
};
