// The search over answers. Without it every answer is there, only not filtered.
"use strict";
for (const form of document.querySelectorAll("form.filter")) {
  const cards = [...form.nextElementSibling.querySelectorAll(".card")];
  const texts = cards.map((card) => card.textContent.toLowerCase());
  const [search, group, outcome] = ["search", "group", "outcome"].map((name) => form.elements[name]);
  const shown = () => cards.filter((card) => !card.hidden);

  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    cards.forEach((card, place) => {
      card.hidden =
        !words.every((word) => texts[place].includes(word)) ||
        (group.value !== "" && card.dataset.group !== group.value) ||
        (outcome.value !== "" && card.dataset.outcome !== outcome.value);
    });
    const left = shown();
    if (words.length && left.length <= 3) left.forEach((card) => (card.open = true));
    form.querySelector("output").textContent = `${left.length} of ${cards.length} prompts`;
  };

  const step = (by) => {
    const heads = shown().map((card) => card.querySelector("summary"));
    const place = heads.indexOf(document.activeElement);
    const next = place < 0 ? 0 : place + by;
    if (next < 0) search.focus();
    else if (heads[next]) heads[next].focus();
  };

  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", () => {
    const open = shown().some((card) => !card.open);
    shown().forEach((card) => (card.open = open));
  });
  const here = (event) =>
    form.contains(event.target) || form.nextElementSibling.contains(event.target);
  document.addEventListener("keydown", (event) => {
    const typing = /^(input|select|textarea)$/i.test(event.target.tagName);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      apply();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && here(event)) {
      if (event.target.tagName === "SELECT") return;
      event.preventDefault();
      step(event.key === "ArrowDown" ? 1 : -1);
    }
  });
  apply();
}
