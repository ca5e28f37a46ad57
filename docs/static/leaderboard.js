// The leaderboard's table: one task at a time, filtered and sorted. Without this script it shows the first task.
"use strict";
(() => {
  const board = document.getElementById("leaderboard");
  const body = board.querySelector("tbody"), rows = [...body.rows];
  const filters = [...board.querySelectorAll("[data-filter]")];

  function filter() {
    const wanted = Object.fromEntries(filters.map(f => [f.dataset.filter, f.value.trim().toLowerCase()]));
    let shown = 0;
    for (const row of rows) {
      const fits = Object.entries(wanted).every(([name, value]) => !value || (name === "text"
        ? row.textContent.toLowerCase().includes(value) : row.dataset[name] === value));
      row.hidden = !fits;
      shown += fits;
    }
    for (const p of board.querySelectorAll("[data-question]")) p.hidden = p.dataset.question !== wanted.task;
    board.querySelector(".count").textContent = `${shown} ${shown === 1 ? "entry" : "entries"}`;
  }

  function sort(button) {
    const head = button.closest("th"), column = head.cellIndex;
    const before = head.getAttribute("aria-sort");
    const up = before ? before === "descending" : button.dataset.way === "low";
    for (const other of board.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.value;
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing comes last, either way
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    });
    body.append(...rows);
  }

  for (const f of filters) f.addEventListener("input", filter);
  for (const button of board.querySelectorAll("thead button")) button.addEventListener("click", () => sort(button));
  const asked = location.hash.slice(1);
  const task = board.querySelector('[data-filter="task"]');
  if ([...task.options].some(o => o.value === asked)) task.value = asked;
  filter();
  board.dataset.ready = "";
})();
