// The edits as cards: a picture to look at, a box to tick, the verdict. A card stays as it is while others come.
const box = element.querySelector(".cards");
const made = new Map();
let asked = null;

const put = (tag, name, parent) => {
  const node = document.createElement(tag);
  node.className = name;
  parent.append(node);
  return node;
};

const ticked = () =>
  [...made].filter(([, card]) => card.tick.checked).map(([index]) => index);

const fresh = (index) => {
  const figure = put("figure", "card", box);
  const look = put("button", "look", figure);
  look.type = "button";
  const image = put("img", "", look);
  const caption = put("figcaption", "", figure);
  const label = put("label", "", caption);
  const tick = put("input", "", label);
  tick.type = "checkbox";
  label.append(` ${index + 1}`);
  const verdict = put("span", "verdict", caption);
  look.onclick = () => trigger("look", { index });
  tick.onchange = () => trigger("tick", { ticked: ticked() });
  return { figure, look, image, tick, verdict };
};

const draw = () => {
  const value = props.value || { edits: [], pending: 0 };
  const here = new Set(value.edits.map((edit) => edit.index));
  for (const [index, card] of made)
    if (!here.has(index)) {
      card.figure.remove();
      made.delete(index);
    }
  for (const edit of value.edits) {
    if (!made.has(edit.index)) made.set(edit.index, fresh(edit.index));
    const card = made.get(edit.index);
    if (card.image.getAttribute("src") !== edit.src) card.image.src = edit.src;
    card.image.alt = `Edit ${edit.index + 1}`;
    card.tick.ariaLabel = `Tick edit ${edit.index + 1}`;
    card.look.ariaLabel = `Compare edit ${edit.index + 1} with the source`;
    card.look.ariaPressed = String(edit.index === value.shown);
    card.verdict.textContent = edit.word;
    card.verdict.title = edit.reason;
    card.verdict.dataset.kept = String(edit.kept);
    if (value.asked !== asked) card.tick.checked = false;
    box.append(card.figure);
  }
  if (asked !== null && value.asked !== asked) element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  asked = value.asked;
  box.querySelectorAll(".pending").forEach((node) => node.remove());
  for (let k = 0; k < value.pending; k++) put("div", "pending", box);
};

box.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const all = [...box.querySelectorAll(".look")];
  const next = all[all.indexOf(document.activeElement) + step];
  if (step && document.activeElement.className === "look" && next) {
    event.preventDefault();
    next.focus();
    next.click();
  }
});

watch("value", draw);
draw();
