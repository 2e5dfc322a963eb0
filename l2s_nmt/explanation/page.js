"use strict";
// Without this script every state stands in the page, and a token is a link to its own.
(() => {
  const live = document.getElementById("live");
  let saying;
  const say = (text) => {
    clearTimeout(saying);
    live.textContent = "";
    saying = setTimeout(() => { live.textContent = text; }, 30);
  };

  const setUp = (view) => {
    const row = view.querySelector(".tokens");
    const tokens = [...view.querySelectorAll(".token")];
    const states = [...view.querySelectorAll(".state")];
    let chosen = Math.max(0, states.findIndex((state) => "worst" in state.dataset));

    const choose = (index, byHand) => {
      chosen = index;
      tokens.forEach((token, place) => {
        token.setAttribute("aria-selected", String(place === index));
        token.tabIndex = place === index ? 0 : -1;
      });
      states.forEach((state, place) => { state.hidden = place !== index; });
      if (byHand) {
        tokens[index].focus();
        say(states[index].dataset.say);
      }
    };

    row.setAttribute("role", "tablist");
    tokens.forEach((token, index) => {
      token.parentElement.setAttribute("role", "presentation");
      token.setAttribute("role", "tab");
      token.setAttribute("aria-controls", states[index].id);
      states[index].setAttribute("role", "tabpanel");
      states[index].setAttribute("aria-labelledby", token.id);
      token.addEventListener("click", (event) => {
        event.preventDefault();
        choose(index, true);
      });
    });

    row.addEventListener("keydown", (event) => {
      const last = tokens.length - 1;
      const right = row.dir === "rtl" ? -1 : 1;
      const beside = (step) => Math.min(Math.max(chosen + step, 0), last);
      const goals = {
        ArrowLeft: beside(-right),
        ArrowRight: beside(right),
        Home: 0,
        End: last,
      };
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key in goals) choose(goals[event.key], true);
      else if (event.key === " ") choose(chosen, true);
      else if (event.key === "ArrowDown") states[chosen].querySelector("summary").focus();
      else return;
      event.preventDefault();
    });

    states.forEach((state, index) => {
      const candidates = [...state.querySelectorAll(".candidate")];
      const heads = candidates.map((candidate) => candidate.querySelector("summary"));
      heads.forEach((head, place) => {
        head.addEventListener("click", () => {
          if (!candidates[place].open) say(candidates[place].dataset.say);
        });
        head.addEventListener("keydown", (event) => {
          if (event.altKey || event.ctrlKey || event.metaKey) return;
          if (event.key === "ArrowDown") heads[Math.min(place + 1, heads.length - 1)].focus();
          else if (event.key === "ArrowUp") (place ? heads[place - 1] : tokens[index]).focus();
          else if (event.key === "Home") heads[0].focus();
          else if (event.key === "End") heads[heads.length - 1].focus();
          else if (event.key === "Escape") tokens[index].focus();
          else return;
          event.preventDefault();
        });
      });
    });

    choose(chosen, false);
    const first = states[chosen].querySelector("[data-first]");
    if (first) first.open = true;
  };

  document.querySelectorAll(".view").forEach(setUp);
})();
